import json

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors import safe_open

from diffusion_guidance.worlds.emoji import PROMPTS, EmojiImages
from scripts.training import emoji
from scripts.training.emoji_images import main as render_all
from scripts.training.emoji_images import render
from scripts.training.emoji_sheet import draw_sheet


CAPTIONS = ["3d cat face", "flat cat face", "noto cat face", "twemoji pizza", "flat pizza", "noto red heart"]
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><path fill="#f00" d="M0 0h2v4H0z"/></svg>'


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options of the training on six noise images with an autoencoder of two steps; and where it works."""
    folder = tmp_path_factory.mktemp("emoji")
    images = torch.randint(256, (6, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    EmojiImages(images, CAPTIONS, ["Symbols"] * 6).save(folder / "images.safetensors")
    options = ["--images", str(folder / "images.safetensors"), "--assets", str(folder / "assets"), "--device", "cpu"]
    options += ["--width", "32", "--layers", "1", "--batch", "4", "--save-every", "1", "--names", "2"]
    emoji.main(["autoencoder", *options, "--work", str(folder / "work"), "--steps", "2"])
    return options, folder / "work"


def copy_of(work, folder):
    """A work folder that shares the autoencoder of `work`."""
    folder.mkdir()
    (folder / "autoencoder").symlink_to(work / "autoencoder")
    return folder


def test_a_resumed_run_saves_the_same_bytes(options, tmp_path):
    options, work = options
    for name, stops in (("a", [3]), ("b", [1, 3])):
        for steps in stops:
            here = copy_of(work, tmp_path / name) if steps == stops[0] else tmp_path / name
            emoji.main(["transformer", *options, "--work", str(here), "--steps", str(steps)])
    states = [(tmp_path / name / "transformer" / "state.safetensors").read_bytes() for name in "ab"]
    assert states[0] == states[1]


def test_the_branch_ends_in_a_checkpoint_that_stock_diffusers_loads_and_that_can_be_continued(options, tmp_path):
    options, work = options
    here = copy_of(work, tmp_path / "a")
    emoji.main(["transformer", *options, "--work", str(here), "--steps", "1"])
    before = (here / "transformer" / "state.safetensors").read_bytes()
    emoji.main(["finish", *options, "--work", str(here), "--decay-steps", "2"])
    assert (here / "transformer" / "state.safetensors").read_bytes() == before  # the branch leaves the trunk alone
    with safe_open(here / "finish" / "state.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "3"
    checkpoint = work.parent / "assets" / "emoji"
    assert not list(checkpoint.rglob("*.bin"))
    card = (checkpoint / "README.md").read_text()
    assert (
        "license: other" in card.split("---")[1] and str(work) not in (checkpoint / "vae" / "config.json").read_text()
    )
    assert "CC BY 4.0" in card and json.loads(card.split("```json")[1].split("```")[0])["names"] == 2
    pipe = StableDiffusion3Pipeline.from_pretrained(checkpoint, text_encoder_3=None, tokenizer_3=None)
    image = pipe("noto cat face", num_inference_steps=1, max_sequence_length=1, output_type="pt").images
    assert image.shape == (1, 3, 64, 64)
    draw_sheet(checkpoint, tmp_path / "sheet.png", steps=1)
    assert (tmp_path / "sheet.png").stat().st_size > 1000 and len(PROMPTS) == 48

    other = tmp_path / "b"  # another machine: only the checkpoint is there
    emoji.main(["transformer", *options, "--work", str(other), "--steps", "1", "--start", str(checkpoint)])
    name = "transformer.transformer_blocks.0.attn.to_q.weight"
    with safe_open(other / "transformer" / "state.safetensors", framework="pt") as file:
        moved = file.get_tensor(f"model.{name}")
    torch.testing.assert_close(moved, pipe.transformer.get_parameter(name.split(".", 1)[1]).float(), atol=5e-3, rtol=0)


def test_the_training_sees_what_the_pipeline_does(options, tmp_path):
    """The velocity of the loss equals the transformer's inside the stock pipeline: prompts, zero token and time."""
    options, work = options
    here = copy_of(work, tmp_path / "a")
    emoji.main(["transformer", *options, "--work", str(here), "--steps", "1"])
    emoji.main(["export", *options, "--work", str(here)])
    pipe = StableDiffusion3Pipeline.from_pretrained(
        work.parent / "assets" / "emoji", text_encoder_3=None, tokenizer_3=None
    )
    model = emoji.TextToLatent(pipe.tokenizer, [pipe.text_encoder, pipe.text_encoder_2], pipe.transformer)
    torch.nn.init.normal_(model.transformer.proj_out.weight)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    seen = []
    pipe.transformer.register_forward_hook(lambda *call: seen.append(call[2][0]))
    call = {"num_inference_steps": 1, "guidance_scale": 1.0, "max_sequence_length": 1, "output_type": "latent"}
    pipe("noto cat face", latents=latents, **call)
    with torch.no_grad():
        ours = model(latents, torch.ones(1), model.tokens(["noto cat face"]))
    torch.testing.assert_close(seen[0], ours, atol=1e-4, rtol=1e-4)


def test_without_a_state_there_is_nothing_to_finish(options, tmp_path):
    with pytest.raises(SystemExit, match="run the stage `transformer` first"):
        emoji.main(["finish", *options[0], "--work", str(tmp_path)])


def test_an_svg_is_drawn_on_white():
    pytest.importorskip("resvg_py")
    image = render(SQUARE)
    assert image.shape == (3, 64, 64) and image.dtype == torch.uint8
    assert image[:, :, :30].float().mean((1, 2)).tolist() == [255, 0, 0]  # the left half is red
    assert image[:, :, 34:].float().mean() == 255


def test_a_folder_of_packages_becomes_captioned_images(tmp_path):
    pytest.importorskip("resvg_py")
    body = '<circle cx="8" cy="8" r="8" fill="#00f"/>'
    for package in ("fluent-emoji", "fluent-emoji-flat", "noto", "twemoji"):
        folder = tmp_path / "node_modules" / "@iconify-json" / package
        folder.mkdir(parents=True)
        icons = {"prefix": package, "icons": {"blue-circle": {"body": body}}, "width": 16, "height": 16}
        (folder / "icons.json").write_text(json.dumps(icons))
        (folder / "metadata.json").write_text(json.dumps({"categories": {"Symbols": ["blue-circle"]}}))
    render_all([str(tmp_path), "--out", str(tmp_path / "out" / "images.safetensors")])
    found = EmojiImages.load(tmp_path / "out" / "images.safetensors")
    assert found.captions == ["3d blue circle", "flat blue circle", "noto blue circle", "twemoji blue circle"]
    assert found.groups == ["Symbols"] * 4
    assert found.images[:, :, 32, 32].tolist() == [[0, 0, 255]] * 4
