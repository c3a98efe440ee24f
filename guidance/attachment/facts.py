"""What is known of how a pipeline guides: inferred in its first guided step unless it is given, checked once a run."""

from collections.abc import Mapping

import torch

from ..core.levels import is_understood, network_input
from ..core.protocols import Pipeline
from .establish import as_made_by_hand, denoiser_calls, establish, of_family
from .families import Call, Family, Observed, is_inherited
from .recorder import Recorder
from .run import Run
from .verification import FamilyError, verify


class Facts:
    """The family of one pipeline.

    Args:
        family: as given or registered.
        check: whether to verify it.

    Attributes:
        family: None until it is inferred.
    """

    def __init__(self, family: Family | None, check: bool):
        self.family = family
        self._inferring, self._check = family is None, check
        self._verified: Run | None = None  # the last run in which the family was checked

    @property
    def known(self) -> Family:
        assert self.family is not None, "before the family is known"
        return self.family

    def observe(self, run: Run, recorder: Recorder, given: Mapping) -> Observed:
        """The step that `run` is in: the calls of the family's denoisers, and what the scheduler is `given` by name.

        Raises:
            ValueError: the family cannot be inferred, or does not describe the step.
            RuntimeError: the calls are none that the family knows.
        """
        stepped = (given["model_output"], given["timestep"], given["sample"])
        if self._inferring:
            self._infer(Observed(run.pipe, tuple(recorder.calls), *stepped), run, recorder)
        calls, aside = denoiser_calls(recorder.calls, self.known)
        calls = calls[-self.known.calls :] if run.by_hand else calls
        _check_calls(calls, self.known, run.pipe)
        observed = Observed(run.pipe, calls, *stepped, aside, dict(run.found))
        if self._check and not self._inferring and self._verified is not run:
            try:
                self._verify(observed, run)
            except FamilyError:
                if not is_inherited(self.known, run.pipe):
                    raise
                self._inferring = True
                return self.observe(run, recorder, given)
        return observed

    def _infer(self, seen: Observed, run: Run, recorder: Recorder) -> None:
        """The family of this step; for good once the pipeline guides."""
        self.family = establish(seen, None, lambda sample: _scaled(sample, run), self._check)
        if self.family.is_guided(of_family(seen, self.family)):
            self._inferring, self._verified = False, run
            recorder.keep_only(self.family.denoiser, self.family.second_denoiser)

    def _verify(self, observed: Observed, run: Run) -> None:
        family = self.known
        if family.guided is not None or family.is_guided(observed):
            self._verified = run
            verify(as_made_by_hand(family) if run.by_hand else family, observed, lambda sample: _scaled(sample, run))


def _scaled(sample: torch.Tensor, run: Run) -> torch.Tensor | None:
    return network_input(run.scheduler, sample, run.level) if is_understood(run.scheduler) else None


def _check_calls(calls: tuple[Call, ...], family: Family, pipe: Pipeline) -> None:
    name = f"{type(pipe).__name__}.{family.denoiser}"
    if not calls:
        raise RuntimeError(
            f"the scheduler's step ran, but {name} was not called before it; was it replaced while guidance was "
            "attached?"
        )
    if len(calls) > family.calls and type(family) is Family and not family.names:
        raise RuntimeError(
            f"{name} was called more than {family.calls} time(s) without a step of the scheduler that guidance is "
            "attached to. Either the pipeline makes a further pass, which its family must describe (see "
            "diffusion_guidance.Family: calls, aside), or it steps another scheduler, such as a copy of its own"
        )
    for argument in (family.sample, family.timestep):
        if argument is not None and argument not in calls[0].arguments:
            raise ValueError(
                f"{name} was called without {argument!r}, which its family names as an argument; it was called with "
                f"{', '.join(calls[0].arguments)}"
            )
