"""Patches of photographs: what they are cut from, and that no split sees another's."""

import itertools

import pytest
import torch

from diffusion_guidance.worlds.photographs import SPLITS, load_patches, load_photographs


def test_no_photograph_is_in_two_splits():
    for first, second in itertools.combinations(SPLITS.values(), 2):
        assert not set(first) & set(second)


@pytest.mark.parametrize("split", SPLITS)
def test_patches_are_pieces_of_the_photographs(split):
    patches, numbers = load_patches(split)
    photographs = load_photographs(split)
    assert patches.shape[1:] == (3, 32, 32)
    assert len(patches) == len(numbers) >= 70
    assert set(numbers.tolist()) == set(range(len(photographs)))
    torch.testing.assert_close((patches * 255).round() / 255, patches)
    assert patches.std((1, 2, 3)).min() >= 0.039
    first, photograph = patches[0], photographs[0]
    places = itertools.product(range(0, photograph.shape[1] - 31, 32), range(0, photograph.shape[2] - 31, 32))
    gaps = [(photograph[:, top : top + 32, left : left + 32] - first).abs().max() for top, left in places]
    assert min(gaps) <= 0.5 / 255 + 1e-6


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be one of train, validation, test"):
        load_patches("x")
