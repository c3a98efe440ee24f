"""One training loop for the small models of the worlds: averaged weights, a log, and an exact resume."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from ..core.files import write_atomic


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train. `average` is the decay of the averaged weights; `warmup` is in steps.

    The learning rate falls as a cosine over all steps; with `decay`, it is constant and falls to 0 as a line over the
    last `decay` steps. With 0 a run can be continued by raising `steps`, as if it had never stopped.
    """

    steps: int
    learning_rate: float
    seed: int = 0
    warmup: int = 100
    weight_decay: float = 0.01
    average: float = 0.999
    save_every: int = 500
    log_every: int = 100
    decay: int | None = None

    def rate(self, step: int) -> float:
        """The learning rate of `step` (counted from 0)."""
        if step < self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay is None:
            progress = (step - self.warmup) / max(1, self.steps - self.warmup)
            return self.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
        return self.learning_rate * min(1.0, (self.steps - step) / max(1, self.decay))


def train(
    model: torch.nn.Module,
    loss: Callable[[torch.Generator], torch.Tensor],
    plan: Plan,
    folder: Path,
    on_save: Callable[[int], None] | None = None,
) -> torch.nn.Module:
    """Minimise `loss(generator)` over the parameters of `model`; return `model` holding the averaged weights.

    The generator given to `loss` is seeded by (plan.seed, step), and `folder`/state.safetensors holds parameters,
    averages and optimizer moments, so a killed run that is started again ends with the weights of an undisturbed one.
    `on_save(step)` is called with the averaged weights in place, to draw samples. The log is `folder`/log.jsonl.

    Raises:
        RuntimeError: a gradient is not finite; the last saved state is kept.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay)
    average = EMAModel(parameters, decay=plan.average, use_ema_warmup=True, power=3 / 4, foreach=True)
    state_path = folder / "state.safetensors"
    done = _restore(state_path, model, optimizer, average) if state_path.exists() else 0
    average.optimization_step = done

    folder.mkdir(parents=True, exist_ok=True)
    model.train()
    total, since, started = 0.0, 0, time.monotonic()
    with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
        for step in tqdm(range(done, plan.steps), initial=done, total=plan.steps, desc=folder.name, mininterval=5):
            value = loss(torch.Generator().manual_seed(plan.seed * 1_000_003 + step))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step)
            optimizer.step()
            average.step(parameters)
            total, since = total + value.item(), since + 1
            if (step + 1) % plan.log_every == 0:
                rate = since / (time.monotonic() - started)
                log.write(json.dumps({"step": step + 1, "loss": total / since, "steps_per_second": rate}) + "\n")
                log.flush()
                total, since, started = 0.0, 0, time.monotonic()
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                _save(state_path, step + 1, model, optimizer, average)
                if on_save is not None:
                    average.store(parameters)
                    average.copy_to(parameters)
                    model.eval()
                    on_save(step + 1)
                    model.train()
                    average.restore(parameters)
    average.copy_to(parameters)
    return model.eval()


def _save(path: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: EMAModel) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{i}": value for i, value in enumerate(average.shadow_params)}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata={"step": str(step)}))


def _restore(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: EMAModel) -> int:
    moments: dict[int, dict[str, torch.Tensor]] = {}
    weights = {}
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        for name in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = file.get_tensor(name)
            elif kind == "average":
                average.shadow_params[int(rest)].copy_(file.get_tensor(name))
            else:
                index, _, moment = rest.partition(".")
                moments.setdefault(int(index), {})[moment] = file.get_tensor(name)
    model.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return step
