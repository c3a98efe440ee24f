"""`verify`: an image follows from what it says, nearly, or not; and what it says cannot make us load anything."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffusion_guidance.cli.command import main
from diffusion_guidance.cli.verify import difference_hash
from diffusion_guidance.evaluation.record import KEY

from ..tiny import tiny_dit


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """(checkpoint, image) of seed 3, guided; seed 5 lies next to it."""
    root = tmp_path_factory.mktemp("verify")
    tiny_dit().save_pretrained(root / "dit")
    arguments = ["--classes", "1", "--seeds", "3,5", "--steps", "2", "--guidance", "cfg:weight=3"]
    assert main(["generate", str(root / "dit"), *arguments, "--out", str(root / "out")]) == 0
    return root / "dit", root / "out" / "000003.png"


@pytest.fixture
def verify(drawn, tmp_path, capsys):
    def run(image=None, text=None, **changes):
        path = drawn[1]
        if image is not None or changes or text is not None:
            with Image.open(drawn[1]) as file:
                record = json.loads(file.info[KEY]) | changes
                info = PngInfo()
                info.add_text(KEY, json.dumps(record) if text is None else text)
                path = tmp_path / "changed.png"
                (file if image is None else image).save(path, pnginfo=info)
        code = main(["verify", str(path), str(drawn[0])])
        return (code, *capsys.readouterr())

    return run


def test_an_image_follows_from_what_it_says(verify):
    code, out, err = verify()
    assert code == 0 and out.startswith(("equal:", "near:")), err


def test_rounding_is_near_and_another_image_is_different(verify, drawn):
    pixels = np.asarray(Image.open(drawn[1])).astype(int)
    rounded = np.clip(pixels + np.random.default_rng(0).integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8)
    code, out, err = verify(Image.fromarray(rounded))
    assert code == 0 and out.startswith("near:"), err
    code, out, _ = verify(Image.open(drawn[1].with_name("000005.png")))
    assert code == 4 and out.startswith("different:")
    assert verify(seed=4)[0] == 4
    code, out, _ = verify(Image.fromarray(np.ascontiguousarray(pixels[:-1].astype(np.uint8))))
    assert code == 4 and out.startswith("different:")


def test_the_hash_is_that_of_areas_written_out():
    pixels = np.random.default_rng(1).integers(0, 256, (64, 72), dtype=np.uint8)
    areas = np.floor(pixels.reshape(8, 8, 9, 8).mean((1, 3)) + 0.5)
    expected = (areas[:, :-1] > areas[:, 1:] + 2).ravel().tolist()
    assert sum(a != b for a, b in zip(difference_hash(Image.fromarray(pixels)), expected, strict=True)) <= 1


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"guidance": [{"callback": "ClassifierGuidance", "classifier": "some/file"}]}, "--trust-guidance"),
        ({"guidance": [{"callback": "os.system"}]}, "unknown guidance"),
        ({"call": {"image": "/etc/passwd"}}, "neither a number nor a prompt"),
        ({"call": {"callback_on_step_end": 1}}, "takes no argument"),
        ({"checkpoint": "0" * 64}, "other weights"),
        ({"seed": True}, "seed is"),
        ({"call": {"num_inference_steps": None}}, "num_inference_steps"),
        ({"dtype": "object"}, "dtype is"),
        ({"more": 1}, "not exactly"),
        ({"text": "{"}, "damaged record"),
    ],
)
def test_a_record_cannot_make_us_load_anything(verify, changes, sentence):
    code, _, err = verify(**changes)
    assert code == 2 and sentence in err and "Traceback" not in err, err


def test_a_flag_leaves_the_record_out(drawn, tmp_path, capsys):
    arguments = ["--classes", "1", "--steps", "1", "--no-record", "--out", str(tmp_path / "out")]
    assert main(["generate", str(drawn[0]), *arguments]) == 0
    image = tmp_path / "out" / "000000.png"
    assert Image.open(image).info == {}
    assert main(["verify", str(image), str(drawn[0])]) == 2
    assert "does not say how it was drawn" in capsys.readouterr().err


def test_an_image_is_drawn_again_from_what_it_says(drawn, tmp_path, capsys):
    out = tmp_path / "again"
    assert main(["generate", str(drawn[0]), "--from", str(drawn[1]), "--out", str(out)]) == 0
    settings = json.loads((out / "settings.json").read_text())
    assert settings["guidance"] == [{"callback": "CFG", "weight": 3, **_rest(settings)}]
    again, before = (np.asarray(Image.open(path)).astype(int) for path in (out / "000003.png", drawn[1]))
    assert abs(again - before).max() <= 1, "the first was drawn in a batch of two"
    for more in (["--steps", "5"], ["--seeds", "1"], ["--guidance", "cfg"], ["--weight", "2"], ["--compare", "cfg"]):
        capsys.readouterr()
        assert main(["generate", str(drawn[0]), "--from", str(drawn[1]), *more, "--out", str(out)]) == 2
        assert f"leave {more[0]} out" in capsys.readouterr().err


def _rest(settings):
    return {name: value for name, value in settings["guidance"][0].items() if name not in ("callback", "weight")}
