"""The settings that all results in a folder share: stored next to them, and compared before more are added."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..core.files import write_json
from ..core.json_files import read_settings_file
from ..images.byproducts import left_out
from ..images.listing import SUFFIXES
from .identity import versions


NAME = "settings.json"


def read_settings(folder: Path) -> dict | None:
    """The settings kept in `folder`; None if there are none. Raises ValueError if the file is damaged."""
    path = Path(folder) / NAME
    return read_settings_file(path, "choose another folder") if path.exists() else None


def keep_settings(folder: Path, settings: Mapping) -> None:
    """Write `settings` and the versions in use to `folder`/settings.json, or check that they are the same.

    Raises:
        ValueError: the folder holds results of other settings, weights or versions, and the message names those that
            differ; or it holds images of which nothing is known.
    """
    folder = Path(folder)
    before = read_settings(folder)
    now = versions()
    if before is None:
        if image := _first_image(folder):
            raise ValueError(f"{folder} holds images, such as {image}, and no {NAME}; choose a folder without images")
        write_json(folder / NAME, {**settings, "versions": now})
        return
    # As JSON has them: tuples are lists there.
    settings = json.loads(json.dumps(dict(settings)))
    differing = [_difference(name, before, value) for name, value in sorted(settings.items())]
    differing += _other_versions(before.get("versions"), now)
    if differing := [text for text in differing if text]:
        raise ValueError(
            f"{folder} holds images made with another {', '.join(differing)} (see {folder / NAME}); "
            "choose another folder"
        )


def _first_image(folder: Path) -> str | None:
    names = os.listdir(folder) if folder.is_dir() else []
    ours = left_out(str(folder), names)
    return min((name for name in names if Path(name).suffix.lower() in SUFFIXES and name not in ours), default=None)


def _difference(name: str, before: Mapping, value: object) -> str | None:
    """What differs, in words; None if nothing does."""
    if name in before and before[name] == value:
        return None
    if name not in before:
        return f"{name} (none is recorded)" if value else None
    if name == "weights" and isinstance(before[name], dict) and isinstance(value, dict):
        files = sorted(file for file in {*value, *before[name]} if value.get(file) != before[name].get(file))
        return f"{name} ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})"
    return name


def _other_versions(before: object, now: Mapping[str, str]) -> list[str]:
    """Libraries with another version than before; those that only one side has are not compared, nor is Python."""
    before = before if isinstance(before, dict) else {}
    shared = [name for name in now if name in before and name != "python"]
    return [f"{name} ({before[name]}, now {now[name]})" for name in shared if before[name] != now[name]]
