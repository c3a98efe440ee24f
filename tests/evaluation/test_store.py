"""A chunk counts if it is whole to the bit; memory holds one batch."""

import weakref

import torch

from diffusion_guidance.evaluation import ChunkStore
from diffusion_guidance.evaluation.run import collect


def test_a_flipped_bit_is_noticed(tmp_path):
    store = ChunkStore(tmp_path, 10, 5)
    for chunk in store.chunks:
        store.write(chunk, {"features": torch.rand(5, 3)})
    assert store.missing() == []
    path = store.path(store.chunks[1])
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    assert store.missing() == [range(5, 10)]


def test_memory_holds_the_images_of_a_batch(tmp_path):
    alive = weakref.WeakSet()
    most = 0

    def draw(seeds):
        nonlocal most
        images = torch.rand(len(seeds), 3, 4, 4)
        alive.add(images)
        most = max(most, len(alive))
        return images, {}

    def measure(images, seeds):
        return {"features": images.mean((2, 3))}

    collect(tmp_path, range(40), draw, measure, {}, batch_size=2)
    assert most <= 2
    stored = ChunkStore(tmp_path / "samples", 40)
    assert stored.names() == ["features"] and stored.missing() == []
