"""Train the digits checkpoints in assets/: two classifiers, then the class-conditional diffusion transformer.

The first classifier (digits-classifier) is off the shelf: trained on clean images only, it guides. The second
(digits-judge) has another width, seed and training, with noise and shifts, and only judges. The model stops early on
purpose, so that guidance has something to do; a worse one (digits-weak) is for autoguidance. Each stage saves as it
goes and resumes where it was killed. A few minutes on two cores:

    python -m scripts.training.digits                # all stages
    python -m scripts.training.digits model          # one stage, when those before it are done
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional
from torchvision.utils import save_image

from diffusion_guidance import attach
from diffusion_guidance.evaluation import Moments, frechet_distance
from diffusion_guidance.methods.cfg import CFG
from diffusion_guidance.pipelines import ClassConditionalPipeline
from diffusion_guidance.worlds import load_digits
from diffusion_guidance.worlds.digits_classifier import DigitsClassifier
from diffusion_guidance.worlds.digits_measure import label, measure, real_features
from diffusion_guidance.worlds.digits_model import build_scheduler, build_transformer
from diffusion_guidance.worlds.shapes_model import write_card
from diffusion_guidance.worlds.training import Plan, train


CLASSIFIER = {"library_name": "diffusion-guidance", "pipeline_tag": "image-classification", "tags": ["digits"]}
DATA = {"library_name": "diffusers", "pipeline_tag": "unconditional-image-generation"}
DATA |= {"tags": ["digits", "class-conditional", "dit"]}
CARD = """# Digits: a small class-conditional diffusion transformer in pixel space

Draws handwritten digits of 8 x 8 pixels by class, predicting eps. Trained from scratch on scikit-learn's digits by
scripts/training/digits.py; licence Apache-2.0.

    pipe = ClassConditionalPipeline.from_pretrained("assets/digits")
    pipe([3, 1, 4], guidance_scale=2.0).images

DDPM, DDIM and DPM++ schedulers were run. Training stops early on purpose: it is a model for measuring guidance.

Final values of the training run (accuracy by a classifier that did not guide; 1,000 images, 50 DDPM steps):"""


WEAK = {"width": 32, "layers": 2, "steps": 225}
WEAK_CARD = """# Digits, drawn badly: the worse network of autoguidance

A narrower, shallower and shorter trained version of the network in `assets/digits`, for
`Autoguidance("assets/digits-weak")`. Made by `scripts/training/digits.py`. Licence Apache-2.0.

Settings of the training run:"""


def train_classifier(args: argparse.Namespace, name: str, width: int, seed: int, steps: int, augment: bool) -> None:
    torch.manual_seed(seed)
    model = DigitsClassifier(width)
    images, labels = load_digits("train")

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(len(images), (128,), generator=generator)
        batch = images[index] * 2 - 1
        if augment:
            down, right = (int(torch.randint(-1, 2, (), generator=generator)) for _ in range(2))
            batch = torch.roll(batch, (down, right), dims=(-2, -1))  # the rim is nearly always empty
            batch = batch + 0.2 * torch.randn(batch.shape, generator=generator)
        return functional.cross_entropy(model(batch), labels[index])

    plan = Plan(steps=steps, learning_rate=3e-3, seed=seed)
    train(model, loss, plan, args.work / name)
    images, labels = load_digits("test")
    with torch.no_grad():
        accuracy = (model(images * 2 - 1).argmax(-1) == labels).float().mean().item()
    print(f"{name}: {accuracy:.2%} of held-out digits read right")
    model.save_pretrained(args.assets / name)
    kind = "with noise and shifts" if augment else "on clean images only"
    write_card(
        args.assets / name,
        f"# Classifier of handwritten digits, trained {kind}\n\n"
        "Made by `scripts/training/digits.py`. Licence Apache-2.0.",
        {"seed": seed, "steps": steps, "held_out_accuracy": accuracy},
        **CLASSIFIER,
    )


def noise_loss(pipe: ClassConditionalPipeline, batch: int) -> Callable[[torch.Generator], torch.Tensor]:
    """The squared error of the predicted noise; a tenth of the images has no class."""
    images, labels = load_digits("train")

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(len(images), (batch,), generator=generator)
        clean = images[index] * 2 - 1
        noise = torch.randn(clean.shape, generator=generator)
        time = torch.randint(pipe.scheduler.config.num_train_timesteps, (batch,), generator=generator)
        dropped = torch.rand(batch, generator=generator) < 0.1
        asked = labels[index].masked_fill(dropped, pipe.num_classes)
        noisy = pipe.scheduler.add_noise(clean, noise, time)
        return functional.mse_loss(pipe.transformer(noisy, timestep=time, class_labels=asked).sample, noise)

    return loss


def train_model(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    model = build_transformer(args.width, args.layers)
    judge = DigitsClassifier.from_pretrained(args.assets / "digits-judge").eval()
    reference = Moments.of(real_features(judge))
    pipe = ClassConditionalPipeline(model, build_scheduler())
    pipe.set_progress_bar_config(disable=True)
    seeds, folder = range(1000), args.work / "model"

    def draw(weight: float) -> tuple[torch.Tensor, dict[str, float]]:
        with attach(pipe, CFG(weight)):
            images = pipe(
                [label(seed) for seed in seeds],
                num_inference_steps=50,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
            ).images
        found = measure(judge, images, seeds)
        frechet = frechet_distance(Moments.of(found["features"]), reference)
        return images, {"accuracy": found["accuracy"].float().mean().item(), "frechet": frechet}

    def look(step: int) -> None:
        images, plain = draw(1.0)
        _, guided = draw(2.0)
        save_image(images[:100], folder / f"{step:06d}.png", nrow=10)
        print(f"step {step}: weight 1 {plain}, weight 2 {guided}", flush=True)

    plan = Plan(
        steps=args.steps, learning_rate=args.learning_rate, seed=args.seed, save_every=args.save_every, average=0.995
    )
    train(model, noise_loss(pipe, args.batch), plan, folder, look)
    facts = {f"weight_{weight:g}": draw(weight)[1] for weight in (1.0, 2.0)}
    pipe.save_pretrained(args.assets / "digits")
    settings = {name: getattr(args, name) for name in ("seed", "steps", "batch", "learning_rate", "width", "layers")}
    write_card(args.assets / "digits", CARD, settings | facts, **DATA)
    print(facts)


def train_weak(args: argparse.Namespace) -> None:
    """The worse network of autoguidance: narrower, shallower, and trained a quarter as long on the same images."""
    torch.manual_seed(args.seed + 2)
    pipe = ClassConditionalPipeline(build_transformer(WEAK["width"], WEAK["layers"]), build_scheduler())
    plan = Plan(steps=WEAK["steps"], learning_rate=args.learning_rate, seed=args.seed + 2, average=0.995)
    train(pipe.transformer, noise_loss(pipe, args.batch), plan, args.work / "weak")
    pipe.transformer.half().save_pretrained(args.assets / "digits-weak")
    settings = {"seed": args.seed + 2, "batch": args.batch, "learning_rate": args.learning_rate}
    write_card(args.assets / "digits-weak", WEAK_CARD, settings | WEAK, **DATA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="classifiers, model, weak", help="default: all")
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="where the checkpoints go")
    parser.add_argument("--work", type=Path, default=Path("out/train-digits"), help="states, logs and sample sheets")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--save-every", type=int, default=450)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    stages = args.stages or ["classifiers", "model", "weak"]
    if unknown := set(stages) - {"classifiers", "model", "weak"}:
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; choose classifiers, model or weak")
    if "classifiers" in stages:
        train_classifier(args, "digits-classifier", width=64, seed=args.seed, steps=1000, augment=False)
        train_classifier(args, "digits-judge", width=96, seed=args.seed + 1, steps=3000, augment=True)
    if "model" in stages:
        train_model(args)
    if "weak" in stages:
        train_weak(args)


if __name__ == "__main__":
    main()
