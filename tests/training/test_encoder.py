"""The training of the small encoder: what its steps do, and what ships."""

from pathlib import Path

import torch
from torch.nn import functional

from diffusion_guidance.detection import load_encoder
from diffusion_guidance.networks.patch_encoder import PatchEncoder
from diffusion_guidance.worlds.photographs import load_patches
from scripts.training import encoder as train_encoder


ROOT = Path(__file__).parents[2]


def test_whitening_makes_all_directions_alike():
    draw = torch.Generator().manual_seed(0)
    pieces = torch.randn(500, 4, generator=draw) @ torch.randn(4, 4, generator=draw)
    white = pieces @ train_encoder.whitening(pieces, 0.0)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(4), rtol=0, atol=1e-3)


def test_directions_are_found_again():
    """Pieces along three axes, of both signs, with a little noise."""
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=draw))[0][:3]
    strengths = torch.randn(600, 1, generator=draw)
    pieces = axes[torch.arange(600) % 3] * strengths + 0.02 * torch.randn(600, 6, generator=draw)
    found = train_encoder.directions(pieces, 12, 10, draw)
    assert ((found @ axes.T).abs().amax(0) > 0.99).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(12))


def test_what_is_learnt_answers_to_its_images_alone():
    patches = load_patches("train")[0][::20]
    how = train_encoder.Learning(filters=16, rounds=3)
    model = train_encoder.learn(patches, how)
    images = model.transform()(patches)
    assert torch.equal(model(images), train_encoder.learn(patches, how)(images))  # the same each time
    code = model.code(images)
    torch.testing.assert_close(model(images), (code - code.mean((0, 2, 3))[:, None, None]).flatten(1))
    assert 0.01 < (code > 0).float().mean() < 0.2  # sparse
    torch.testing.assert_close(model(images + 0.3), model(images), rtol=0, atol=1e-4)  # filters have mean 0
    grey = images.mean(1, keepdim=True).expand_as(images)
    torch.testing.assert_close(model(grey), model(images), rtol=0, atol=1e-4)


def test_the_command_line(tmp_path):
    train_encoder.main(["--filters", "8", "--pieces", "500", "--rounds", "2", "--out", str(tmp_path / "net")])
    network = PatchEncoder.from_pretrained(tmp_path / "net")
    assert network.config.filters == 8
    assert network.centre.abs().max() > 0
    assert "k-means" in (tmp_path / "net/README.md").read_text()


def test_the_shipped_encoder_is_what_the_script_learns():
    shipped = load_encoder(f"local:{ROOT / 'assets/patch-encoder'}")
    learnt = train_encoder.learn(load_patches("train")[0], train_encoder.Learning())
    patches = shipped.transform(load_patches("validation")[0])
    cosine = functional.cosine_similarity(shipped.features(patches), learnt(patches))
    assert cosine.min() > 0.99  # except for half precision, and another machine's rounding
