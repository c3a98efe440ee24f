"""Detection of generated pictures: encoders, calibration, noise that belongs to a picture, robustness."""

from .calibration import Calibration, calibrate, needed_samples
from .encoders import Encoder, load_encoder, random_encoder


__all__ = ["Calibration", "Encoder", "calibrate", "load_encoder", "needed_samples", "random_encoder"]
