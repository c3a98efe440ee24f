"""The images of the study of RIGID: real ones, and generated ones of several kinds, as 8-bit PNG files hold them."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from diffusion_guidance.core.files import write_atomic
from diffusion_guidance.detection.corruptions import encoded
from diffusion_guidance.evaluation.sampling import generators, sample
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds import load_digits
from diffusion_guidance.worlds.digits_measure import label
from diffusion_guidance.worlds.photographs import load_patches
from diffusion_guidance.worlds.shapes import Scenes
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.studies.study import Run


SAMPLES = 200  # images a set, if there are so many
Sets = dict[str, torch.Tensor]  # "real", and each kind of generated images by name; (N, 3, H, W) in [0, 1]


def photographs(split: str, samples: int, assets: Path) -> Sets:
    """Patches of photographs that the encoder has not seen, and four kinds of generated patches."""
    real = spread(load_patches(split)[0], samples)
    vae = load_pipeline(str(assets / "shapes")).vae
    with torch.no_grad():
        decoded = vae.decode(vae.encode(real * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
    half = functional.interpolate(real, scale_factor=0.5, mode="bicubic", antialias=True)
    return {
        "real": real,
        "autoencoder": decoded,
        "upsampled": functional.interpolate(half, scale_factor=2.0, mode="bicubic"),
        "gaussian": gaussian_patches(load_patches("train")[0], len(real), seed=len(split)),
        "texture": random_phase(real, seed=len(split)),
    }


def digits(split: str, samples: int, assets: Path) -> Sets:
    """Handwritten digits, and those of the shipped pixel model in 50 DDPM steps. Both in the scans' 17 grey levels."""
    test = split == "test"
    real = spread(load_digits("test" if test else "train")[0], samples)
    pipe = load_pipeline(str(assets / "digits"))
    seeds = range(10_000 * test, 10_000 * test + len(real))
    fake = pipe(
        [label(seed) for seed in seeds],
        guidance_scale=1.0,
        num_inference_steps=50,
        generator=generators(seeds),
        output_type="pt",
    ).images
    return {"real": real.expand(-1, 3, -1, -1), "diffusion": (fake.cpu() * 16).round().div(16).expand(-1, 3, -1, -1)}


def shapes(split: str, samples: int, assets: Path) -> Sets:
    """Scenes drawn by code, and those of the shipped flow model in 10 steps under plain guidance."""
    seeds = range(20_000 * (split == "test"), 20_000 * (split == "test") + samples)
    real = Scenes.sample(samples, torch.Generator().manual_seed(2**42 + seeds[0])).render()
    pipe = load_pipeline(str(assets / "shapes"))
    call = {"num_inference_steps": 10, "guidance_scale": 2.0, "max_sequence_length": 1, "output_type": "pt"}
    fake = [
        sample(pipe, [caption(seed) for seed in part], part, [], **call)[0].images.float()
        for part in (seeds[i : i + 100] for i in range(0, samples, 100))
    ]
    return {"real": real, "flow": torch.cat(fake)}


BUILD: dict[str, Callable[[str, int, Path], Sets]] = {"photographs": photographs, "digits": digits, "shapes": shapes}


def spread(images: torch.Tensor, samples: int) -> torch.Tensor:
    """At most `samples` of the images, evenly spread over the order they stand in."""
    count = min(samples, len(images))
    return images[torch.arange(count) * len(images) // count]


def gaussian_patches(images: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Draws of the normal distribution that has the mean and covariance of `images` (N, 3, H, W)."""
    flat = images.flatten(1)
    mean = flat.mean(0)
    weights = torch.randn(count, len(flat), generator=torch.Generator().manual_seed(seed)) / (len(flat) - 1) ** 0.5
    return (mean + weights @ (flat - mean)).unflatten(1, images.shape[1:]).clamp(0, 1)


def random_phase(images: torch.Tensor, seed: int) -> torch.Tensor:
    """Textures with the spectrum of each image: phases of noise are added, the same to all channels."""
    noise = torch.randn(len(images), 1, *images.shape[2:], generator=torch.Generator().manual_seed(seed))
    phase = torch.fft.fft2(noise)
    phase = phase / phase.abs()
    phase[..., 0, 0] = 1  # the mean stays
    return torch.fft.ifft2(torch.fft.fft2(images) * phase).real.clamp(0, 1)


def image_sets(world: str, split: str, run: Run) -> Sets:
    """The sets of a world as 8-bit PNG files would hold them; drawn once, then kept."""
    count = run.samples or SAMPLES
    path = run.work / f"{world}-{split}-{count}.safetensors"
    if not path.exists():
        sets = BUILD[world](split, count, run.assets)
        sets = {name: encoded(images.float(), "PNG").contiguous() for name, images in sets.items()}
        write_atomic(path, lambda temporary: save_file(sets, temporary))
    return load_file(path)
