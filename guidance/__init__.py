"""Adaptive guidance for diffusion models: composable callbacks that attach to any diffusers pipeline.

from diffusion_guidance import RAAG, Trace, attach, load_pipeline

pipe, trace = load_pipeline("assets/shapes"), Trace()
with attach(pipe, [RAAG(w_max=5, alpha=2), trace]):
    image = pipe("a red circle at the top left and a blue star at the bottom right on a dark background").images[0]
trace.plot("ratio.png")

Names are loaded when they are asked for: importing the package loads nothing, not even torch.
"""

from typing import TYPE_CHECKING

from .core.lazy import lazy
from .core.version import __version__ as __version__


if __name__ != "diffusion_guidance":
    raise ImportError(
        f"this package is imported as diffusion_guidance, not as {__name__}; install it (pip install -e .) "
        "instead of putting its folder's parent on the path"
    )

if TYPE_CHECKING:
    from .attachment.attach import attach, detach
    from .attachment.attached import Attachment
    from .attachment.describe import describe
    from .attachment.families import Family, register_family
    from .attachment.guiders import CallbackGuider, GuiderCallback
    from .attachment.mixin import GuidanceMixin
    from .core.callback import Callback, chain
    from .core.combine import classifier_free_guidance, effective_weight
    from .core.configuration import from_config, load_guidance, parse_guidance, save_guidance, to_config
    from .core.guidance_list import GuidanceList
    from .core.next_sample import step_error
    from .core.step import MissingUnconditionalError, Step
    from .detection.rigid import Detector, minder_similarity, rigid_similarity
    from .detection.watch import Detection, detect
    from .methods.cfg import CFG, GuidanceInterval
    from .methods.classifier.calibration_trace import CalibrationTrace
    from .methods.classifier.decoding import latent_decoder
    from .methods.classifier.gradient import class_gradient, class_log_prob
    from .methods.classifier.guidance import ClassifierGuidance
    from .methods.classifier.reading import Reading
    from .methods.classifier.smooth import smoothed
    from .methods.classifier.strength import Strength
    from .methods.classifier.temperatures import fit_temperatures
    from .methods.diffier import DiffIER
    from .methods.fit import RAAGFit, fit_raag
    from .methods.fit_weight import WeightFit, fit_weight
    from .methods.perp_neg import perp_neg
    from .methods.raag import RAAG, raag, raag_ratio, raag_weight
    from .methods.trace import Trace
    from .networks.classifiers import load_classifier
    from .networks.image_classifier import ImageClassifier
    from .pipelines.loading import load_pipeline
    from .worlds.shipped import assets_folder


def _find_method(name: str) -> object:
    """A callback class of the folder of methods that is not listed above."""
    if not name[:1].isupper():
        return None
    from .core.kinds import find_kind

    kind = find_kind(name)
    return kind if kind is not None and kind.__name__ == name else None


__getattr__, __dir__ = lazy(__name__, __file__, _find_method)

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
    "GuidanceList",
    "GuidanceMixin",
    "GuiderCallback",
    "ImageClassifier",
    "MissingUnconditionalError",
    "RAAGFit",
    "Reading",
    "Step",
    "Strength",
    "Trace",
    "WeightFit",
    "assets_folder",
    "attach",
    "chain",
    "class_gradient",
    "class_log_prob",
    "classifier_free_guidance",
    "describe",
    "detach",
    "detect",
    "effective_weight",
    "fit_raag",
    "fit_temperatures",
    "fit_weight",
    "from_config",
    "latent_decoder",
    "load_classifier",
    "load_guidance",
    "load_pipeline",
    "minder_similarity",
    "parse_guidance",
    "perp_neg",
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
