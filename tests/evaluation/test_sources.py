"""Foreign files are read as their authors wrote them, and nothing is unpickled."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.evaluation import (
    Extractor,
    Moments,
    Pictures,
    Reference,
    load_reference,
    load_side,
    read_statistics,
)


FEATURES = np.random.default_rng(0).standard_normal((40, 5))
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 4, 6, 3), dtype=np.uint8)
MEAN = Extractor("mean", lambda images: images.mean((2, 3)))


def test_statistics_of_edm_adm_and_ours(tmp_path):
    mean, covariance = FEATURES.mean(0), np.cov(FEATURES, rowvar=False)
    np.savez(tmp_path / "edm.npz", mu=mean, sigma=covariance)
    np.savez(tmp_path / "adm.npz", arr_0=PIXELS, mu=mean, sigma=covariance, mu_s=mean, sigma_s=covariance)
    Moments.of(FEATURES).save(tmp_path / "ours.safetensors")
    for name, count in (("edm.npz", None), ("adm.npz", None), ("ours.safetensors", 40)):
        reference = load_reference(tmp_path / name, None, tmp_path / "out")
        np.testing.assert_allclose(reference.mean, mean)
        np.testing.assert_allclose(reference.covariance, covariance, atol=1e-12)
        assert reference.count == count
        assert len(reference.digest) == 64
    assert len({read_statistics(tmp_path / name).digest for name in ("edm.npz", "adm.npz")}) == 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_pictures_of_a_folder_and_an_npz_are_the_same(tmp_path, save):
    save(tmp_path / "pictures.npz", arr_0=PIXELS, arr_1=np.arange(7))
    (tmp_path / "folder" / "b").mkdir(parents=True)
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "folder" / ("b" if i > 3 else "") / f"{i}.png")
    (tmp_path / "folder" / "note.txt").touch()
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    for name in ("pictures.npz", "folder"):
        pictures = Pictures(tmp_path / name)
        assert len(pictures) == 7
        torch.testing.assert_close(pictures.read(range(2, 6)), expected[2:6])
        store = load_side(tmp_path / name, MEAN, tmp_path / f"out-{name}", batch_size=3)
        np.testing.assert_allclose(store.array("features"), expected.mean((2, 3)), rtol=1e-6)
        reference = Reference.of_run(store, features=True)
        assert reference.features.shape == (7, 3)
        np.testing.assert_allclose(reference.covariance, np.cov(reference.features, rowvar=False), rtol=1e-6)
    assert load_side(store.folder.parent, None, tmp_path).samples == 7


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "objects.npz", arr_0=objects, mu=objects, sigma=objects)
    with pytest.raises(ValueError, match=r"cannot read statistics from .*allow_pickle"):
        read_statistics(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match=r"cannot read pictures from .*allow_pickle"):
        Pictures(tmp_path / "objects.npz")
    (tmp_path / "edm2.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="expected an npz file"):
        Pictures(tmp_path / "edm2.pkl")


def test_errors_say_what_was_found(tmp_path):
    np.savez(tmp_path / "other.npz", x=FEATURES)
    with pytest.raises(ValueError, match="holds x, but statistics are called mu and sigma"):
        read_statistics(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="holds x, but pictures are called arr_0"):
        Pictures(tmp_path / "other.npz")
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.eye(2), arr_0=FEATURES)
    with pytest.raises(ValueError, match="does not go with sigma"):
        read_statistics(tmp_path / "shapes.npz")
    with pytest.raises(ValueError, match="must be"):
        Pictures(tmp_path / "shapes.npz")
    for name, sigma in (("nan", np.full((2, 2), np.nan)), ("skew", np.array([[1.0, 0.5], [0.0, 1.0]]))):
        np.savez(tmp_path / f"{name}.npz", mu=np.zeros(2), sigma=sigma)
        with pytest.raises(ValueError, match="must be finite, and sigma symmetric"):
            read_statistics(tmp_path / f"{name}.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(ValueError, match="expected an npz file"):
        Pictures(tmp_path / "empty.npz")
    np.savez(tmp_path / "flipped.npz", mu=np.ones(50), sigma=np.eye(50))
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(ValueError, match="cannot read statistics"):
        read_statistics(tmp_path / "flipped.npz")
    with pytest.raises(ValueError, match="no pictures in"):
        Pictures(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        load_side(tmp_path / "absent", MEAN, tmp_path)
    for size in (4, 5):
        Image.new("RGB", (size, size)).save(tmp_path / f"{size}.png")
    with pytest.raises(ValueError, match="an extractor is needed"):
        load_side(tmp_path, None, tmp_path)
    with pytest.raises(ValueError, match="differ in size"):
        Pictures(tmp_path).read([0, 1])
    (tmp_path / "4.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot read the picture"):
        Pictures(tmp_path).read([0])
