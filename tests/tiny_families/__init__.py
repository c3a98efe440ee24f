"""One tiny pipeline for each family that guidance knows, and some variants, built offline."""

from .base import Tiny
from .image import IMAGES
from .video import VIDEOS


FAMILIES = [*IMAGES, *VIDEOS]

__all__ = ["FAMILIES", "Tiny"]
