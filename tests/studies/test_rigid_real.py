"""The study of RIGID with a real encoder: its controls, and the readers of the generators that packages hold."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from diffusion_guidance.detection.rigid import Detector, gaussian_blur
from diffusion_guidance.networks.encoders import load_encoder
from scripts.studies import real_generators, rigid_real


def layer(kind, name, *given):
    return {"class_name": kind, "name": name, "inbound_nodes": [[[one, 0, 0, {}] for one in given]] if given else []}


def test_esrgan_is_read_layer_by_layer(tmp_path):
    layers = [
        layer("InputLayer", "in"),
        layer("Conv2D", "first", "in"),
        layer("Activation", "relu", "first"),
        layer("Concatenate", "both", "in", "relu"),
        layer("Conv2D", "second", "both"),
        layer("MultiplyBeta", "less", "second"),
        layer("Add", "sum", "less", "in"),
        layer("Conv2D", "last", "sum"),
        layer("PixelShuffle4x", "shuffle", "last"),
    ]
    rng = np.random.default_rng(0)
    shapes = {"first": (3, 3, 3, 5), "second": (3, 3, 8, 3), "last": (1, 1, 3, 48)}
    arrays = {}
    for name, shape in shapes.items():
        arrays |= {f"{name}/kernel": rng.normal(size=shape) * 0.2, f"{name}/bias": rng.normal(size=shape[-1]) * 0.1}
    entries = [{"name": name, "shape": list(array.shape)} for name, array in arrays.items()]
    data = b"".join(array.astype(np.float32).tobytes() for array in arrays.values())
    (tmp_path / "a.bin").write_bytes(data[:100])
    (tmp_path / "b.bin").write_bytes(data[100:])
    model = {"modelTopology": {"config": {"layers": layers}}}
    model["weightsManifest"] = [{"paths": ["a.bin", "b.bin"], "weights": entries}]
    (tmp_path / "model.json").write_text(json.dumps(model))

    def conv(name, x):
        kernel = torch.tensor(arrays[f"{name}/kernel"]).permute(3, 2, 0, 1).float()
        return functional.conv2d(x, kernel, torch.tensor(arrays[f"{name}/bias"]).float(), padding=kernel.shape[-1] // 2)

    images = torch.rand(2, 3, 6, 5)
    second = conv("second", torch.cat([images, conv("first", images).relu()], 1))
    deep = conv("last", 0.2 * second + images).permute(0, 2, 3, 1)  # channels last, as TensorFlow has them
    expected = torch.zeros(2, 3, 24, 20)
    for i in range(4):
        for j in range(4):
            expected[:, :, i::4, j::4] = deep[..., (4 * i + j) * 3 :][..., :3].permute(0, 3, 1, 2)
    found = real_generators.esrgan(tmp_path, images)
    torch.testing.assert_close(found, expected.clamp(0, 1), atol=1e-5, rtol=1e-5)
    layers.append(layer("Dense", "other", "shuffle"))
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(ValueError, match="other is a Dense"):
        real_generators.esrgan(tmp_path, images)


def test_the_matched_control_has_the_sharpness_of_the_other_side():
    real = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    fake = gaussian_blur(real.flip(0), 0.8)
    blurred, sigma = rigid_real.matched(real, fake)
    assert sigma == pytest.approx(0.8, abs=0.01)
    assert rigid_real.sharpness(blurred).mean() == pytest.approx(float(rigid_real.sharpness(fake).mean()), rel=0.01)
    same, sigma = rigid_real.matched(fake, real)
    assert sigma == 0 and torch.equal(same, fake)


def test_a_row_that_only_lost_sharpness_says_so(tmp_path):
    encoder = load_encoder(lambda images: images.diff(dim=-1).flatten(1))
    real = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    pair = rigid_real.Pair("noise", "blurred noise", "blurred", (real, gaussian_blur(real.flip(-1), 1.0)))
    detector = Detector.published(encoder)
    row = rigid_real.row(pair, detector, detector, tmp_path)
    assert row["auroc"] == row["random"] == 1 and row["bicubic"] == 1 and row["sharpness"] == 1
    assert abs(row["matched"] - 0.5) < 0.3 and row["samples"] == 24
    assert "blurred noise" in rigid_real.table([row])
