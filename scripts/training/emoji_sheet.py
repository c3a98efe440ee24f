"""The sheet of the emoji checkpoint: the prompts fixed before training, drawn and named."""

from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image, ImageDraw

from diffusion_guidance.worlds.emoji import PROMPTS, SIZE


def draw_sheet(checkpoint: Path, path: Path, weight: float = 4.0, steps: int = 20, seed: int = 0) -> None:
    """Write 48 images in rows of twelve to `path`, each over its caption: one draw each, none chosen."""
    pipe = StableDiffusion3Pipeline.from_pretrained(checkpoint, text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    images = pipe(
        list(PROMPTS),
        num_inference_steps=steps,
        guidance_scale=weight,
        max_sequence_length=1,
        generator=generator,
    ).images
    cell, columns = (SIZE + 24, SIZE + 22), 12
    page = Image.new("RGB", (columns * cell[0], -(-len(images) // columns) * cell[1]), "white")
    draw = ImageDraw.Draw(page)
    for i, (prompt, image) in enumerate(zip(PROMPTS, images, strict=True)):
        left, top = i % columns * cell[0], i // columns * cell[1]
        page.paste(image, (left + 12, top + 4))
        style, name = prompt.split(" ", 1)
        draw.text((left + cell[0] / 2, top + SIZE + 5), f"{style} {name}", "black", anchor="ma", font_size=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
