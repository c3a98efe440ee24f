import torch

from diffusion_guidance.worlds.digits_model import build_transformer


def test_no_block_drops_the_class_by_itself():
    model = build_transformer(width=16, layers=2).train()
    for block in model.transformer_blocks:
        embedder = block.norm1.emb.class_embedder
        embedder.token_drop = None  # would raise if it were called
    out = model(torch.zeros(2, 1, 8, 8), timestep=torch.tensor([1, 2]), class_labels=torch.tensor([0, 10])).sample
    assert out.shape == (2, 1, 8, 8)
