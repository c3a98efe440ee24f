"""How the guiding classifier is used: its input, how smooth its activations are, and the temperatures of its output."""

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple


LOOK_AT = ("estimate", "sample")


@dataclass(frozen=True)
class Reading:
    """How a classifier is used. None takes the schedule's own value, see `READINGS`.

    Args:
        look_at: "estimate", the denoised one, or "sample", the noisy one.
        softplus: beta of `smoothed`; 0 keeps the activations. By default a network without ReLU is not changed.
        tau_joint, tau_marginal: see `class_log_prob`.

    Raises:
        ValueError: another `look_at`, or a number that is negative or not finite.
    """

    look_at: str | None = None
    softplus: float | None = None
    tau_joint: float | None = None
    tau_marginal: float | None = None

    def __post_init__(self) -> None:
        if self.look_at not in (None, *LOOK_AT):
            raise ValueError(f"look_at must be 'estimate' or 'sample', got {self.look_at!r}")
        require_strengths(softplus=self.softplus, tau_joint=self.tau_joint, tau_marginal=self.tau_marginal)

    def of_schedule(self, schedule: str) -> "Constants":
        """These values, and the schedule's own where they are None."""
        return READINGS[schedule]._replace(**{name: value for name, value in asdict(self).items() if value is not None})


class Constants(NamedTuple):
    """A `Reading` with every value."""

    look_at: str
    softplus: float
    tau_joint: float
    tau_marginal: float


def require_strengths(**values: float | None) -> None:
    """Raise ValueError unless each value is None or finite and at least 0; the message names those that are not."""
    given = {name: value for name, value in values.items() if value is not None}
    if bad := [name for name, value in given.items() if not (math.isfinite(value) and value >= 0)]:
        raise ValueError(f"{', '.join(bad)}: finite numbers, at least 0, are wanted")


#: Of each schedule; "ddpm" and "edm" have the authors' constants.
READINGS = {
    "ddpm": Constants("estimate", softplus=3.0, tau_joint=1.0, tau_marginal=0.5),
    "edm": Constants("sample", softplus=5.0, tau_joint=1.0, tau_marginal=0.0),
    "x0": Constants("estimate", softplus=3.0, tau_joint=1.0, tau_marginal=0.5),
}
#: All values are the schedule's own.
DEFAULT_READING = Reading()
