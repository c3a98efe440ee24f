"""One tiny pipeline for each family that guidance knows, and some variants, built offline."""

from .audio import AUDIO
from .base import Tiny, relative_error
from .image import IMAGES
from .variants import VARIANTS
from .video import VIDEOS


FAMILIES = [*IMAGES, *VIDEOS, *AUDIO]

__all__ = ["FAMILIES", "VARIANTS", "Tiny", "relative_error"]
