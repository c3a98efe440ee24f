import pytest
import torch
from torch import nn

from diffusion_guidance.networks.zero_shot import ZeroShot, class_embeddings


def embed(texts: list[str]) -> torch.Tensor:
    """An embedding of each text of its own, of any length."""
    return torch.stack([torch.randn(6, generator=torch.Generator().manual_seed(sum(map(ord, each)))) for each in texts])


def test_embeddings_are_the_unit_mean_of_unit_embeddings():
    result = class_embeddings(embed, ["cat", "dog"], ["a {}", "{} and {}"])
    for row, prompts in zip(result, (["a cat", "cat and cat"], ["a dog", "dog and dog"]), strict=True):
        units = [each / each.norm() for each in embed(prompts).double()]
        mean = sum(units) / 2
        torch.testing.assert_close(row.double(), mean / mean.norm(), atol=1e-6, rtol=0)


def test_logits_are_scaled_cosines():
    embeddings = class_embeddings(embed, ["cat", "dog", "bird"])
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    expected = 100 * nn.functional.cosine_similarity(features[:, None], embeddings[None], dim=-1)
    torch.testing.assert_close(ZeroShot(nn.Identity(), embeddings, 100.0)(features), expected)

    class Tuple(nn.Module):
        def forward(self, features):
            return features, None

    torch.testing.assert_close(ZeroShot(Tuple(), embeddings, 100.0)(features), expected)


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        (["cat"], ["{}"], "two or more classes"),
        (["cat", "cat"], ["{}"], "each once"),
        (["cat", "dog"], ["a cat"], "must contain {} for the class, got 'a cat'"),
    ],
)
def test_what_makes_no_classifier_is_refused(classes, templates, message):
    with pytest.raises(ValueError, match=message):
        class_embeddings(embed, classes, templates)
