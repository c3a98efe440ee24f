"""Finds operations that would make the host wait for a device, on the CPU, where they cost nothing."""

from torch.utils._python_dispatch import TorchDispatchMode


# Reading a value (`item`, a branch on a tensor), and operations whose result's shape depends on values.
_WAITING = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::masked_select", "aten::unique_dim"}


class NoSynchronisation(TorchDispatchMode):
    """Within it an operation that waits for the device raises AssertionError."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        assert name not in _WAITING, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))
