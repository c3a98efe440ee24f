import json
import sys
from io import BytesIO

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from diffusion_guidance.cli.command import main
from diffusion_guidance.evaluation import read_report
from diffusion_guidance.evaluation import scorers as module
from diffusion_guidance.evaluation.scorers import Scorer, load_scorer, scored

from ..tiny import tiny_sd3


PROMPTS = ["a red circle", "a dog", "a red circle"]
OWN = """
import torch
def redness(images, prompts):
    return images[:, 0].mean((1, 2)) * torch.tensor([1.0 if "red" in prompt else -1.0 for prompt in prompts])
def one(images, prompts):
    return images.mean()
def alignment(images, prompts):
    return images.mean((1, 2, 3))
def nfe(images, prompts):
    return images.mean((1, 2, 3))
def frechet(images, prompts):
    return images.mean((1, 2, 3))
def w_max(images, prompts):
    return images.mean((1, 2, 3))
def broken(images, prompts):
    return images[:, 7]
def endless(images, prompts):
    return images.mean((1, 2, 3)) / 0
def bright(images, prompts):
    return images.mean((1, 2, 3)) > 0.5
number = 3
"""


def images(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    name = "my_scores_of_test"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)


def test_a_function_of_the_users(own):
    scorer = load_scorer(f"{own}:redness")
    found = scorer(images(), PROMPTS)
    assert torch.equal(found, images()[:, 0].mean((1, 2)) * torch.tensor([1.0, -1.0, 1.0]))
    assert scorer.name == "redness" and len(scorer.identity["source"]) == 64
    with pytest.raises(ValueError, match=r"the score one gave \(\) for 3 images, not one each"):
        load_scorer(f"{own}:one")(images(), PROMPTS)


def test_what_is_not_a_finite_number_per_image_is_refused(own):
    with pytest.raises(ValueError, match=r"the score broken failed \(IndexError"):
        load_scorer(f"{own}:broken")(images(), PROMPTS)
    with pytest.raises(ValueError, match="the score endless gave a value that is not finite"):
        load_scorer(f"{own}:endless")(images(), PROMPTS)


def test_true_and_false_stay(own):
    """They get Wilson's interval."""
    found = load_scorer(f"{own}:bright")(torch.tensor([0.1, 0.9]).view(2, 1, 1, 1).expand(2, 3, 4, 4), PROMPTS[:2])
    assert found.dtype == torch.bool and found.tolist() == [False, True]


def test_scores_stand_next_to_what_is_measured(own):
    redness = load_scorer(f"{own}:redness")
    measure = scored(lambda images, seeds: {"x": images[:, 0, 0, 0]}, [redness], PROMPTS.__getitem__)
    found = measure(images(), [0, 1, 2])
    assert found.keys() == {"x", "redness"} and torch.equal(found["x"], images()[:, 0, 0, 0])
    twice = scored(measure, [redness], PROMPTS.__getitem__)
    with pytest.raises(ValueError, match="two measurements are called redness"):
        twice(images(), [0, 1, 2])


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd3")
    pipe = tiny_sd3()
    pipe.vae.register_to_config(shift_factor=0.0)
    pipe.save_pretrained(folder)
    return folder


def test_a_run_is_scored_and_refuses_another_score(own, sd3, tmp_path, capsys):
    command = ["evaluate", "run", str(sd3), "--world", "shapes", "--seeds", "0-9", "--steps", "1", "--out", "out"]
    assert main([*command, "--score", f"{own}:redness"]) == 0
    meta, (row,) = read_report(tmp_path / "out/report.json")
    assert -1 < row["redness"] < 1 and row["redness_interval"][0] <= row["redness"] <= row["redness_interval"][1]
    assert meta["scores"][0]["name"] == f"{own}:redness"
    (tmp_path / f"{own}.py").write_text(OWN + "# changed\n")
    assert main([*command, "--score", f"{own}:redness"]) == 2
    assert "scores" in capsys.readouterr().err
    (tmp_path / "out/samples/00000000-00000010.safetensors").unlink()
    assert main(command) == 2
    assert "scores" in capsys.readouterr().err
    more = ["--guidance", "raag:w_max=3", "--weight", "2", "--score", f"{own}:w_max"]
    assert main([*command[:-1], "new", *more]) == 2
    assert "this report has a column w_max already" in capsys.readouterr().err
    assert main([*command[:-1], "other", "--score", f"{own}:alignment"]) == 2
    assert "two measurements are called alignment" in capsys.readouterr().err


def test_a_sweep_draws_its_curve(own, sd3, tmp_path):
    command = ["evaluate", "sweep", str(sd3), "--world", "shapes", "--seeds", "0-4", "--steps", "1", "--out", "out"]
    assert main([*command, "--weights", "1.5,3", "--method", "none", "--score", f"{own}:redness"]) == 0
    assert (tmp_path / "out/redness.png").stat().st_size > 1000


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch):
    """(open_clip's model, its text for an extractor)."""
    import open_clip
    from open_clip.factory import _MODEL_CONFIGS

    side = {"width": 16, "layers": 1}
    vision = side | {"image_size": 32, "patch_size": 16, "head_width": 8}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": side | {"heads": 2}}
    monkeypatch.setitem(_MODEL_CONFIGS, "tiny", config)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny").eval()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    return model, f"open_clip:tiny:{tmp_path / 'clip.safetensors'}"


def test_clip_score_and_hps_are_the_cosines_of_the_real_class(tiny_clip, monkeypatch):
    import open_clip

    model, text = tiny_clip
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.visual.image_mean, model.visual.image_std))
    with torch.no_grad():
        seen = functional.normalize(model.encode_image((images() - mean) / std), dim=1)
        read = functional.normalize(model.encode_text(open_clip.get_tokenizer("tiny")(PROMPTS)), dim=1)
    cosine = (seen * read).sum(1)
    found = load_scorer(f"clip-score:{text}")
    torch.testing.assert_close(found(images(), PROMPTS), 100 * cosine.clamp_min(0), atol=1e-3, rtol=0)
    monkeypatch.setattr(module, "HPS", "open_clip:tiny")
    hps = load_scorer(f"hps:{text.split(':', 2)[2]}")
    torch.testing.assert_close(hps(images(), PROMPTS), cosine, atol=1e-5, rtol=0)
    assert hps.identity["weights"] == found.identity["weights"] is not None
    with pytest.raises(ValueError, match="clip_score compares images with prompts, and this run draws classes"):
        found(images(), [1, 2, 3])


def test_pickscore_is_the_scaled_cosine_of_the_real_class(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = [chr(code) for code in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (tmp_path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    side = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = side | {"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=side | {"image_size": 32, "patch_size": 16}, projection_dim=8)
    model = CLIPModel(config).eval()
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    model.save_pretrained(tmp_path / "pick")
    CLIPProcessor(pixels, tokenizer).save_pretrained(tmp_path / "pick")

    scorer = load_scorer(f"pickscore:{tmp_path / 'pick'}")
    rounded = (images() * 255).round() / 255
    found = scorer(rounded, PROMPTS)
    mean, std = (torch.tensor(values)[:, None, None] for values in (pixels.image_mean, pixels.image_std))
    given = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(pixel_values=(rounded - mean) / std, **given)
    torch.testing.assert_close(found, out.logits_per_image.diagonal(), atol=1e-4, rtol=0)
    assert scorer.name == "pickscore" and found[0] != found[1]

    large = (images(side=80)[..., :64] * 255).round()
    files = [Image.fromarray(image.permute(1, 2, 0).byte().numpy()) for image in large]
    long = [*PROMPTS[:2], "x " * 200]
    given = CLIPProcessor(pixels, tokenizer)(
        text=long, images=files, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**given).logits_per_image.diagonal()
    torch.testing.assert_close(scorer(large / 255, long), expected, atol=1e-5, rtol=0)


def test_a_metric_of_pyiqa():
    pyiqa = pytest.importorskip("pyiqa", reason="pip install pyiqa")
    for metric, sign in (("entropy", 1), ("piqe", -1)):  # without weights
        expected = pyiqa.create_metric(metric, device=torch.device("cpu"))
        scorer = load_scorer(f"pyiqa:{metric}")
        torch.testing.assert_close(scorer(images(side=96), PROMPTS), sign * expected(images(side=96)).flatten())
    with pytest.raises(ValueError, match="pyiqa:psnr compares with another image"):
        load_scorer("pyiqa:psnr")


class StandIn:
    """What is used of pyiqa, where it is not installed."""

    metric_mode, lower_better, __version__ = "NR", True, "1"

    def create_metric(self, name, device):
        if name.startswith("pickle"):
            (torch.jit.load if name == "pickle-jit" else torch.load)(BytesIO(), weights_only=False)
        self.metric_mode = "FR" if name == "psnr" else "NR"
        return self

    def __call__(self, images):
        return images.mean((1, 2, 3))[:, None]


def test_where_lower_is_better_the_sign_is_changed(monkeypatch):
    monkeypatch.setattr(module, "package", lambda name: StandIn())
    scorer = load_scorer("pyiqa:some-metric")
    assert scorer.name == "minus_some_metric"
    assert torch.equal(scorer(images(), PROMPTS), -images().mean((1, 2, 3)))
    with pytest.raises(ValueError, match="pyiqa:psnr compares with another image"):
        load_scorer("pyiqa:psnr")


@pytest.mark.parametrize("name", ["pickle", "pickle-jit"])
def test_pyiqa_unpickles_nothing(name, monkeypatch):
    monkeypatch.setattr(module, "package", lambda name: StandIn())
    before = torch.load, torch.jit.load
    with pytest.raises(ValueError, match="it unpickles its weights, which is not done here"):
        load_scorer(f"pyiqa:{name}")
    assert before == (torch.load, torch.jit.load)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nonsense", "a score is package.module:function, clip-score, pickscore, hps, pyiqa; got 'nonsense'"),
        ("os.path:", "a score is package.module:function"),
        ("missing_module:f", "--score cannot import 'missing_module'"),
        ("my_scores_of_test:absent", "my_scores_of_test has no 'absent'"),
        ("my_scores_of_test:number", "is not a function of"),
        ("my_scores_of_test:frechet", "reports have a column frechet already"),
        ("my_scores_of_test:nfe", "reports have a column nfe already"),
        ("image-reward", "ImageReward unpickles its weights"),
        ("hps", "hps needs its weights as a safetensors file"),
        ("hps:weights.pt", "there are no weights at weights.pt"),
        ("clip-score:lite0", "does not embed text"),
        ("pickscore:missing", "cannot load missing"),
    ],
)
def test_what_is_no_score_is_refused(text, sentence, own):
    with pytest.raises(ValueError, match=sentence):
        load_scorer(text)


def test_a_name_is_a_column():
    assert Scorer("x", lambda images, asked: torch.zeros(len(images)), {})(images(), PROMPTS).tolist() == [0, 0, 0]
