import pytest
import torch
from sklearn.datasets import load_digits as scikit_learn_digits

from diffusion_guidance.worlds import load_digits


def test_all_digits_are_those_of_scikit_learn():
    images, labels = load_digits()
    data = scikit_learn_digits()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert torch.equal(images[:, 0] * 16, torch.from_numpy(data.images).float())
    assert labels.tolist() == data.target.tolist()


def test_the_split_is_complete_disjoint_and_even():
    (train, train_labels), (test, test_labels) = load_digits("train"), load_digits("test")
    assert len(train) + len(test) == 1797 and len(test) == 360
    both = torch.cat([train, test]).flatten(1)
    assert torch.equal(both.sort(0).values, load_digits()[0].flatten(1).sort(0).values)
    assert (torch.bincount(test_labels) - torch.bincount(train_labels) / 4).abs().max() <= 1
    assert torch.equal(load_digits("test")[0], test)
    assert not torch.equal(load_digits("test", seed=1)[0], test)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'all', 'train' or 'test'"):
        load_digits("valid")
