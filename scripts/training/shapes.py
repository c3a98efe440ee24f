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
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch.nn import functional
from torchvision.utils import save_image

from diffusion_guidance.evaluation import Moments
from diffusion_guidance.worlds.shapes import Scenes
from diffusion_guidance.worlds.shapes_classifier import ShapesClassifier, aligned
from diffusion_guidance.worlds.shapes_measure import REFERENCE, real_features
from diffusion_guidance.worlds.shapes_model import (
    LATENT_SIZE,
    BiasedJointAttention,
    build_autoencoder,
    build_pipeline,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
    write_card,
)
from diffusion_guidance.worlds.training import Plan, train


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
    )


def train_autoencoder(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed + 1)
    model = build_autoencoder().to(args.device)

    def loss(generator: torch.Generator) -> torch.Tensor:
        images = Scenes.sample(64, generator).render().to(args.device) * 2 - 1
        with torch.autocast(args.device, torch.bfloat16):
            posterior = model.encode(images).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(args.device)
            out = model.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return functional.l1_loss(out, images) + functional.mse_loss(out, images) + 1e-3 * kl

    def look(step: int) -> None:
        images = Scenes.sample(16, torch.Generator().manual_seed(1)).render().to(args.device)
        with torch.no_grad():
            out = model(images * 2 - 1).sample / 2 + 0.5
        pictures = functional.interpolate(torch.cat([images, out.clamp(0, 1)]), scale_factor=3)
        save_image(pictures, args.work / "autoencoder" / f"{step:06d}.png", nrow=16)

    plan = Plan(steps=args.autoencoder_steps, learning_rate=2e-3, seed=args.seed + 1)
    train(model, loss, plan, args.work / "autoencoder", look)
    with torch.no_grad():
        scenes = Scenes.sample(4096, torch.Generator().manual_seed(args.seed + 2))
        latents = torch.cat(
            [model.encode(part.to(args.device) * 2 - 1).latent_dist.mean for part in scenes.render().split(256)]
        )
    model.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())
    model.save_pretrained(args.work / "autoencoder" / "model")


class TextToLatent(torch.nn.Module):
    """Transformer and text encoders as one module, since they are trained together."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.tokenizer = build_tokenizer()
        self.text_encoders = torch.nn.ModuleList(build_text_encoder(self.tokenizer) for _ in range(2))
        for encoder in self.text_encoders:
            encoder.set_attn_implementation("eager")  # faster backward pass on CPU; not part of what is saved
        self.transformer = build_transformer(width, layers)

    def tokens(self, captions: list[str]) -> torch.Tensor:
        return self.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids

    def forward(self, sample: torch.Tensor, sigma: torch.Tensor, tokens: torch.Tensor, zeros: torch.Tensor):
        """Velocity (B, 4, 8, 8). `zeros`: (B,) how many zero tokens the pipeline would append."""
        encoded = [encoder(tokens, output_hidden_states=True) for encoder in self.text_encoders]
        context = torch.cat([out.hidden_states[-2] for out in encoded], dim=-1)
        context = torch.cat([context, torch.zeros_like(context[:, :1])], dim=1)
        pooled = torch.cat([out.text_embeds for out in encoded], dim=-1)
        keys = (LATENT_SIZE // 2) ** 2 + context.shape[1]
        bias = torch.zeros(len(sample), 1, 1, keys, device=sample.device)
        bias[..., -1] = zeros.float().log()[:, None, None]
        return self.transformer(
            sample, context, pooled, sigma * 1000, joint_attention_kwargs={"key_bias": bias}, return_dict=False
        )[0]


def load_pool(args: argparse.Namespace, model: TextToLatent) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents (N, 4, 8, 8) and token ids (N, T) of `--scenes` scenes; encoded once, since encoding is slow."""
    from diffusers import AutoencoderKL

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


def train_transformer(args: argparse.Namespace) -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(args.seed + 4)
    model = TextToLatent(args.width, args.layers).to(args.device)
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

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(len(latents), (args.batch,), generator=generator).to(args.device)
        noise = torch.randn(args.batch, *latents.shape[1:], generator=generator).to(args.device)
        sigma = torch.randn(args.batch, generator=generator).sigmoid().to(args.device)
        dropped = (torch.rand(args.batch, 1, generator=generator) < 0.1).to(args.device)
        zeros = torch.exp2(8 * torch.rand(args.batch, generator=generator)).to(args.device)  # 1 to 256
        clean = latents[index]
        noisy = torch.lerp(clean, noise, sigma[:, None, None, None])
        with torch.autocast(args.device, torch.bfloat16):
            velocity = network(noisy, sigma, torch.where(dropped, empty, tokens[index]), zeros)
        return functional.mse_loss(velocity.float(), noise - clean)

    @torch.no_grad()
    def measure(weight: float, zeros: int = 1) -> tuple[torch.Tensor, float]:
        """Images of held-out captions in 10 steps, and the share with every attribute right."""
        model.transformer.set_attn_processor(JointAttnProcessor2_0())
        images = pipe(
            held_out,
            num_inference_steps=10,
            guidance_scale=weight,
            max_sequence_length=zeros,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images.float()
        model.transformer.set_attn_processor(BiasedJointAttention())
        return images, aligned(classifier, images, held_out).float().mean().item()

    def look(step: int) -> None:
        (_, without), (images, guided) = measure(1.0), measure(3.0)
        print(f"step {step}: alignment {without:.3f} at weight 1, {guided:.3f} at weight 3", flush=True)
        save_image(functional.interpolate(images[:64], scale_factor=3), args.work / "transformer" / f"{step:06d}.png")

    model.transformer.set_attn_processor(BiasedJointAttention())
    plan = Plan(steps=args.transformer_steps, learning_rate=1e-3, seed=args.seed + 5)
    train(model, loss, plan, args.work / "transformer", look)
    cases = {"weight_1": (1.0,), "weight_3": (3.0,), "weight_3_max_sequence_length_256": (3.0, 256)}
    figures = {f"alignment_{name}": measure(*case)[1] for name, case in cases.items()}
    model.transformer.set_attn_processor(JointAttnProcessor2_0())
    pipe.transformer.to(torch.float16)  # halves the file; diffusers loads it as float32 unless asked otherwise
    pipe.save_pretrained(args.assets / "shapes")
    facts = {name: getattr(args, name) for name in ("seed", "width", "layers", "batch", "scenes", "transformer_steps")}
    write_card(args.assets / "shapes", CARD, facts | figures)


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
