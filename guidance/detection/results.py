"""Files of results, CSV or JSON lines: one row per image, appended batch by batch, so that a killed run can resume."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from ..core.files import write_atomic, write_json
from ..core.json_files import parse_json, read_settings_file


FIELDS = ("path", "verdict", "score", "width", "height", "format", "note", "error", "bytes", "modified_ns")
SUFFIXES = (".csv", ".jsonl")
_OTHERWISE = "give another name, or --overwrite"
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets compute cells that begin so


def file_stamp(path: str | os.PathLike) -> dict:
    """`bytes` and `modified_ns` of a file, by which a later run sees that it was changed; None if it has neither."""
    try:
        status = os.stat(path)
    except OSError:
        return {"bytes": None, "modified_ns": None}
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def encode_rows(rows: Iterable[dict], suffix: str, header: bool = False) -> bytes:
    """`rows` with `FIELDS` as bytes of a file with that suffix.

    A path's bytes are kept in CSV even where they are not UTF-8; JSON writes them as lone surrogates, as Python does.
    In CSV an apostrophe precedes text that a spreadsheet would compute, or that begins with one; `read_rows` takes it
    off.
    """
    if suffix == ".jsonl":
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode("ascii")
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS)
    if header:
        writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_rows(path: str | os.PathLike) -> Iterator[tuple[dict, int]]:
    """Each whole row with the offset of its end; a last one that was cut off is left out.

    Numbers of a CSV file come as text, and what is absent as "".
    """
    end = 0
    with open(path, "rb") as file:

        def lines() -> Iterator[str]:
            nonlocal end
            for line in file:
                if line.endswith(b"\n"):
                    end += len(line)
                    yield line.decode("utf-8", "surrogateescape")

        if Path(path).suffix == ".jsonl":
            for line in lines():
                row = parse_json(line)
                if not isinstance(row, dict) or set(row) != set(FIELDS):
                    raise ValueError(f"{path} has a line that is not a row of ours: {line[:60]!r}; give another name")
                yield row, end
            return
        reader = csv.reader(lines())  # takes one line after another, and more for a path that holds a line break
        next(reader, None)
        for values in reader:
            if len(values) == len(FIELDS):
                yield dict(zip(FIELDS, (value.removeprefix("'") for value in values), strict=True)), end


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith((*_FORMULAS, "'")) else value


class ResultFile:
    """A file that rows are appended to, batch by batch, and where a later run of the same settings goes on.

    `PATH.json` next to it holds the settings that all its rows were made with, and the names of their fields.

    Args:
        path: ends in .csv or .jsonl.
        settings: JSON-serialisable; all that a row depends on, except the image file.

    Raises:
        ValueError: another suffix, or `path` exists and was not made with these settings.
    """

    def __init__(self, path: str | os.PathLike, settings: dict):
        self.path = Path(path)
        settings = settings | {"fields": list(FIELDS)}
        if self.path.suffix not in SUFFIXES:
            raise ValueError(f"results are written to a file that ends in {' or '.join(SUFFIXES)}, not to {path}")
        if self.path.exists():
            settings_file = settings_path(path)
            if not settings_file.is_file():
                raise ValueError(f"{path} exists and holds no results of ours; give another name")
            before = read_settings_file(settings_file, _OTHERWISE)
            before.pop("notes", None)
            other = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
            if other:
                raise ValueError(f"{path} was made with another {', '.join(other)}; {_OTHERWISE}")
        else:
            write_json(settings_path(path), settings)

    def resume(
        self, batches: Iterable[Sequence[str]], seen: Callable[[dict], object] = lambda row: None
    ) -> Iterator[Sequence[str]]:
        """The batches of paths that are not in the file yet. `seen` gets every row that is.

        A partial batch is cut off and done again, so that each image has the same neighbours as in an undisturbed
        run.

        Raises:
            ValueError: the file is of another list of paths.
        """
        batches, end = iter(batches), 0
        for batch, rows, offset in self._known(batches):
            if len(rows) < len(batch):
                batches = chain([batch], batches)
                break
            end = offset
            for row in rows:
                seen(row)
        if self.path.exists():
            os.truncate(self.path, end)
        return batches

    def changed(self, batches: Iterable[Sequence[str]]) -> set[int]:
        """Positions of the whole batches in which the size or time of a file differs from its row.

        Raises:
            ValueError: the file is of another list of paths.
        """
        found = set()
        for position, (batch, rows, _) in enumerate(self._known(batches)):
            if len(rows) < len(batch):
                break
            if any(_stamp_text(row) != _stamp_text(file_stamp(row["path"])) for row in rows):
                found.add(position)
        return found

    def replace(self, positions: set[int], scored: Iterator[list[dict]], size: int) -> None:
        """Put `scored` in place of the batches at `positions`, all of `size` rows; the file changes at the end."""

        def write(temporary: Path) -> None:
            rows = (row for row, _ in read_rows(self.path))
            with open(temporary, "wb") as file:
                position = 0
                while old := list(islice(rows, size)):
                    new = next(scored) if position in positions else old
                    file.write(encode_rows(new, self.path.suffix, header=not position))
                    position += 1

        write_atomic(self.path, write)

    def append(self, rows: list[dict]) -> None:
        """Write a batch in one go."""
        with open(self.path, "ab") as file:
            file.write(encode_rows(rows, self.path.suffix, header=not file.tell()))

    def _known(self, batches: Iterable[Sequence[str]]) -> Iterator[tuple[Sequence[str], list[dict], int]]:
        """Each batch, those of its rows that are in the file, and the offset of their end."""
        rows = read_rows(self.path) if self.path.exists() else iter(())
        for batch in batches:
            found = list(islice(rows, len(batch)))
            for (row, _), path in zip(found, batch, strict=False):
                if row["path"] != path:
                    raise self._other_list(row["path"], path)
            yield batch, [row for row, _ in found], found[-1][1] if found else 0
        for row, _ in rows:
            raise self._other_list(row["path"], "the end of the list")

    def _other_list(self, found: str, expected: str) -> ValueError:
        return ValueError(
            f"{self.path} is of another list of files: it has {found!r} in place of {expected!r}; {_OTHERWISE}"
        )


def settings_path(path: str | os.PathLike) -> Path:
    """Where the settings of a file of results lie."""
    return Path(f"{os.fspath(path)}.json")


def note(path: str | os.PathLike, notes: dict) -> None:
    """Store notes for readers of a file of results next to its settings; a later run may replace them."""
    settings_file = settings_path(path)
    write_json(settings_file, read_settings_file(settings_file, _OTHERWISE) | {"notes": notes})


def _stamp_text(row: dict) -> list[str]:
    """Of `file_stamp`, or of a row: as text, since CSV knows nothing else."""
    return ["" if row[name] is None else str(row[name]) for name in ("bytes", "modified_ns")]
