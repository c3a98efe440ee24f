"""Measure a classifier's calibration on the estimates of a sampler, and the temperatures that correct it.

The classes that were asked for are the truth. Temperatures are fitted on one set of seeds and reported on another. The
report (--out) has one row per step without a temperature, with one, and with one for each step: for the classifier as
it is and, where it has activations to smooth, for its smooth copy, which is the one that guides. Reliability diagrams
of the one that guides are drawn next to the report. Samples are kept in --work, so a killed run resumes where it
stopped. About a minute on two cores:

    diffusion-guidance calibrate
    diffusion-guidance calibrate MODEL torchvision:resnet50 --transform imagenet --classes 207,360 --samples 200
    diffusion-guidance calibrate MODEL open_clip:ViT-B-32:openai --prompts prompts.txt --save-guidance elucd.json

With --prompts the class of an image is the number of its prompt, and the classifier is given the prompts. The file of
--save-guidance is a configuration of `ClassifierGuidance`, for --guidance-file of generate and evaluate.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import at_least, number
from .check_call import check_call
from .options import Asked, Model, add_batch_size
from .parser import Parser, kind, path


if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..evaluation.store import ChunkStore
    from ..methods.classifier.calibration_trace import CalibrationTrace

OFF_THE_SHELF, SMOOTH = "off the shelf", "smooth"


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    Model.add(parse, default="assets/digits")
    text = "see diffusion_guidance.load_classifier (default: of digits, which ships)"
    parse.add_argument("classifier", nargs="?", help=text)
    parse.add_argument("--transform", choices=("authors", "imagenet", "clip"), help="default: the classifier's own")
    Asked.add(parse, required=False, one=False)
    text = "images to fit on, and as many to report on (default 1000)"
    parse.add_argument("--samples", type=kind(at_least(2)), default=1000, metavar="N", help=text)
    parse.add_argument("--steps", type=kind(at_least(1)), default=50, metavar="N", help="denoising steps (default 50)")
    text = "the pipeline's guidance_scale (default 1: no guidance)"
    parse.add_argument("--weight", type=kind(number), default=1.0, metavar="W", help=text)
    parse.add_argument("--softplus", type=kind(number), help="as in ClassifierGuidance (default: its own)")
    parse.add_argument("--ratio", type=kind(number), default=0.5, help="tau_marginal / tau_joint (default 0.5)")
    add_batch_size(parse, 250)
    text = "report (default out/calibrate/calibration.json)"
    parse.add_argument("--out", type=path, default=Path("out/calibrate/calibration.json"), help=text)
    parse.add_argument("--work", type=path, default=Path("out/calibrate"), help="logits of what was sampled")
    parse.add_argument("--save-guidance", type=path, metavar="FILE", help="JSON of the calibrated guidance")
    return parse


def run(args: Namespace) -> None:
    from ..methods.classifier.calibration_trace import CalibrationTrace
    from ..methods.classifier.guidance import ClassifierGuidance
    from ..methods.classifier.reading import Reading
    from ..networks.classifiers import load_classifier

    if args.out.suffix != ".json":
        raise ValueError("--out of calibrate ends in .json")
    if not 0 <= args.ratio <= 1:
        raise ValueError(f"--ratio is in [0, 1], got {args.ratio:g}")
    model, asked = Model.of(args), Asked.of(args)
    pipe, spec = model.load(), classifier_spec(args.classifier, args.transform)
    if args.prompts:
        spec["classes"] = list(asked.conditions)
    conditions = list(asked.conditions) or all_classes(pipe)
    call = {"num_inference_steps": args.steps, "guidance_scale": args.weight}
    check_call(pipe, conditions, call)
    classifier = load_classifier(**spec, device=pipe.device)
    guide = ClassifierGuidance(classifier, reading=Reading(softplus=args.softplus))
    traces = {OFF_THE_SHELF: CalibrationTrace(classifier)}
    if guide.replaced:
        traces[SMOOTH] = CalibrationTrace(guide.classifier)

    facts = {"pipeline": model.name, "classifier": classifier.identity(), "softplus": args.softplus}
    settings = {**facts, "conditions": conditions, "call": call, "dtype": model.dtype}
    sets = sampled(pipe, traces, conditions, call, args.samples, args.batch_size, args.work, settings)
    publish(args, sets, list(traces), spec if len(spec) > 1 else spec["spec"], facts)


def publish(args: Namespace, sets: "dict[str, ChunkStore]", keys: list[str], spec: dict | str, facts: dict) -> None:
    """Write and print what was found; the last of the traces `keys` is of the classifier that guides, `spec`."""
    from ..core.configuration import save_guidance, to_config
    from ..evaluation.report import describe_run, write_report
    from ..methods.classifier.guidance import ClassifierGuidance
    from ..methods.classifier.reading import Reading
    from ..methods.classifier.temperatures import fit_temperatures
    from .calibration_report import plot, report, table

    rows = []
    for key in keys:
        fitted, held_out = (logits_and_labels(store, key) for store in sets.values())
        rows += report(fitted, held_out, levels(sets["fit"]), classifier=key)
    temperatures = fit_temperatures(*fitted, args.ratio)
    guidance = ClassifierGuidance(spec, reading=Reading(None, args.softplus, **temperatures))
    facts |= {"samples": args.samples, "steps": args.steps, "guidance": to_config(guidance)}
    facts["seeds"] = {"fit": f"0-{args.samples - 1}", "report": f"{args.samples}-{2 * args.samples - 1}"}
    write_report(args.out, describe_run(**facts), rows)
    plot(args.out.with_suffix(".png"), held_out, temperatures["tau_joint"])
    if args.save_guidance:
        save_guidance(args.save_guidance, guidance)
    print(table(rows))
    print(f"{guidance}\n{args.out} and {args.out.with_suffix('.png')}")


def classifier_spec(text: str | None, transform: str | None) -> dict:
    """Arguments of `load_classifier`; without a `text`, of the classifier of digits that ships."""
    from ..worlds.shipped import shipped_path

    shipped = f"pretrained:diffusion_guidance.worlds.DigitsClassifier:{shipped_path('assets/digits-classifier')}"
    return {"spec": text or shipped} | ({"transform": transform} if transform else {})


def all_classes(pipe: "DiffusionPipeline") -> list[int]:
    """Every class id of a class-conditional pipeline."""
    count = getattr(getattr(pipe, "transformer", None), "config", {}).get("num_embeds_ada_norm")
    if count is None:
        raise ValueError(f"{type(pipe).__name__} does not tell its classes; give --classes or --prompts")
    return list(range(count))


def sampled(
    pipe: "DiffusionPipeline",
    traces: Mapping[str, "CalibrationTrace"],
    conditions: list,
    call: Mapping,
    samples: int,
    batch_size: int,
    work: Path,
    settings: Mapping,
) -> "dict[str, ChunkStore]":
    """What was sampled to fit on ("fit") and, from other seeds, to report on ("report")."""
    from ..evaluation.run import collect
    from .calibration_report import draw

    stores, draw_some = {}, partial(draw, pipe, traces, conditions, **call)
    for name, start in (("fit", 0), ("report", samples)):
        seeds = range(start, start + samples)
        folder = work / name
        stores[name] = collect(folder, seeds, draw_some, lambda *_: {}, settings, batch_size, chunk=batch_size)
    return stores


def logits_and_labels(store: "ChunkStore", key: str) -> "tuple[torch.Tensor, torch.Tensor]":
    """(steps, N, K) logits that the trace `key` collected, and (N,) labels."""
    import torch

    logits, labels = torch.from_numpy(store.array(key)), torch.from_numpy(store.array("labels"))
    return logits.transpose(0, 1), labels


def levels(store: "ChunkStore") -> Sequence[dict]:
    """Of each step: its number, timestep, alpha and sigma."""
    names = ("step", "timestep", "alpha", "sigma")
    return [dict(zip(names, (int(row[0]), *row[1:]), strict=True)) for row in store.array("levels")[0].tolist()]
