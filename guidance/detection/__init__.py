"""Detection of generated pictures: encoders, calibration, noise that belongs to a picture, robustness."""

from ..networks.encoders import Encoder, load_encoder, random_encoder
from .threshold import Calibration, calibrate, needed_samples


__all__ = ["Calibration", "Encoder", "calibrate", "load_encoder", "needed_samples", "random_encoder"]
