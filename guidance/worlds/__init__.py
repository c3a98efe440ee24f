"""Two small worlds that ship with the toolkit, so that guidance can be measured offline on trained models."""

from .digits import DIGITS, load_digits
from .digits_classifier import DigitsClassifier
from .shapes import BACKGROUNDS, COLOURS, QUADRANTS, SHAPES, Scenes, parse_captions
from .shapes_classifier import ShapesClassifier, aligned


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
    "load_digits",
    "parse_captions",
]
