"""Adaptive guidance for diffusion models: composable callbacks that attach to any diffusers pipeline.

from guidance import RAAG, Trace, attach

trace = Trace()
with attach(pipe, [RAAG(w_max=18, alpha=12), trace]):
    image = pipe("a photo of an astronaut on the moon", num_inference_steps=10).images[0]
trace.plot("ratio.png")
"""

from .attach import Attachment, attach
from .calibration import fit_temperatures
from .calibration_trace import CalibrationTrace
from .callback import Callback, chain
from .cfg import CFG, GuidanceInterval
from .classifier import ClassifierGuidance
from .classifier_gradient import class_gradient, class_log_prob
from .classifiers import load_classifier
from .combine import classifier_free_guidance
from .configuration import from_config, load_guidance, parse_guidance, save_guidance, to_config
from .decoding import latent_decoder
from .detect import Detection, detect
from .diffier import DiffIER
from .families import Family, register_family
from .guiders import CallbackGuider, GuiderCallback
from .image_classifier import ImageClassifier
from .mixin import GuidanceMixin
from .raag import RAAG, raag, raag_ratio, raag_weight
from .rigid import Detector, minder_similarity, rigid_similarity
from .smooth import smoothed
from .step import MissingUnconditionalError, Step
from .trace import Trace
from .trial import step_error


__version__ = "0.1.0"

__all__ = [
    "CFG",
    "RAAG",
    "Attachment",
    "CalibrationTrace",
    "Callback",
    "CallbackGuider",
    "ClassifierGuidance",
    "Detection",
    "Detector",
    "DiffIER",
    "Family",
    "GuidanceInterval",
    "GuidanceMixin",
    "GuiderCallback",
    "ImageClassifier",
    "MissingUnconditionalError",
    "Step",
    "Trace",
    "attach",
    "chain",
    "class_gradient",
    "class_log_prob",
    "classifier_free_guidance",
    "detect",
    "fit_temperatures",
    "from_config",
    "latent_decoder",
    "load_classifier",
    "load_guidance",
    "minder_similarity",
    "parse_guidance",
    "raag",
    "raag_ratio",
    "raag_weight",
    "register_family",
    "rigid_similarity",
    "save_guidance",
    "smoothed",
    "step_error",
    "to_config",
]
