"""Train the emoji checkpoint in assets/: autoencoder, then the flow transformer with its word encoders, then the judge.

The images come from scripts/training/emoji_images.py. Each stage saves as it goes and resumes where it was killed:

    python -m scripts.training.emoji autoencoder
    python -m scripts.training.emoji transformer --steps 20000    # constant rate: raise --steps to go on
    python -m scripts.training.emoji finish --decay-steps 1000    # a branch that ends at rate 0; writes assets/emoji
    python -m scripts.training.emoji sheet                        # 48 fixed prompts as docs/emoji-sheet.png

`transformer --start assets/emoji` continues a checkpoint on another machine, where there is no state to resume: with
its autoencoder and words, and fresh moments of the optimizer. `--names N` learns the first N names only, to be raised
later.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torchvision.utils import save_image
from transformers import CLIPTokenizer

from diffusion_guidance.worlds.emoji import EmojiImages
from diffusion_guidance.worlds.emoji_model import PARTS, build_tokenizer
from diffusion_guidance.worlds.latent_model import build_pipeline
from diffusion_guidance.worlds.shapes_model import write_card
from diffusion_guidance.worlds.training import Plan, train

from .emoji_images import CACHE
from .emoji_sheet import draw_sheet
from .latent import BiasedJointAttention, TextToLatent, autoencoder_loss, flow_loss, scale_latents


DATA = {"license": "other", "license_name": "see-sources", "library_name": "diffusers", "pipeline_tag": "text-to-image"}
DATA |= {"tags": ["emoji", "stable-diffusion-3", "flow-matching"]}
CARD = """# Emoji: a small Stable-Diffusion-3-format text-to-image model

Draws one emoji of 64 x 64 pixels from a style and a name: "noto avocado", "3d red heart", "flat pizza", "twemoji key".
Trained from scratch by scripts/training/emoji.py.

    pipe = StableDiffusion3Pipeline.from_pretrained("assets/emoji", text_encoder_3=None, tokenizer_3=None)
    pipe("noto panda", num_inference_steps=20, guidance_scale=3, max_sequence_length=1)

as diffusers requires for every Stable Diffusion 3 without its third text encoder. Pass `max_sequence_length=1`: it was
trained with one of the zero tokens that stand for that encoder. 300 pairs of style and name (`held_out` in
guidance/worlds/emoji.py) were never shown, neither to the autoencoder nor to the transformer. `names` below is how many
names were learned in the end; other names were not tried. docs/emoji.md has 48 drawings and says what the model does
not do.

Trained on renderings of these drawings, which are not part of this repository:

- Fluent Emoji ("3d", "flat"), Microsoft Corporation, MIT (npm @iconify-json/fluent-emoji, -flat)
- Noto Emoji ("noto"), Google Inc, Apache-2.0 (npm @iconify-json/noto)
- Twemoji ("twemoji"), Copyright Twitter, Inc and other contributors, CC BY 4.0,
  https://creativecommons.org/licenses/by/4.0/ (npm @iconify-json/twemoji; rendered to 64 pixels on white)

Many drawings of the names learned first are nearly copies of the originals, so the licences above apply to images, too.

To continue on another machine: `python -m scripts.training.emoji transformer --start assets/emoji --steps N`.

Settings of the training run (steps are counted since the last --start):"""


def train_autoencoder(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    images = EmojiImages.load(args.images).split()[0].images
    model = PARTS.autoencoder().to(memory_format=torch.channels_last).to(args.device)
    plan = Plan(steps=args.steps or 1500, learning_rate=2e-3, seed=args.seed, log_every=20, save_every=100)
    whole_from = int(0.85 * plan.steps)  # crops first, since they cost a third
    step = _done(args.work / "autoencoder")

    def loss(generator: torch.Generator) -> torch.Tensor:
        nonlocal step
        batch = images[torch.randint(len(images), (16,), generator=generator)]
        if step < whole_from:
            top, left = torch.randint(0, 33, (2,), generator=generator).tolist()
            batch = batch[..., top : top + 32, left : left + 32]
        step += 1
        batch = (batch.to(args.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return autoencoder_loss(model, batch, generator)

    train(model, loss, plan, args.work / "autoencoder")
    model = model.to(memory_format=torch.contiguous_format)
    scale_latents(model, _encode(model, images[::8]))
    model.save_pretrained(args.work / "autoencoder" / "model")
    shown = images[torch.linspace(0, len(images) - 1, 32).long()].float() / 127.5 - 1
    with torch.no_grad():
        out = model(shown.to(args.device)).sample.cpu()
    print(f"autoencoder: mean absolute error {(out - shown).abs().mean() / 2:.4f} of the range")
    save_image(torch.cat([shown, out.clamp(-1, 1)]) / 2 + 0.5, args.work / "autoencoder" / "sample.png", nrow=16)


def train_transformer(args: argparse.Namespace) -> None:
    folder = args.work / "transformer"
    _run(args, Plan(steps=args.steps or 20_000, learning_rate=1e-3, decay=0, **_habits(args)), folder)


def finish(args: argparse.Namespace) -> None:
    """A branch from the saved state of the constant rate that ends at rate 0, as the checkpoint."""
    source, folder = args.work / "transformer", args.work / "finish"
    done = _done(source)
    if not done:
        raise SystemExit(f"{source} holds no state: run the stage `transformer` first")
    if not (folder / "plan.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "state.safetensors", folder / "state.safetensors")
        (folder / "plan.json").write_text(json.dumps({"steps": done + args.decay_steps, "decay": args.decay_steps}))
    plan = json.loads((folder / "plan.json").read_text())
    model, vae = _run(args, Plan(learning_rate=1e-3, **plan, **_habits(args)), folder)
    _write(args, model, vae, plan)


def export(args: argparse.Namespace) -> None:
    """The averaged weights of the constant rate, as they are now, as the checkpoint."""
    done = _done(args.work / "transformer")
    _write(args, *_run(args, Plan(steps=done, learning_rate=1e-3, decay=0), args.work / "transformer"), {"steps": done})


def sheet(args: argparse.Namespace) -> None:
    draw_sheet(args.assets / "emoji", args.sheet, args.weight)


def _run(args: argparse.Namespace, plan: Plan, folder: Path) -> tuple[TextToLatent, AutoencoderKL]:
    torch.manual_seed(args.seed + 1)
    every = EmojiImages.load(args.images)
    shown = every.split()[0].first(args.names)
    if args.start is None:
        vae = AutoencoderKL.from_pretrained(args.work / "autoencoder" / "model")
        model = _new(build_tokenizer(every.words()), args.width, args.layers)
    else:
        pipe = StableDiffusion3Pipeline.from_pretrained(args.start, text_encoder_3=None, tokenizer_3=None)
        model = TextToLatent(pipe.tokenizer, [pipe.text_encoder, pipe.text_encoder_2], pipe.transformer)
        vae, model = pipe.vae.float(), model.float()
    model, vae = model.to(args.device), vae.to(args.device)
    if plan.steps > _done(folder):
        latents = (_encode(vae, shown.images) - vae.config.shift_factor) * vae.config.scaling_factor
        tokens = model.tokens(shown.captions).to(args.device)
        print(f"{len(shown)} images of {args.names} names; steps {_done(folder)} to {plan.steps}", flush=True)
        loss = flow_loss(model, latents, tokens, model.tokens([""]).to(args.device), args.batch)
    else:
        loss = _no_loss
    model.transformer.set_attn_processor(BiasedJointAttention())
    train(model, loss, plan, folder)
    model.transformer.set_attn_processor(JointAttnProcessor2_0())
    return model, vae


def _new(tokenizer: CLIPTokenizer, width: int, layers: int) -> TextToLatent:
    encoders = [PARTS.text_encoder(tokenizer) for _ in range(2)]
    transformer = PARTS.transformer(width, layers)
    for encoder in encoders:  # words far apart from the start
        torch.nn.init.normal_(encoder.text_model.embeddings.token_embedding.weight, std=0.2)
    for name, module in transformer.named_modules():  # blocks begin as the identity, as in DiT
        if isinstance(module, torch.nn.Linear) and name.endswith(("norm1.linear", "norm1_context.linear", "proj_out")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return TextToLatent(tokenizer, encoders, transformer)


def _no_loss(generator: torch.Generator) -> torch.Tensor:
    raise AssertionError("nothing is left to train")


def _write(args: argparse.Namespace, model: TextToLatent, vae: AutoencoderKL, facts: dict) -> None:
    pipe = build_pipeline(model.transformer, vae, list(model.text_encoders), model.tokenizer)
    for part in (
        pipe.transformer,
        pipe.vae,
    ):  # halves the files; diffusers loads them as float32 unless asked otherwise
        part.to(torch.float16)
    pipe.vae.register_to_config(_name_or_path="")  # else the config names a folder of this machine
    pipe.save_pretrained(args.assets / "emoji")
    settings = {name: getattr(args, name) for name in ("seed", "names", "width", "layers", "batch")}
    write_card(args.assets / "emoji", CARD, settings | facts, **DATA)


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Latent means (N, 4, 16, 16), unscaled, of images (N, 3, 64, 64) uint8."""
    parts = (part.to(vae.device).float() / 127.5 - 1 for part in images.split(64))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts])


def _done(folder: Path) -> int:
    """Steps of the saved state in `folder`; 0 without one."""
    from safetensors import safe_open

    if not (folder / "state.safetensors").exists():
        return 0
    with safe_open(folder / "state.safetensors", framework="pt") as file:
        return int(file.metadata()["step"])


def _habits(args: argparse.Namespace) -> dict:
    return {"seed": args.seed + 1, "save_every": args.save_every, "log_every": 20}


STAGES = {
    "autoencoder": train_autoencoder,
    "transformer": train_transformer,
    "finish": finish,
    "export": export,
    "sheet": sheet,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--images", type=Path, default=CACHE, help="rendered by scripts.training.emoji_images")
    parser.add_argument("--work", type=Path, default=Path("out/emoji"), help="states, logs and samples")
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="where the finished parts go")
    parser.add_argument("--start", type=Path, help="a checkpoint to continue, where there is no state to resume")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, help="in all: 1,500 of the autoencoder, 20,000 of the transformer")
    parser.add_argument("--decay-steps", type=int, default=1000, help="of the stage `finish`")
    parser.add_argument("--save-every", type=int, default=200, help="steps between saved states of the transformer")
    parser.add_argument("--names", type=int, default=10_000, help="how many names the transformer learns")
    parser.add_argument("--batch", type=int, default=64, help="of the transformer")
    parser.add_argument("--width", type=int, default=192, help="of the transformer")
    parser.add_argument("--layers", type=int, default=6, help="of the transformer")
    parser.add_argument("--sheet", type=Path, default=Path("docs/emoji-sheet.png"))
    parser.add_argument("--weight", type=float, default=4.0, help="of guidance, on the sheet")
    args = parser.parse_args(arguments)
    STAGES[args.stage](args)


if __name__ == "__main__":
    main()
