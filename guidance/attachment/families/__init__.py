"""What differs between diffusers' pipelines, held as facts: one `Family` describes all pipelines built alike."""

from . import table
from .base import Evaluation, Family, PostProcessing
from .kinds import Mixture, Preconditioned, Sliced
from .layout import Layout
from .observed import Call, Observed, prediction_of
from .registry import find_family, is_inherited, known_pipelines, register_family, registered_family


for _family in table.FAMILIES:
    register_family(_family)

__all__ = [
    "Call",
    "Evaluation",
    "Family",
    "Layout",
    "Mixture",
    "Observed",
    "PostProcessing",
    "Preconditioned",
    "Sliced",
    "find_family",
    "is_inherited",
    "known_pipelines",
    "prediction_of",
    "register_family",
    "registered_family",
]
