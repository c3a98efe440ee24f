"""Every way of guidance on the same seeds in one run, ours and diffusers' own.

    peers-digits    the digits, in pixels, by DDIM
    peers-shapes    the shapes, in latents, by a flow model

In each world all have the same number of network evaluations (one gives both predictions), so what looks ahead takes
fewer steps; only what compares with a changed network has as many steps, and an evaluation more in each (`nfe` tells).
Weights mean different things to different methods, so each row stands next to plain guidance of the same effective
weight. A guider of diffusers has its own defaults except for the weight. Two hours on two cores:

    python -m scripts.studies.peers
    python -m scripts.studies.peers --reports peers-digits --samples 100 --out out/quick.json     # a quick look
"""

from collections.abc import Mapping, Sequence
from functools import partial

from diffusion_guidance.evaluation import estimates_row
from diffusion_guidance.evaluation.store import ChunkStore
from diffusion_guidance.evaluation.study import Setting, row_name, study
from scripts.studies.diffier_rows import RAAG_ALPHA
from scripts.studies.peers_difference import Drawn, difference, difference_at_equal_weight
from scripts.studies.peers_methods import BUDGET, PLAIN, PUBLISHED, WEIGHTS, Peer, peers
from scripts.studies.peers_report import best_table, plot, ranked_table
from scripts.studies.study import DTYPE, Report, Run, Study, Table, load_world, of_rows, span


SAMPLES = 1000
BATCH = 125


def measure(name: str, run: Run) -> tuple[dict, list[dict]]:
    """The facts and rows of a world."""
    count = run.samples or SAMPLES
    rows = [{"world": name, **row} for row in measure_world(name, run, count)]
    facts = {"samples": count, "seeds": span(count), "dtype": DTYPE[name], "raag_alpha": RAAG_ALPHA}
    return facts | {"raag_published": PUBLISHED}, rows


def measure_world(name: str, run: Run, count: int) -> list[dict]:
    world, known = load_world(name, run.assets), peers(name, run.assets)
    rows = run.wanted([row for method, peer in known.items() for row in peer.rows(method, BUDGET[name])])
    folder = run.work / f"{name}-{count}"

    def setting(row: Mapping) -> Setting:
        peer: Peer = known[row["method"]]
        # The scale only switches the unconditional pass on.
        call = {"guidance_scale": 2.0, "num_inference_steps": row["steps"]}
        return Setting(world.pipe, peer.make(row[peer.setting]), call, world.subject)

    found = [_as_alignment(row) for row in study(rows, setting, folder, range(count), batch_size=BATCH)]
    stores = [ChunkStore(folder / row_name(row) / "samples", count, BATCH) for row in rows]
    drawn = [Drawn.of(store, world.subject.reference) for store in stores]
    return [row | compared(row, own, found, drawn) for row, own in zip(found, drawn, strict=True)]


def compared(row: Mapping, own: Drawn, rows: Sequence[Mapping], drawn: Sequence[Drawn]) -> dict:
    """The differences of a row to plain guidance at its effective weight, and at plain guidance's best weight.

    A point of the curve itself is compared with what its neighbours make of its place: the error of interpolation.
    """
    pairs = list(zip(rows, drawn, strict=True))
    curve = [each for other, each in pairs if other["method"] == PLAIN and each is not own]
    plain = [(other["frechet"], each) for other, each in pairs if other["method"] == PLAIN]
    found = difference_at_equal_weight(own, curve) if len(curve) > 1 else []
    if plain and row["method"] != PLAIN:
        found.append(difference(own, min(plain, key=lambda pair: pair[0])[1], "difference_to_best"))
    return estimates_row(found)


def _as_alignment(row: dict) -> dict:
    """The worlds' scores under one name: the share of images that show what was asked for."""
    return {name.replace("accuracy", "alignment"): value for name, value in row.items()}


def report(world: str) -> Report:
    name = f"peers-{world}"
    tables = (("ranked", ranked_table), ("as it is", best_table))
    shown = [Table("docs/peers.md", f"{world} {mark}", name, of_rows(render)) for mark, render in tables]
    return Report(name, partial(measure, world), shown, {"": plot})


STUDY = Study(__doc__, tuple(map(report, WEIGHTS)), samples=str(SAMPLES))

if __name__ == "__main__":
    STUDY.main()
