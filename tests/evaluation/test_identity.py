"""What a result was made with is recorded, and another one is refused by name."""

import shutil
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.evaluation import Extractor, Moments, Reference, load_reference, load_side, read_statistics
from diffusion_guidance.evaluation.identity import check_extractors, pipeline_weights, versions
from diffusion_guidance.evaluation.settings import keep_settings, read_settings
from diffusion_guidance.networks.preprocessing import Transform

from ..tiny import tiny_dit


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dit")
    tiny_dit().save_pretrained(folder)
    return folder


def loaded(folder):
    return type(tiny_dit()).from_pretrained(folder)


def test_other_weights_at_the_same_path_are_refused_by_name(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    first = pipeline_weights(loaded(tmp_path / "model"))
    assert {"model_index.json", "transformer/diffusion_pytorch_model.safetensors"} <= set(first)
    keep_settings(tmp_path / "out", {"weights": first})
    keep_settings(tmp_path / "out", {"weights": pipeline_weights(loaded(tmp_path / "model"))})
    other = tiny_dit()
    other.transformer.proj_out_2.weight.data += 1
    other.transformer.save_pretrained(tmp_path / "model" / "transformer")
    second = pipeline_weights(loaded(tmp_path / "model"))
    assert [name for name in first if first[name] != second[name]] == [
        "transformer/diffusion_pytorch_model.safetensors"
    ]
    with pytest.raises(ValueError, match=r"another weights \(transformer/diffusion_pytorch_model.safetensors\)"):
        keep_settings(tmp_path / "out", {"weights": second})


def test_a_pipeline_made_in_memory_has_no_files():
    assert pipeline_weights(tiny_dit()) == {} and pipeline_weights(None) == {}


def test_other_versions_are_refused_by_name(tmp_path, monkeypatch):
    keep_settings(tmp_path, {"steps": 1})
    monkeypatch.setattr("diffusion_guidance.evaluation.settings.versions", lambda: versions() | {"diffusers": "0.0.1"})
    with pytest.raises(ValueError, match=rf"diffusers \({metadata.version('diffusers')}, now 0.0.1\)"):
        keep_settings(tmp_path, {"steps": 1})


def test_a_setting_that_was_not_recorded_matters_where_it_says_something(tmp_path):
    keep_settings(tmp_path, {"steps": 1})
    keep_settings(tmp_path, {"steps": 1, "weights": {}})
    with pytest.raises(ValueError, match=r"another weights \(none is recorded\)"):
        keep_settings(tmp_path, {"steps": 1, "weights": {"unet": "0"}})


def test_versions_are_those_that_reports_need():
    found = versions()
    assert found["torch"] == torch.__version__ and found["scipy"] == metadata.version("scipy")
    assert {"guidance", "python", "diffusers", "transformers", "torchmetrics", "timm"} <= set(found)


@pytest.mark.parametrize("text", ["[]", "null", "{", '{"a": NaN}' * 2, "[" * 10000])
def test_damaged_settings_are_one_sentence(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match="choose another folder"):
        read_settings(tmp_path)


def test_a_folder_with_images_of_nobody_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "mine.jpg")
    with pytest.raises(ValueError, match=r"holds images, such as mine\.jpg"):
        keep_settings(tmp_path, {"steps": 1})


class Mean(torch.nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return images.mean((2, 3)) * self.scale


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", arr_0=pixels)
    return tmp_path / "images.npz"


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (Extractor("mean", Mean(2.0), Transform(size=4)), "weights"),
        (Extractor("mean", Mean(1.0), Transform(size=8)), "resize"),
    ],
)
def test_runs_and_statistics_of_another_extractor_are_refused(images, tmp_path, other, differing):
    ours = Extractor("mean", Mean(1.0), Transform(size=4))
    store = load_side(images, ours, tmp_path / "run")
    reference = Reference.of_run(store, features=False)
    assert reference.extractor == ours.identity and len(ours.identity["weights"]) == 64
    with pytest.raises(ValueError, match=f"{differing} .*measure both sides with one extractor"):
        load_side(tmp_path / "run", other, tmp_path / "out")
    with pytest.raises(ValueError, match="another extractor"):
        load_side(images, other, tmp_path / "run")
    with pytest.raises(ValueError, match=f"{differing} .*measure both sides with one extractor"):
        check_extractors(other.identity, reference.extractor)
    check_extractors(ours.identity, reference.extractor)
    check_extractors(ours.identity, replace(reference, extractor=None).extractor)


def test_statistics_keep_their_extractor(tmp_path):
    path = tmp_path / "moments.safetensors"
    Moments.of(np.random.default_rng(0).standard_normal((9, 3))).save(
        path, {"extractor": '{"name": "a", "weights": "b"}'}
    )
    assert read_statistics(path).extractor == {"name": "a", "weights": "b"}
    Moments.of(np.ones((2, 3))).save(path, {"extractor": "[1"})
    with pytest.raises(ValueError, match="its extractor cannot be read"):
        read_statistics(path)


def test_moments_that_are_not_finite_are_refused(tmp_path):
    moments = Moments.of(np.ones((2, 3)))
    moments._mean[1] = np.nan
    moments.save(tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="must be finite"):
        read_statistics(tmp_path / "nan.safetensors")


def test_a_file_with_statistics_and_images_serves_both(tmp_path, images):
    """ADM's reference batches: the Frechet distance by the statistics, the others by the images."""
    pixels = np.load(images)["arr_0"]
    features = pixels.mean((1, 2)) / 255
    np.savez(tmp_path / "adm.npz", arr_0=pixels, mu=np.arange(3.0), sigma=np.eye(3))
    extractor = Extractor("mean", Mean(1.0))
    plain = load_reference(tmp_path / "adm.npz", extractor, tmp_path / "out")
    assert plain.features is None
    full = load_reference(tmp_path / "adm.npz", extractor, tmp_path / "out", features=True)
    np.testing.assert_array_equal(full.mean, np.arange(3.0))
    np.testing.assert_allclose(full.features, features, rtol=1e-5)
