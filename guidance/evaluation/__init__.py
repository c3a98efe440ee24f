"""Measuring pictures: streaming statistics, distances between sets, resumable runs, reports."""

from .frechet import frechet_distance
from .moments import Moments


__all__ = ["Moments", "frechet_distance"]
