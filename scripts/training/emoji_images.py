"""Render the emoji world from icon packages: captioned images of 64 pixels, in one file outside the repository.

    npm install --prefix FOLDER @iconify-json/fluent-emoji @iconify-json/fluent-emoji-flat \\
        @iconify-json/noto @iconify-json/twemoji
    pip install resvg-py
    python -m scripts.training.emoji_images FOLDER     # about two minutes; writes out/emoji/images.safetensors
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from diffusion_guidance.worlds.emoji import SIZE, EmojiImages, read_icons


CACHE = Path("out/emoji/images.safetensors")


def render(svg: str) -> torch.Tensor:
    """One SVG on white, (3, 64, 64) uint8; smaller drawings are centred."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    page = Image.new("RGBA", (SIZE, SIZE), "white")
    page.alpha_composite(drawn, ((SIZE - drawn.width) // 2, (SIZE - drawn.height) // 2))
    return torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1).contiguous()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the four icon packages")
    parser.add_argument("--out", type=Path, default=CACHE)
    args = parser.parse_args(arguments)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    EmojiImages.render(tqdm(read_icons(args.folder), unit="icon", desc="rendering"), render).save(args.out)


if __name__ == "__main__":
    main()
