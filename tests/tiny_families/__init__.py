"""One tiny pipeline for each family that guidance knows, and some variants, built offline."""

from .base import Tiny, relative_error
from .image import IMAGES
from .variants import VARIANTS
from .video import VIDEOS


FAMILIES = [*IMAGES, *VIDEOS]

__all__ = ["FAMILIES", "VARIANTS", "Tiny", "relative_error"]
