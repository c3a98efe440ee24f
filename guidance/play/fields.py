"""Methods and their settings, read from the callbacks' signatures: what a page can offer of each, and what it gave."""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from ..core.callback import Callback, settings
from ..core.configuration import from_config
from ..core.groups import parameters
from ..core.kinds import known_kinds
from ..core.short_form import parse_arguments, parse_value
from ..core.trust import require_plain


OWN = "none"  # the pipeline's own guidance
OBSERVERS = ("trace",)  # they draw nothing of their own, and the page has one
FRACTIONS = ("start", "stop")
STEP = 0.01  # of a slider

Kind = Literal["slider", "whole", "switch", "word", "text", "numbers"]


@dataclass(frozen=True)
class Field:
    """One setting: a slider from `low` to `high`, a whole number, a switch, one of `words`, text, numbers as JSON."""

    name: str
    kind: Kind
    value: Any  # to begin with, as `parse` takes it
    low: float = 0.0
    high: float = 1.0
    words: Sequence[str] = ()

    def parse(self, given: Any) -> Any:
        """The argument of the callback for what the page gave. Raises ValueError where it cannot be one."""
        if self.kind == "numbers":
            return _numbers(self.name, given)
        if self.kind in ("slider", "whole"):
            if not isinstance(given, int | float) or not math.isfinite(given):
                raise ValueError(f"{self.name} must be a number, got {given!r}")
            if self.kind == "whole" and given != int(given):
                raise ValueError(f"{self.name} must be a whole number, got {given!r}")
            return int(given) if self.kind == "whole" else float(given)
        return bool(given) if self.kind == "switch" else str(given or "")


def methods(begin: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, list[Field]]:
    """Every callback of the package that needs nothing but plain settings, and these; `none` has none.

    Args:
        begin: by the name of a method, settings to begin with in place of the defaults.
    """
    found: dict[str, list[Field]] = {OWN: []}
    for name, kind in sorted(known_kinds().items()):
        ours = kind.__module__.startswith("diffusion_guidance.")
        if ours and name not in OBSERVERS and inspect.Parameter.empty not in parameters(kind).values():
            found[name] = _fields(kind, (begin or {}).get(name, {}))
    return found


def read_start(text: str) -> tuple[str, dict[str, Any]]:
    """Method and settings to begin with, from `raag:w_max=5,alpha=2` or `none`. Raises ValueError for unknown ones."""
    if text == OWN:
        return OWN, {}
    (callback,) = parse_plain(text)[:1]
    name = type(callback).__name__.lower()
    if name not in methods():
        raise ValueError(f"{name} cannot be set in a page; there are {', '.join(methods())}")
    given = parse_arguments(text.partition(":")[2])
    return name, given


def build(fields: Sequence[Field], method: str, values: Sequence[Any], then: str = "") -> list[Callback]:
    """The callbacks of one column: the method with a value for each of its `fields`, and those of the text `then`.

    Raises:
        ValueError: a setting that the callback refuses, in its own sentence, or a text that is not plain guidance.
    """
    given = {field.name: field.parse(value) for field, value in zip(fields, values, strict=True)}
    first = [] if method == OWN else from_config([{"callback": method, **given}])
    return [*first, *parse_plain(then)]


def parse_plain(text: str) -> list[Callback]:
    """Callbacks in their short form, separated by blanks, with plain settings only: whoever sees a page may write it.

    Raises:
        ValueError: an unknown callback or argument, or a setting that could name a file, a network or a library.
    """
    config = []
    for part in text.split():
        name, _, rest = part.partition(":")
        config.append({"callback": name, **parse_arguments(rest)})
    require_plain(config, "the page", "use it in Python or with `generate`")
    return from_config(config)


def changed(callback: Callback) -> dict[str, Any]:
    """The settings of `callback` that are not the defaults."""
    defaults = parameters(type(callback))
    return {name: value for name, value in settings(callback).items() if value != defaults[name]}


def _fields(kind: type[Callback], begin: Mapping[str, Any]) -> list[Field]:
    hints = get_type_hints(kind.__init__)
    made = (
        _field(name, default, begin.get(name, default), kind.words.get(name, ()), str(hints.get(name, "")))
        for name, default in parameters(kind).items()
    )
    return [field for field in made if field is not None]


def _field(name: str, default: Any, value: Any, words: Sequence[str], hint: str) -> Field | None:
    """By the type of the value to begin with. None for what is neither text nor numbers: embeddings, networks."""
    if isinstance(value, bool):
        return Field(name, "switch", value)
    if isinstance(value, int) and isinstance(default, int):
        return Field(name, "whole", value)
    if isinstance(value, int | float) and (not value or abs(value) >= STEP):
        low, high = (0, 1) if name in FRACTIONS else (min(0.0, 4 * value), max(1.0, math.ceil(3 * abs(value))))
        return Field(name, "slider", float(value), low, high)
    if isinstance(value, str):
        return Field(name, "word", value, words=words) if len(words) > 1 else Field(name, "text", value)
    if "float" in hint or "int" in hint:
        return Field(name, "numbers", "" if value is None else json.dumps(value))
    return None


def _numbers(name: str, given: Any) -> Any:
    text = str(given if given is not None else "").strip()
    value = None if text in ("", "none", "None") else parse_value(text)
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in listed):
        raise ValueError(f"{name} takes a number, a list such as [7, 5, 3], or nothing, got {text[:50]!r}")
    return value
