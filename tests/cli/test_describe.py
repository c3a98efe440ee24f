"""`describe` calls the pipeline once and prints the family that was seen."""

import pytest

from diffusion_guidance import Family, assets_folder
from diffusion_guidance.attachment.families import formulas
from diffusion_guidance.cli.command import main


@pytest.mark.parametrize(
    ("name", "more"), [("digits", []), ("digits", ["--classes", "3"]), ("shapes", ["--weight", "3"])]
)
def test_the_family_is_printed_as_source(name, more, capfd):
    more = [*more, "--call", "max_sequence_length=1"] if name == "shapes" else more
    assert main(["describe", str(assets_folder() / name), *more]) == 0
    found = eval(capfd.readouterr().out, {"Family": Family, "formulas": formulas})
    kind = {"digits": "ClassConditionalPipeline", "shapes": "StableDiffusion3Pipeline"}[name]
    assert kind in found.pipelines
    assert (found.denoiser, found.weight) == ("transformer", "guidance_scale")


def test_a_condition_of_the_other_kind_is_refused(capfd):
    assert main(["describe", str(assets_folder() / "digits"), "--prompt", "a cat"]) == 2
    assert "takes no prompt; give --classes" in capfd.readouterr().err
