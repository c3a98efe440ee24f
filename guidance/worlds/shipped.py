"""The small checkpoints that ship, found in a checkout and in an installed wheel alike."""

from pathlib import Path


WORLDS = ("shapes", "digits", "emoji")


def assets_folder() -> Path:
    """The folder that holds the shipped checkpoints: `assets_folder() / "shapes"`."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"


def shipped_path(name: str) -> str:
    """`name`, or the shipped checkpoint that it means: `assets/shapes` works in every folder.

    A path that exists is taken as it is.
    """
    path = Path(name)
    if path.parts[:1] != ("assets",) or path.exists():
        return name
    shipped = assets_folder().joinpath(*path.parts[1:])
    return str(shipped) if shipped.exists() else name
