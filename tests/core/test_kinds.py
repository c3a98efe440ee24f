"""A method is known by lying in the folder of methods: its name works without any list."""

from diffusion_guidance import RAAG, GuiderCallback
from diffusion_guidance.core.kinds import find_kind, known_kinds


def test_names_are_those_of_the_classes_in_any_case():
    assert find_kind("raag") is find_kind("RAAG") is RAAG
    assert find_kind("guiderCallback") is GuiderCallback
    assert find_kind("guider-callback") is find_kind("Guider_callback") is GuiderCallback
    assert find_kind("nonesuch") is None
    names = {"cfg", "raag", "diffier", "trace", "guidanceinterval", "classifierguidance", "calibrationtrace"}
    assert names <= known_kinds().keys()
