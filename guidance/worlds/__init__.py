"""Small worlds that ship with the package, so that guidance can be measured offline on trained models."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy


if TYPE_CHECKING:
    from .digits import DIGITS, load_digits
    from .digits_classifier import DigitsClassifier
    from .shapes import BACKGROUNDS, COLOURS, QUADRANTS, SHAPES, Scenes, parse_captions
    from .shapes_classifier import ShapesClassifier, aligned
    from .shipped import assets_folder


__getattr__, __dir__ = lazy(__name__, __file__)

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "DIGITS",
    "QUADRANTS",
    "SHAPES",
    "DigitsClassifier",
    "Scenes",
    "ShapesClassifier",
    "aligned",
    "assets_folder",
    "load_digits",
    "parse_captions",
]
