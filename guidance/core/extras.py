"""Packages that only some uses need, and what to install when one of them is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


#: Import name -> the extra of this distribution that installs it.
EXTRAS = {
    "accelerate": "evaluation",
    "gradio": "play",
    "matplotlib": "plots",
    "open_clip": "evaluation",
    "PIL": "detection",
    "scipy": "evaluation",
    "skimage": "test",
    "sklearn": "demo",
    "timm": "evaluation",
    "torch_fidelity": "evaluation",
    "torchvision": "evaluation",
    "tqdm": "evaluation",
}


@contextmanager
def naming_the_extra(extra: str | None = None) -> Iterator[None]:
    """Turn "No module named ..." into a sentence that says what to install.

    Args:
        extra: to name, in place of the one that `EXTRAS` has for the missing package.

    Raises:
        ModuleNotFoundError: as inside, with that sentence where the package belongs to an extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRAS or "pip install" in str(error):
            raise
        raise ModuleNotFoundError(
            f"this needs {name}, which is not installed: pip install 'diffusion-guidance[{extra or EXTRAS[name]}]'",
            name=error.name,
        ) from error
