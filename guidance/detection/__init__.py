"""Detection of generated images: encoders, calibration, noise seeded by the image, robustness."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy


if TYPE_CHECKING:
    from ..networks.encoders import Encoder, load_encoder, random_encoder
    from .threshold import Calibration, calibrate, needed_samples


__getattr__, __dir__ = lazy(__name__, __file__)

__all__ = ["Calibration", "Encoder", "calibrate", "load_encoder", "needed_samples", "random_encoder"]
