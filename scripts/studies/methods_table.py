"""The table of methods in docs/methods.md, made from the docstrings of all callbacks below `guidance/methods`."""

import inspect
import re
import sys

from diffusion_guidance.core.callback import Callback
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.evaluation.report import markdown_table


COLUMNS = {"name": "callback", "does": "what it does", "source": "source", "neutral": "neutral setting"}
PAPER = re.compile(r"\d{4}\.\d{5}")


def table(meta: dict, rows: list[dict]) -> str:
    """A row for each callback, by name. Reports are not needed."""
    kinds = sorted(known_kinds().values(), key=lambda kind: kind.__name__.lower())
    shipped = [kind for kind in kinds if kind.__module__.startswith("diffusion_guidance.methods.")]
    return markdown_table([row(kind) for kind in shipped], COLUMNS)


def row(kind: type[Callback]) -> dict[str, str | None]:
    """What the docstring of `kind` says: its first sentence, and its lines `Neutral:` and `Source:`.

    Without a `Source:`, the papers are those that the first paragraph of its module names.

    Raises:
        ValueError: a class without a docstring.
    """
    if not (text := kind.__doc__):
        raise ValueError(f"{kind.__name__} has no docstring; its first sentence says what it does")
    module = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "").split("\n\n")[0]
    source = _line("Source", text) or ", ".join(f"arXiv {paper}" for paper in PAPER.findall(module)) or None
    links = source and PAPER.sub(lambda paper: f"[{paper[0]}](https://arxiv.org/abs/{paper[0]})", source)
    first = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return {
        "name": f"`{kind.__name__}`",
        "does": re.split(r"\.(?: |$)", first)[0],
        "source": links,
        "neutral": _line("Neutral", text),
    }


def _line(name: str, text: str) -> str | None:
    found = re.search(rf"^ *{name}: (.+?)\.?$", text, flags=re.M)
    return found[1] if found else None
