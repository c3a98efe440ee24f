import torch

from diffusion_guidance.attachment.snapshot import ALL, HOOKS, OTHERS, changes, snapshot


class Own(torch.nn.Linear):
    """Of nobody's library."""

    kept = None

    def forward(self, value):
        return super().forward(value)


def found(network, change, much=ALL):
    """(kind, in words, whether a tensor) of what `change` changes."""
    before = snapshot(network, much)
    change()
    return {(each.kind, each.where, each.of_tensor) for each in changes(network, before, snapshot(network, much))}


def test_parameters_and_buffers_are_not_state():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert found(network, lambda: network(torch.randn(3, 2))) == set()


def test_attributes_count_by_whose_module_it_is():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), Own(2, 2))
    for part, kind, name in ((network[0], ALL, "0 (Linear)"), (network[1], OTHERS, "1 (Own)")):
        assert found(network, lambda part=part: setattr(part, "kept", torch.ones(1))) == {
            (kind, f"the attribute kept of {name}", True)
        }
        assert found(network, lambda part=part: part.kept.add_(1), kind) != set()
        assert kind == OTHERS or found(network, lambda part=part: part.kept.add_(1), OTHERS) == set()
        part.calls = 0
        assert found(network, lambda part=part: setattr(part, "calls", 1)) == {
            (kind, f"the attribute calls of {name}", False)
        }


def test_hooks_and_callables_count_while_they_are_on():
    network, kept = torch.nn.Linear(2, 2), []
    hook = network.register_forward_hook(lambda *args: kept.append(torch.ones(1)))
    network.patched = lambda *args: kept
    words = {where.partition("[")[0] for _, where, of_tensor in found(network, lambda: network(torch.ones(2)), HOOKS)}
    assert {each.split(" ")[1] for each in words} == {"hook", "attribute"}
    assert found(network, lambda: (hook.remove(), delattr(network, "patched"))) == set()
    assert found(network, lambda: network.register_forward_pre_hook(lambda *args: kept.append(1))) == set()


def test_a_hook_makes_the_modules_attributes_somebody_elses():
    network = torch.nn.Linear(2, 2)
    network.register_forward_hook(lambda module, args, output: setattr(module, "kept", output))
    assert found(network, lambda: network(torch.ones(2)), OTHERS) == {(OTHERS, "the attribute kept of Linear", True)}
