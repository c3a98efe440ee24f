"""Store what a trace recorded for every image of a folder, batch by batch, so that it survives a killed run."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..core.files import sweep, write_atomic, write_json
from ..evaluation.sampling import Job
from ..methods.trace import Trace, finite


class TraceStore:
    """The traces of the images in a folder, kept next to it: a plot in the folder would count as an image.

    Args:
        images: folder of the images.
        trace: what records.
        number: of this trace, where there are several.
    """

    def __init__(self, images: Path, trace: Trace, number: int = 1):
        self.images, self.trace = Path(images), trace
        self.folder = trace_folder(images)
        self._name = "trace" if number == 1 else f"trace-{number}"
        self._parts = self.folder / f"{self._name}-parts"

    def keep(self, jobs: Sequence[Job]) -> None:
        """Store what was recorded of the batch `jobs`, and forget it. Nothing is done if nothing was recorded."""
        if not self.trace.runs:
            return
        data = {name: values.contiguous() for name, values in self.trace.to_dict(-1).items()}
        self.trace.runs.clear()
        names = json.dumps([job.path.relative_to(self.images).as_posix() for job in jobs])
        taken = [int(path.stem) for path in self._files()]
        path = self._parts / f"{max(taken, default=-1) + 1:08d}.safetensors"
        write_atomic(path, lambda temporary: save_file(data, temporary, metadata={"images": names}))

    def publish(self) -> list[Path]:
        """Write trace.json, with the images that its columns are of, and trace.png; nothing without a trace."""
        parts, seen = [], set()
        for path in reversed(self._files()):  # an image that was drawn again counts as it was drawn last
            with safe_open(path, framework="pt") as file:
                names = json.loads(file.metadata()["images"])
                kept = [i for i, name in enumerate(names) if name not in seen and (self.images / name).exists()]
                data = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            seen.update(names)
            if kept:
                columns = {name: values[:, kept] if values.ndim > 1 else values for name, values in data.items()}
                parts.append(([names[i] for i in kept], columns))
        if not parts:
            return []
        runs = _joined(parts[::-1])
        self.trace.runs[:] = [{name: list(values) for name, values in data.items()} for _, data in runs]
        numbers = [{name: finite(values.tolist()) for name, values in data.items()} for _, data in runs]
        report = {"runs": numbers, "images": [names for names, _ in runs]}
        paths = [write_json(self.folder / f"{self._name}.json", report)]
        paths.append(self.folder / f"{self._name}.png")
        self.trace.plot(paths[-1])
        return paths

    def _files(self) -> list[Path]:
        sweep(self._parts)
        return sorted(self._parts.glob("[0-9]*.safetensors"))


def trace_folder(images: Path) -> Path:
    """Where the traces of the images in a folder lie: `FOLDER-trace`, next to it."""
    images = Path(images).absolute()
    return images.with_name(f"{images.name}-trace")


def _joined(parts: list[tuple[list[str], dict[str, torch.Tensor]]]) -> list[tuple[list[str], dict[str, torch.Tensor]]]:
    """All parts as one run where they have the same steps and values; else as they are."""
    shapes = {tuple((name, len(values), values.ndim) for name, values in sorted(data.items())) for _, data in parts}
    if len(shapes) > 1:
        return parts
    data = {
        name: torch.cat([part[name] for _, part in parts], 1) if values.ndim > 1 else values
        for name, values in parts[0][1].items()
    }
    return [([name for names, _ in parts for name in names], data)]
