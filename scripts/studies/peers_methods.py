"""Which methods scripts/studies/peers.py compares, and over which of their settings each is drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusers import guiders
from diffusers.hooks import LayerSkipConfig
from diffusers.hooks.smoothed_energy_guidance_utils import SmoothedEnergyGuidanceConfig

from diffusion_guidance import CFG, RAAG, ClassifierGuidance, DiffIER, GuidanceInterval, GuiderCallback, Strength
from diffusion_guidance.core.callback import Guide
from diffusion_guidance.methods.adaptive_guidance import AdaptiveGuidance
from diffusion_guidance.methods.apg import APG
from diffusion_guidance.methods.autoguidance import Autoguidance
from diffusion_guidance.methods.cfg_norm import CFGNorm
from diffusion_guidance.methods.cfg_plus_plus import CFGPlusPlus
from diffusion_guidance.methods.dynamic_cfg import DynamicCFG
from diffusion_guidance.methods.feedback import FeedbackGuidance
from diffusion_guidance.methods.manifold_projection import ManifoldProjection
from diffusion_guidance.methods.rectified_cfg import RectifiedCFG
from diffusion_guidance.methods.temporal_rescaling import TemporalRescaling
from diffusion_guidance.worlds import DigitsClassifier
from scripts.studies.diffier_rows import KINDS, RAAG_ALPHA, steps_of


PLAIN = "CFG"
#: Of plain guidance, whose curve the others are compared with, and of the others.
CURVE = {
    "digits": (1.0, 1.125, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0),
    "shapes": (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0),
}
WEIGHTS = {"digits": (1.25, 1.5, 2.0, 3.0), "shapes": (2.0, 3.0, 5.0)}
BUDGET = {"digits": 20, "shapes": 10}  # network evaluations; the steps of what looks once a step
REDUCE = {"digits": KINDS[", renoise"], "shapes": KINDS[""]}  # the setting of DiffIER that suits the world's model
#: Blocks in the middle of the network; of a whole block of Stable Diffusion 3, diffusers skips the feed-forward only.
LAYERS = {"digits": {"indices": [1]}, "shapes": {"indices": [3], "skip_attention": False}}
PUBLISHED = {"w_max": 18.0, "alpha": 12.0}  # of RAAG, for Stable Diffusion 3.5


@dataclass(frozen=True)
class Peer:
    """A method.

    Attributes:
        make: its callbacks for one value of the setting that is varied.
        setting, values: that setting and its values.
        steps: from network evaluations to steps.
    """

    make: Callable[[float], Sequence[Guide]]
    values: Sequence[float]
    setting: str = "weight"
    steps: Callable[[int], int] = int

    def rows(self, name: str, budget: int) -> list[dict]:
        return [{"method": name, self.setting: value, "steps": self.steps(budget)} for value in self.values]


def peers(world: str, assets: Path) -> dict[str, Peer]:
    """Every method that a world's model can be drawn with, by name."""
    weights, twice = WEIGHTS[world], lambda budget: steps_of(budget, iterations=1)

    def after_cfg(*others: Guide) -> Callable[[float], list[Guide]]:
        return lambda weight: [CFG(weight), *others]

    reduce = DiffIER(**REDUCE[world])
    found = {
        PLAIN: Peer(lambda weight: [CFG(weight)], CURVE[world]),
        "CFG, rescaled": Peer(lambda weight: [CFG(weight, rescale=0.7)], weights),
        "guidance interval": Peer(after_cfg(GuidanceInterval()), weights),
        "adaptive guidance": Peer(after_cfg(AdaptiveGuidance()), weights),
        "CFGNorm": Peer(after_cfg(CFGNorm()), weights),
        "temporal rescaling": Peer(after_cfg(TemporalRescaling()), weights),
        "CFG++": Peer(lambda scale: [CFGPlusPlus(scale)], (0.3, 0.6, 1.0), "scale"),
        "APG": Peer(lambda weight: [APG(weight)], weights),
        "APG, prediction": Peer(lambda weight: [APG(weight, space="prediction")], weights),
        "feedback guidance": Peer(lambda prior: [FeedbackGuidance(prior)], (0.95, 0.8, 0.6), "prior"),
        "RAAG": Peer(lambda weight: [RAAG(weight, RAAG_ALPHA)], weights, "w_max"),
        "RAAG, published": Peer(lambda weight: [RAAG(weight, PUBLISHED["alpha"])], (PUBLISHED["w_max"],), "w_max"),
        "CFG + DiffIER": Peer(after_cfg(reduce), weights, steps=twice),
        "RAAG + DiffIER": Peer(lambda weight: [RAAG(weight, RAAG_ALPHA), reduce], weights, "w_max", twice),
        "Rectified-CFG++": Peer(lambda weight: [RectifiedCFG(weight)], [w - 1 for w in weights], steps=twice),
    }
    return (
        found | of_diffusers(world, weights) | (of_digits(weights, assets) if world == "digits" else of_flow(weights))
    )


def of_diffusers(world: str, weights: Sequence[float]) -> dict[str, Peer]:
    """Its guiders, with their own defaults except for the weight."""
    layers = LayerSkipConfig(**LAYERS[world])
    kinds: dict[str, tuple[type, Mapping]] = {
        "CFG-Zero*": (guiders.ClassifierFreeZeroStarGuidance, {}),
        "tangential CFG": (guiders.TangentialClassifierFreeGuidance, {}),
        "autoguidance": (guiders.AutoGuidance, {"auto_guidance_config": layers}),
        "skip layer": (guiders.SkipLayerGuidance, {"skip_layer_config": layers}),
    }
    if world == "digits":
        scores = LayerSkipConfig([1], skip_attention=False, skip_attention_scores=True, skip_ff=False)
        settings = {"perturbed_guidance_config": scores, "perturbed_guidance_stop": 1.0}
        kinds["perturbed attention"] = guiders.PerturbedAttentionGuidance, settings
        energy = {"seg_guidance_config": SmoothedEnergyGuidanceConfig([1])}
        kinds["smoothed energy"] = guiders.SmoothedEnergyGuidance, energy

    def make(kind: type, settings: Mapping) -> Callable[[float], list[Guide]]:
        return lambda weight: [GuiderCallback(kind(guidance_scale=weight, **settings))]

    return {name: Peer(make(kind, settings), weights) for name, (kind, settings) in kinds.items()}


def of_digits(weights: Sequence[float], assets: Path) -> dict[str, Peer]:
    """What asks a classifier, which is not the one that judges, or another network."""
    judge = DigitsClassifier.from_pretrained(assets / "digits-classifier").eval()
    classifier = ClassifierGuidance(judge, Strength(scale=16.0), start=0.72, stop=0.84)
    worse = str(assets / "digits-weak")
    return {
        "CFG + EluCD": Peer(lambda weight: [CFG(weight), classifier], weights),
        "RAAG + EluCD": Peer(lambda weight: [RAAG(weight, RAAG_ALPHA), classifier], weights, "w_max"),
        "dynamic CFG": Peer(lambda weight: [DynamicCFG(judge, (1.0, weight))], weights),
        "autoguidance, worse network": Peer(lambda weight: [Autoguidance(worse, weight)], weights),
    }


def of_flow(weights: Sequence[float]) -> dict[str, Peer]:
    """What needs a network that predicts velocities."""
    project = ManifoldProjection(iterations=1)
    return {"CFG-MP": Peer(lambda weight: [CFG(weight), project], weights, steps=lambda budget: budget // 2)}
