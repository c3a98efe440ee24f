"""Moments equal numpy's in one pass, whatever the batches, and refuse what has no answer."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_guidance.evaluation import Moments


def features(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Far from zero mean, on purpose: sums of squares would lose eight digits here."""
    return np.random.default_rng(seed).standard_normal((count, dim)) + 1e4


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 20), min_size=2, max_size=8), dim=st.integers(1, 12), seed=st.integers(0, 99))
def test_any_batches_give_the_moments_of_the_whole(sizes, dim, seed):
    parts = [features(size, dim, seed + i) for i, size in enumerate(sizes)]
    whole = np.concatenate(parts)
    streamed, merged = Moments(), Moments()
    for part in parts:
        streamed.update(torch.from_numpy(part))
        merged.merge(Moments.of(part))
    for moments in (streamed, merged):
        assert moments.count == len(whole)
        if len(whole) >= 2:
            np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-13)
            np.testing.assert_allclose(moments.covariance, np.atleast_2d(np.cov(whole, rowvar=False)), atol=1e-10)


def test_merging_is_within_1e_10_of_the_whole_in_many_dimensions():
    x = np.random.default_rng(1).standard_normal((1000, 256)) * 3 + 1
    merged = Moments.of(x[:1]).merge(Moments()).merge(Moments.of(x[1:340])).merge(Moments.of(x[340:]))
    whole = Moments.of(x)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sums_are_float64_whatever_the_features(dtype):
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    moments = Moments().update(x[:99]).update(x[99:])
    np.testing.assert_allclose(moments.covariance, np.cov(x.double().numpy(), rowvar=False), atol=1e-14)


def test_the_same_batches_give_the_same_bits_and_survive_a_file(tmp_path):
    x = features(100, 7)
    first, second = Moments(), Moments()
    for moments in (first, second):
        for part in np.array_split(x, 9):
            moments.update(part)
    loaded = Moments.load(second.save(tmp_path / "m.safetensors", {"extractor": "none"}))
    for moments in (second, loaded):
        assert moments.mean.tobytes() == first.mean.tobytes()
        assert moments.covariance.tobytes() == first.covariance.tobytes()
    loaded.update(x)
    np.testing.assert_allclose(loaded.covariance, first.update(x).covariance)


def test_memory_is_flat_in_the_number_of_vectors():
    def peak(batches: int) -> int:
        moments, batch = Moments(), np.ones((64, 128))
        tracemalloc.start()
        for _ in range(batches):
            moments.update(batch)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(200) < 1.1 * peak(4)


def test_errors_are_clear_and_change_nothing():
    moments = Moments()
    with pytest.raises(ValueError, match="mean of nothing"):
        _ = moments.mean
    moments.update(np.ones((1, 3)))
    with pytest.raises(ValueError, match="at least two samples, got 1"):
        _ = moments.covariance
    bad = np.ones((4, 3))
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 4 feature vectors are not finite, the first at row 2"):
        moments.update(bad)
    with pytest.raises(ValueError, match="of 5 dimensions cannot join features of 3"):
        moments.update(np.ones((2, 5)))
    with pytest.raises(ValueError, match="of 5 dimensions cannot join features of 3"):
        moments.merge(Moments.of(np.ones((2, 5))))
    with pytest.raises(ValueError, match=r"shape \(samples, dimensions\)"):
        moments.update(np.ones(3))
    assert moments.count == 1


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="cannot read moments"):
        Moments.load(path)
