"""Draw an image again from its record, and check that it matches.

    diffusion-guidance verify out/generate/000000.png assets/shapes

The pipeline is the one that you name, and has to be of the same weights; nothing is loaded or run because the image
names it. The answer is `equal` (every pixel), `near` (a hash of what is seen differs in {bound} of 64 bits at most, as
after rounding on another device or in another batch) or `different`.

Exit codes: 0 equal or near; 4 different; 2 bad input.
"""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .check_call import check_call
from .failures import DIFFERENT, DONE, blaming
from .options import Model
from .parser import Parser, path


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL.Image import Image

    from ..evaluation.record import Record

BOUND = 6  # bits of 64
LEVELS = 2  # of 255: smaller differences between neighbours do not count, so that even areas have stable bits


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=(__doc__ or "").replace("{bound}", str(BOUND)))
    parse.add_argument("image", type=path, metavar="IMAGE", help="PNG file that generate wrote")
    Model.add(parse)
    return parse


def run(args: Namespace) -> int:
    from PIL import Image

    from ..evaluation.record import read_record
    from ..evaluation.sampling import sample

    record = read_record(args.image)
    guidance = record.callbacks(args.trust_guidance, args.image)
    pipe = load(Model.of(args), record, args.image)
    with blaming(record.call):
        output, _ = sample(pipe, [record.condition], [record.seed], guidance, output_type="pil", **record.call)
    with Image.open(args.image) as given:
        answer, bits = compare(given, output.images[0])
    print(f"{answer}: {args.image}" + ("" if answer == "equal" else f" differs in {bits} of 64 bits of its hash"))
    return DIFFERENT if answer == "different" else DONE


def load(model: Model, record: "Record", image: Path) -> "DiffusionPipeline":
    """The pipeline, in the number format of the record, which must be of its weights and take its call."""
    from ..evaluation.identity import pipeline_weights, versions
    from ..evaluation.record import checkpoint_digest

    pipe = replace(model, dtype=record.dtype).load()
    check_call(pipe, [record.condition], record.call)
    if checkpoint_digest(pipeline_weights(pipe)) != record.checkpoint:
        raise ValueError(f"{image} was drawn with other weights than those of {model.name}; give its own checkpoint")
    now = versions()
    if other := [f"{name} {was}" for name, was in record.versions.items() if now.get(name, was) != was]:
        print(f"drawn with other versions: {', '.join(map(str, other))}")
    return pipe


def compare(given: "Image", drawn: "Image") -> "tuple[str, int]":
    """`equal`, `near` or `different`, and how many of 64 bits of the hash differ. Sizes that differ are different."""
    if given.size != drawn.size:
        return "different", 64
    if given.mode == drawn.mode and given.tobytes() == drawn.tobytes():
        return "equal", 0
    bits = sum(a != b for a, b in zip(difference_hash(given), difference_hash(drawn), strict=True))
    return ("near" if bits <= BOUND else "different"), bits


def difference_hash(image: "Image") -> list[bool]:
    """64 bits: whether each of 8 x 9 grey areas is brighter than its right neighbour (the hash called dHash)."""
    from PIL.Image import Resampling

    grey = image.convert("L").resize((9, 8), Resampling.BOX).tobytes()
    return [grey[9 * y + x] > grey[9 * y + x + 1] + LEVELS for y in range(8) for x in range(8)]
