"""Train the shapes checkpoint in assets/: attribute classifier, autoencoder, then the flow transformer.

Each stage saves as it goes and resumes where it was killed; the last stage writes a directory that the stock
diffusers.StableDiffusion3Pipeline loads. About two hours on two cores:

    python -m scripts.training.shapes                     # all three stages
    python -m scripts.training.shapes transformer         # one stage, when those before it are done
"""

import argparse
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch.nn import functional
from torchvision.utils import save_image

from diffusion_guidance.evaluation import Moments
from diffusion_guidance.worlds.latent_model import build_pipeline
from diffusion_guidance.worlds.shapes import Scenes
from diffusion_guidance.worlds.shapes_classifier import ShapesClassifier, aligned
from diffusion_guidance.worlds.shapes_measure import REFERENCE, real_features
from diffusion_guidance.worlds.shapes_model import PARTS, build_tokenizer, write_card
from diffusion_guidance.worlds.training import Plan, train

from .latent import BiasedJointAttention, TextToLatent, autoencoder_loss, flow_loss, scale_latents


CLASSIFIER = {"library_name": "diffusion-guidance", "pipeline_tag": "image-classification", "tags": ["shapes"]}
DATA = {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
DATA |= {"tags": ["shapes", "stable-diffusion-3", "flow-matching"]}
CARD = """# Shapes: a small Stable-Diffusion-3-format text-to-image model

Draws two coloured shapes in two quadrants of a 32 x 32 image from an English sentence. Trained from scratch on
scenes drawn by code (guidance/worlds/shapes.py) by scripts/training/shapes.py; licence Apache-2.0.

    pipe = StableDiffusion3Pipeline.from_pretrained("assets/shapes", text_encoder_3=None, tokenizer_3=None)

as diffusers asks of every Stable Diffusion 3 without its third text encoder. Pass `max_sequence_length=1` to the call:
it spares the zero tokens that stand for that encoder, and draws as well as the default of 256 (see the values).
Training stops early on purpose: it is a model for measuring guidance, so it leaves guidance something to do.

Final values of the training run (alignment is the share of images with every attribute as asked):"""


def train_classifier(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    model = ShapesClassifier()

    def loss(generator: torch.Generator) -> torch.Tensor:
        scenes = Scenes.sample(128, generator)
        noise = 0.08 * torch.rand(len(scenes), 1, 1, 1, generator=generator)
        images = scenes.render()
        images = images + noise * torch.randn(images.shape, generator=generator)
        with torch.autocast(args.device, torch.bfloat16):
            logits = model(images.to(args.device))
        targets = scenes.attributes().to(args.device)
        return sum(functional.cross_entropy(part.float(), targets[:, i]) for i, part in enumerate(logits))

    plan = Plan(steps=args.classifier_steps, learning_rate=3e-3, seed=args.seed)
    train(model.to(args.device), loss, plan, args.work / "classifier")
    held_out = Scenes.sample(2000, torch.Generator().manual_seed(args.seed + 7))
    with torch.no_grad():
        right = aligned(model, held_out.render().to(args.device), held_out.captions())
    accuracy = right.float().mean().item()
    print(f"classifier: {accuracy:.2%} of clean scenes read without a mistake")
    folder = args.assets / "shapes-classifier"
    model.save_pretrained(folder)
    Moments.of(real_features(model, 20_000)).save(folder / REFERENCE)
    write_card(
        folder,
        "# Attribute classifier of the shapes world\n\nMade by `scripts/training/shapes.py classifier`, with the "
        "moments of its features on real scenes in reference.safetensors. Licence Apache-2.0.",
        {"seed": args.seed, "steps": plan.steps, "clean_accuracy": accuracy},
        **CLASSIFIER,
    )


def train_autoencoder(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed + 1)
    model = PARTS.autoencoder().to(args.device)

    def loss(generator: torch.Generator) -> torch.Tensor:
        images = Scenes.sample(64, generator).render().to(args.device) * 2 - 1
        return autoencoder_loss(model, images, generator)

    def look(step: int) -> None:
        images = Scenes.sample(16, torch.Generator().manual_seed(1)).render().to(args.device)
        with torch.no_grad():
            out = model(images * 2 - 1).sample / 2 + 0.5
        pairs = functional.interpolate(torch.cat([images, out.clamp(0, 1)]), scale_factor=3)
        save_image(pairs, args.work / "autoencoder" / f"{step:06d}.png", nrow=16)

    plan = Plan(steps=args.autoencoder_steps, learning_rate=2e-3, seed=args.seed + 1)
    train(model, loss, plan, args.work / "autoencoder", look)
    with torch.no_grad():
        scenes = Scenes.sample(4096, torch.Generator().manual_seed(args.seed + 2))
        latents = torch.cat(
            [model.encode(part.to(args.device) * 2 - 1).latent_dist.mean for part in scenes.render().split(256)]
        )
    scale_latents(model, latents)
    model.save_pretrained(args.work / "autoencoder" / "model")


def load_pool(args: argparse.Namespace, model: TextToLatent) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents (N, 4, 8, 8) and token ids (N, T) of `--scenes` scenes; encoded once, since encoding is slow."""
    vae = AutoencoderKL.from_pretrained(args.work / "autoencoder" / "model").to(args.device)
    latents, tokens = [], []
    generator = torch.Generator().manual_seed(args.seed + 3)
    with torch.no_grad(), torch.autocast(args.device, torch.bfloat16):
        for _ in range(args.scenes // 512):
            scenes = Scenes.sample(512, generator)
            mean = vae.encode(scenes.render().to(args.device) * 2 - 1).latent_dist.mean.float()
            latents.append((mean - vae.config.shift_factor) * vae.config.scaling_factor)
            tokens.append(model.tokens(scenes.captions()))
    return torch.cat(latents), torch.cat(tokens).to(args.device)


@torch.no_grad()
def drawn(pipe: StableDiffusion3Pipeline, captions: list[str], weight: float, zeros: int) -> torch.Tensor:
    """Images (B, 3, 32, 32) of the captions in 10 steps, with the attention of stock code."""
    pipe.transformer.set_attn_processor(JointAttnProcessor2_0())
    images = pipe(
        captions,
        num_inference_steps=10,
        guidance_scale=weight,
        max_sequence_length=zeros,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images.float()
    pipe.transformer.set_attn_processor(BiasedJointAttention())
    return images


def train_transformer(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed + 4)
    tokenizer = build_tokenizer()
    encoders = [PARTS.text_encoder(tokenizer) for _ in range(2)]
    model = TextToLatent(tokenizer, encoders, PARTS.transformer(args.width, args.layers)).to(args.device)
    started = time.monotonic()
    latents, tokens = load_pool(args, model)
    print(f"encoded {len(latents)} scenes in {time.monotonic() - started:.0f} s")
    empty = model.tokens([""]).to(args.device)
    vae = AutoencoderKL.from_pretrained(args.work / "autoencoder" / "model").to(args.device)
    pipe = build_pipeline(model.transformer, vae, list(model.text_encoders), model.tokenizer)
    pipe.set_progress_bar_config(disable=True)
    classifier = ShapesClassifier.from_pretrained(args.assets / "shapes-classifier").to(args.device)
    held_out = Scenes.sample(200, torch.Generator().manual_seed(args.seed + 7)).captions()
    network = torch.compile(model) if args.compile else model

    @torch.no_grad()
    def measure(weight: float, zeros: int = 1) -> tuple[torch.Tensor, float]:
        images = drawn(pipe, held_out, weight, zeros)
        return images, aligned(classifier, images, held_out).float().mean().item()

    def look(step: int) -> None:
        (_, without), (images, guided) = measure(1.0), measure(3.0)
        print(f"step {step}: alignment {without:.3f} at weight 1, {guided:.3f} at weight 3", flush=True)
        save_image(functional.interpolate(images[:64], scale_factor=3), args.work / "transformer" / f"{step:06d}.png")

    model.transformer.set_attn_processor(BiasedJointAttention())
    plan = Plan(steps=args.transformer_steps, learning_rate=1e-3, seed=args.seed + 5)
    loss = flow_loss(network, latents, tokens, empty, args.batch, many_zeros=True)
    train(model, loss, plan, args.work / "transformer", look)
    cases = {"weight_1": (1.0,), "weight_3": (3.0,), "weight_3_max_sequence_length_256": (3.0, 256)}
    figures = {f"alignment_{name}": measure(*case)[1] for name, case in cases.items()}
    model.transformer.set_attn_processor(JointAttnProcessor2_0())
    pipe.transformer.to(torch.float16)  # halves the file; diffusers loads it as float32 unless asked otherwise
    pipe.save_pretrained(args.assets / "shapes")
    facts = {name: getattr(args, name) for name in ("seed", "width", "layers", "batch", "scenes", "transformer_steps")}
    write_card(args.assets / "shapes", CARD, facts | figures, **DATA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = {"classifier": train_classifier, "autoencoder": train_autoencoder, "transformer": train_transformer}
    parser.add_argument("stages", nargs="*", default=list(stages), metavar="stage", help=f"of {', '.join(stages)}")
    parser.add_argument("--work", type=Path, default=Path("out/train-shapes"), help="states, logs and samples")
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="where the finished parts go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile the network")
    parser.add_argument("--classifier-steps", type=int, default=600)
    parser.add_argument("--autoencoder-steps", type=int, default=2500)
    parser.add_argument("--transformer-steps", type=int, default=800)
    parser.add_argument("--width", type=int, default=160, help="of the transformer")
    parser.add_argument("--layers", type=int, default=6, help="of the transformer")
    parser.add_argument("--batch", type=int, default=96, help="of the transformer")
    parser.add_argument("--scenes", type=int, default=65536, help="in the pool that the transformer sees")
    args = parser.parse_args()
    if unknown := set(args.stages) - set(stages):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; stages are {', '.join(stages)}")
    for stage in args.stages:
        stages[stage](args)


if __name__ == "__main__":
    main()
