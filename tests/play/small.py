"""A request to the shipped shapes, of few steps."""

from typing import Any

from diffusion_guidance import CFG, RAAG
from diffusion_guidance.play.request import Checkpoint, Request


PROMPT = "a red circle at the top left and a blue star at the bottom right on a dark background"
SHAPES = Checkpoint("assets/shapes", call={"max_sequence_length": 1})


def request(seed: int = 0, guidance: Any = None, **other: Any) -> Request:
    given = {"condition": PROMPT, "steps": 3, "weight": 3.0, **other}
    return Request(SHAPES, seed=seed, guidance=guidance or [[CFG(4.0)], [RAAG(5.0, 2.0)]], **given)
