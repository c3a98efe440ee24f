import pytest

from diffusion_guidance import CFG, RAAG, ClassifierGuidance, DiffIER, GuidanceInterval, to_config
from diffusion_guidance.core.groups import parameters
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.core.trust import MAX_NUMBERS, check_parts, require_plain


@pytest.mark.parametrize(
    "callback",
    [CFG([7, 5, 3.5], 0.2), RAAG(), GuidanceInterval(high=None), DiffIER(objective="renoise", tolerance=0.1)],
)
def test_numbers_and_known_words_are_plain(callback):
    require_plain(to_config(callback), "a file")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classifier", "torchvision:resnet18:weights.safetensors"),
        ("classifier", {"spec": "torchvision:resnet18"}),
        ("decoder", "folder"),
        ("schedule", "folder"),
        ("scale", "1.0"),
        ("labels", [1, "2"]),
        ("labels", [[1]]),
        ("labels", [1] * (MAX_NUMBERS + 1)),
        ("anything", "x"),
    ],
)
def test_what_can_name_something_needs_trust(name, value):
    config = [{"callback": "RAAG"}, {"callback": "classifierguidance", "schedule": "x0", name: value}]
    with pytest.raises(ValueError, match=rf"classifierguidance has {name}=.*guidance\.json; pass trust_guidance=True"):
        require_plain(config, "guidance.json")


def test_the_words_of_every_callback_are_those_of_its_arguments():
    """A callback with a default that is a word lists it, so that a pipeline saved with it loads by itself."""
    for kind in known_kinds().values():
        known = parameters(kind)
        assert set(kind.words) <= known.keys()
        if not kind.__module__.startswith("diffusion_guidance."):
            continue
        for name, default in known.items():
            if isinstance(default, str):
                assert default in kind.words.get(name, ()), f"{kind.__name__}.words lacks {name}"
    assert set(ClassifierGuidance.words) == {"schedule", "look_at"}


def test_parts_come_from_diffusers_and_transformers():
    index = {"_class_name": "X", "unet": ["diffusers", "UNet2DModel"], "text": ["transformers", "CLIPTextModel"]}
    index |= {"vae": [None, None], "checker": ["stable_diffusion", "Checker"], "flag": [True, 1], "size": [3, 4]}
    check_parts(index)
    for library in ("os", "hostile", "diffusers.utils", "transformers_modules.x", "", "../x", "stable_diffusion.os"):
        with pytest.raises(ValueError, match=r"model_index.json takes 'unet' from .*not part of diffusers"):
            check_parts(index | {"unet": [library, "X"]})
