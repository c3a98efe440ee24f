"""What differs between diffusers' pipelines, held as facts: one `Family` describes all pipelines built alike."""

from . import table
from .base import Call, Evaluation, Family, PostProcessing, find_family, known_pipelines, register_family


for _family in table.FAMILIES:
    register_family(_family)

__all__ = ["Call", "Evaluation", "Family", "PostProcessing", "find_family", "known_pipelines", "register_family"]
