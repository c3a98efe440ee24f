"""What a study declares, and the one runner for all: its reports, how each is measured, their tables and plots.

Every command has the same options. What is drawn is kept in --work, so a killed study resumes where it stopped; a quick
look is `--samples 12 --only FIELD=VALUE --out out/quick.json`.
"""

import argparse
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from diffusers import DDIMScheduler
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffusion_guidance.core.files import file_digest, write_atomic
from diffusion_guidance.evaluation import Subject, describe_run, read_report, write_report
from diffusion_guidance.evaluation.subjects import load_subject
from diffusion_guidance.pipelines import load_pipeline


ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
_REPORT = "report"  # the text of a plot that holds the SHA-256 of what it shows
#: Of the pipeline of each world.
DTYPE = {"digits": "float32", "shapes": "bfloat16", "emoji": "bfloat16"}


@dataclass(frozen=True)
class Run:
    """What a command line asks for.

    Attributes:
        samples: images per row, or a set; None for the study's own.
        worlds: the names of those to measure.
        only: field -> the values, as text, that rows with this field must have.
        assets, work: where checkpoints are, and where finished rows are kept.
        out: the study's first report; further ones are written next to it.
    """

    samples: int | None
    worlds: Sequence[str]
    only: Mapping[str, Sequence[str]]
    assets: Path
    work: Path
    out: Path

    def wanted(self, rows: Sequence[dict]) -> list[dict]:
        """The rows without those that have another value of a field of `only`.

        Raises:
            ValueError: none is left.
        """
        kept = [row for row in rows if all(_text(row[name]) in self.values(name) for name in self.only if name in row)]
        if rows and not kept:
            known = {name: sorted({_text(row[name]) for row in rows if name in row}) for name in self.only}
            raise ValueError(f"--only leaves no row; there are {known}")
        return kept

    def values(self, name: str) -> set[str]:
        """Those that `only` has for a field, as text."""
        return {_text(value) for value in self.only[name]}


def _text(value: object) -> str:
    """How a value is given on the command line: 3 and 3.0 are the same."""
    with contextlib.suppress(ValueError):
        return f"{float(str(value)):g}"
    return str(value)


@dataclass(frozen=True)
class Table:
    """A table of a document.

    Attributes:
        document: path of the document, from the root.
        mark: it stands between `<!-- MARK -->` and `<!-- end -->`.
        result: name of the report in docs/results that it is made from; None where it is made from the source.
        render: the table from the report's facts and rows.
    """

    document: str
    mark: str
    result: str | None
    render: Callable[[dict, list[dict]], str]

    def made(self) -> str:
        """The table as the report has it today."""
        return self.render(*(({}, []) if self.result is None else read_report(RESULTS / f"{self.result}.json")))

    def written(self) -> str:
        """The table as it stands in the document.

        Raises:
            ValueError: the document has no such mark, or more than one.
        """
        text = (ROOT / self.document).read_text(encoding="utf-8")
        found = re.findall(rf"<!-- {re.escape(self.mark)} -->\n(.*?)<!-- end -->", text, flags=re.S)
        if len(found) != 1:
            raise ValueError(f"{self.document} has {len(found)} places <!-- {self.mark} --> ... <!-- end -->, not one")
        return found[0]


def of_rows(table: Callable[..., str], *args: object) -> Callable[[dict, list[dict]], str]:
    """A table that needs the rows alone."""
    return lambda meta, rows: table(rows, *args)


@dataclass(frozen=True)
class Report:
    """One report in docs/results.

    Attributes:
        name: of the file, without `.json`.
        measure: the facts that `describe_run` records, and the rows.
        tables: of the documents, made from it.
        plots: what follows the name in the name of a PNG -> what draws it from the rows.
    """

    name: str
    measure: Callable[[Run], tuple[dict, list[dict]]]
    tables: Sequence[Table] = ()
    plots: Mapping[str, Callable[[Path, list[dict]], object]] = field(default_factory=dict)

    def make(self, run: Run, path: Path) -> None:
        """Measure, write the report and its plots, and print its tables."""
        facts, rows = self.measure(run)
        meta = describe_run(**facts)
        print(write_report(path, meta, rows))
        self.draw(path)
        for table in self.tables:
            print(f"\n{table.render(meta, rows)}")

    def draw(self, path: Path) -> list[Path]:
        """Draw its plots from the report at `path`, next to it. Each says which report it shows."""
        rows, drawn = read_report(path)[1], []
        for suffix, draw in self.plots.items():
            plot = path.with_name(f"{path.stem}{suffix}.png")
            plot.unlink(missing_ok=True)
            draw(plot, rows)
            if plot.exists():  # a world without rows has none
                _stamp(plot, file_digest(path))
                drawn.append(plot)
        return drawn

    def stale_plots(self) -> list[Path]:
        """Those in docs/results that do not show the report as it is today."""
        report = RESULTS / f"{self.name}.json"
        plots = [RESULTS / f"{self.name}{suffix}.png" for suffix in self.plots]
        return [plot for plot in plots if not plot.exists() or _stamped(plot) != file_digest(report)]


def _stamp(plot: Path, digest: str) -> None:
    """Write the SHA-256 of its report into a PNG."""
    info = PngInfo()
    info.add_text(_REPORT, digest)
    with Image.open(plot) as image:
        image.load()
    write_atomic(plot, lambda temporary: image.save(temporary, format="PNG", pnginfo=info, optimize=True))


def _stamped(plot: Path) -> str | None:
    with Image.open(plot) as image:
        return image.info.get(_REPORT)


@dataclass(frozen=True)
class Study:
    """Reports that belong together, in the order in which they are measured; `samples` is for the help."""

    description: str
    reports: Sequence[Report]
    samples: str
    worlds: Sequence[str] = ()

    def results(self) -> tuple[str, ...]:
        """The names of its reports."""
        return tuple(report.name for report in self.reports)

    def main(self, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        names = self.results()
        name = names[0]
        parser.add_argument("--samples", type=int, help=f"images per row, or a set (default {self.samples})")
        if self.worlds:
            parser.add_argument("--worlds", nargs="+", choices=self.worlds, default=self.worlds)
        text = "leave out the rows that have FIELD with another value"
        parser.add_argument("--only", nargs="+", type=_filter, default=[], metavar="FIELD=VALUE,...", help=text)
        parser.add_argument("--reports", nargs="+", choices=names, default=names, help="default: all")
        parser.add_argument("--assets", type=Path, default=ROOT / "assets")
        parser.add_argument("--work", type=Path, default=Path(f"out/study-{name}"), help="what is drawn and measured")
        parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="the report; others next to it")
        args = parser.parse_args(arguments)
        worlds = args.worlds if self.worlds else ()
        run = Run(args.samples, worlds, dict(args.only), args.assets, args.work, args.out)
        for report in self.reports:
            if report.name in args.reports:
                report.make(run, args.out.with_name(f"{report.name.replace(name, args.out.stem, 1)}.json"))


@dataclass(frozen=True)
class World:
    """A loaded world: its name, its pipeline, and how the pipeline's images are judged."""

    name: str
    pipe: object
    subject: Subject


def load_world(name: str, assets: Path) -> World:
    """The pipeline of `name` with a deterministic sampler of one evaluation per step, and its subject."""
    pipe = load_pipeline(str(assets / name), DTYPE[name])
    if name == "digits":
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    subject = load_subject(name, assets, pipe.device)
    return World(name, pipe, replace(subject, settings={"pipeline": name, "dtype": DTYPE[name], **subject.settings}))


def span(count: int, first: int = 0) -> str:
    """The seeds of a row, in words."""
    return f"{first}-{first + count - 1}"


def _filter(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"cannot read {text!r}; write FIELD=VALUE,VALUE")
    return name, values.split(",")
