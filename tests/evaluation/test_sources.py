"""Foreign files are read as their authors wrote them, and nothing is unpickled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from diffusion_guidance.core.files import file_digest
from diffusion_guidance.evaluation import (
    Extractor,
    ImageSet,
    Moments,
    Reference,
    load_reference,
    load_side,
    read_statistics,
)

from ..images.odd import bomb


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


def test_features_in_a_file_are_a_reference_with_its_extractor(tmp_path):
    path = tmp_path / "features.safetensors"
    save_file({"features": FEATURES.astype(np.float16)}, path, metadata={"extractor": '{"name": "mean"}'})
    reference = load_reference(path, None, tmp_path / "out", features=True)
    stored = FEATURES.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(reference.covariance, np.cov(stored, rowvar=False), atol=1e-12)
    assert np.array_equal(reference.features, stored) and reference.count == 40
    assert reference.extractor == {"name": "mean"} and reference.digest == file_digest(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_of_a_folder_and_an_npz_are_the_same(tmp_path, save):
    save(tmp_path / "pictures.npz", arr_0=PIXELS, arr_1=np.arange(7))
    (tmp_path / "folder" / "b").mkdir(parents=True)
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "folder" / ("b" if i > 3 else "") / f"{i}.png")
    (tmp_path / "folder" / "note.txt").touch()
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    for name in ("pictures.npz", "folder"):
        found = ImageSet(tmp_path / name)
        assert len(found) == 7
        torch.testing.assert_close(found.read(range(2, 6)), expected[2:6])
        store = load_side(tmp_path / name, MEAN, tmp_path / f"out-{name}", batch_size=3)
        np.testing.assert_allclose(store.array("features"), expected.mean((2, 3)), rtol=1e-6)
        reference = Reference.of_run(store, features=True)
        assert reference.features.shape == (7, 3)
        np.testing.assert_allclose(reference.covariance, np.cov(reference.features, rowvar=False), rtol=1e-6)
    assert load_side(store.folder.parent, None, tmp_path).samples == 7


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "objects.npz", arr_0=objects, mu=objects, sigma=objects)
    with pytest.raises(ValueError, match=r"cannot read mu from .*nothing is unpickled"):
        read_statistics(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match=r"cannot read arr_0 from .*nothing is unpickled"):
        ImageSet(tmp_path / "objects.npz")
    (tmp_path / "edm2.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="expected an npz file"):
        ImageSet(tmp_path / "edm2.pkl")


def test_errors_say_what_was_found(tmp_path):
    np.savez(tmp_path / "other.npz", x=FEATURES)
    with pytest.raises(ValueError, match="holds x, but statistics are called mu and sigma"):
        read_statistics(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="holds x, but images are called arr_0"):
        ImageSet(tmp_path / "other.npz")
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.eye(2), arr_0=FEATURES)
    with pytest.raises(ValueError, match="does not go with sigma"):
        read_statistics(tmp_path / "shapes.npz")
    with pytest.raises(ValueError, match="must be"):
        ImageSet(tmp_path / "shapes.npz")
    for name, sigma in (("nan", np.full((2, 2), np.nan)), ("skew", np.array([[1.0, 0.5], [0.0, 1.0]]))):
        np.savez(tmp_path / f"{name}.npz", mu=np.zeros(2), sigma=sigma)
        with pytest.raises(ValueError, match="must be finite, and sigma symmetric"):
            read_statistics(tmp_path / f"{name}.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(ValueError, match="expected an npz file"):
        ImageSet(tmp_path / "empty.npz")
    np.savez(tmp_path / "flipped.npz", mu=np.ones(50), sigma=np.eye(50))
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read (mu|sigma)"):
        read_statistics(tmp_path / "flipped.npz")
    with pytest.raises(ValueError, match="no images in"):
        ImageSet(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        load_side(tmp_path / "absent", MEAN, tmp_path)
    (tmp_path / "sized").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "sized" / "4.png")
    with pytest.raises(ValueError, match="an extractor is needed"):
        load_side(tmp_path / "sized", None, tmp_path / "out")
    with pytest.raises(ValueError, match="lies in the folder of the images"):
        load_side(tmp_path / "sized", MEAN, tmp_path / "sized" / "out")


def test_what_is_not_a_sample_changes_nothing(tmp_path):
    """Hidden files, by-products, links, other formats: the digest and the pixels stay, and each is reported."""
    draw = np.random.default_rng(0)
    (tmp_path / "sub").mkdir()
    for name in ("1.png", "2.png", "sub/3.png"):
        Image.fromarray(draw.integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(tmp_path / name)
    before = ImageSet(tmp_path)
    for name in ("._1.png", ".diffusion-guidance-abc.png", ".1.abcdefgh.png", "trace.png", "Thumbs.db", "note.txt"):
        (tmp_path / name).write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "trace.json").write_text("[]")
    (tmp_path / "0.png").symlink_to("2.png")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "a").symlink_to("sub")  # comes before it, and leads to the same file
    after = ImageSet(tmp_path)
    assert after.digest() == before.digest()
    assert torch.equal(after.read(range(3)), before.read(range(3)))
    reasons = {path.rpartition("/")[2]: reason for path, reason in after.left_out}
    assert reasons == {
        "._1.png": "metadata of macOS",
        ".diffusion-guidance-abc.png": "left by a run that was killed",
        ".1.abcdefgh.png": "left by a run that was killed",
        "trace.png": "a trace",
        "trace.json": "a trace",
        "Thumbs.db": "a file of the operating system",
        "note.txt": "not an image by its name",
        "0.png": "another name of a file that counts",
    }


def test_files_that_cannot_be_read_take_no_part(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "1.png")
    Image.fromarray(PIXELS[0, :4, :4]).save(tmp_path / "2.tif")
    digest = ImageSet(tmp_path).digest()
    (tmp_path / "broken.png").write_bytes(b"text")
    (tmp_path / "gone.jpg").symlink_to("missing")
    (tmp_path / "huge.png").write_bytes(bomb())
    found = ImageSet(tmp_path)
    assert (len(found), found.digest()) == (2, digest)
    assert {Path(path).name for path, _ in found.broken} == {"broken.png", "gone.jpg", "huge.png"}
    assert found.notes["blank"] == 1
    for name in ("1.png", "2.tif"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"no images in .*broken.png: not an image in a known format"):
        ImageSet(tmp_path)


def test_sizes_are_compared_over_the_whole_set(tmp_path):
    for index in range(5):
        Image.new("RGB", (32, 20) if index < 4 else (96, 96)).save(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match=r"differ in size \(4 of 32 x 20, 1 of 96 x 96\)"):
        ImageSet(tmp_path)


def test_an_image_that_changes_while_it_is_measured(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    found = ImageSet(tmp_path)
    Image.new("RGB", (5, 4)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="was changed while it was measured"):
        found.read([0])
