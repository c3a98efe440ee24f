"""Memory that tensors hold, counted by their storages as they come and go; on the CPU too, and to the byte."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakBytes(TorchDispatchMode):
    """Counts what operations within it make, in forward and backward passes.

    Attributes:
        held, peak: bytes of such storages that are alive now, and the most at one time.
    """

    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self._known = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                if id(storage) not in given and storage not in self._known:  # no view of what was there before
                    self._known.add(storage)
                    self.held += storage.nbytes()
                    weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.held)
        return result

    def _free(self, size: int) -> None:
        self.held -= size
