"""What a file that comes along with a checkpoint may say without being trusted.

A `guidance.json` next to a checkpoint is loaded by itself only if all its callbacks are plain: numbers, and words that
their classes list. A callback that names files, networks or libraries (a classifier, a decoder) would load what the
checkpoint's author chose, so it needs `trust_guidance=True`, as diffusers asks for `trust_remote_code`. Trusted or not,
nothing is unpickled, no module is imported by a name from a file, and constructors get the arguments that they list.
"""

from collections.abc import Mapping

from .callback import Callback
from .kinds import find_kind


MAX_NUMBERS = 4096  # of a list, such as a weight for each step
LIBRARIES = ("diffusers", "transformers")


def require_plain(
    config: list[dict],
    source: object,
    advice: str = "pass trust_guidance=True (--trust-guidance) if you trust its author",
) -> None:
    """Raise ValueError unless every callback of `config` is plain; the sentence names the callback and the flag.

    Args:
        config: as `to_config` gives it.
        source, advice: for the message: where the configuration is from, and what to do.
    """
    for entry in config:
        kind = find_kind(str(entry["callback"]))
        for name, value in entry.items():
            if name != "callback" and not _is_plain(kind, name, value):
                raise ValueError(
                    f"{str(entry['callback'])[:50]} has {name[:50]}={str(value)[:60]!r}, which can name files, "
                    f"networks or libraries, and comes from {source}; {advice}"
                )


def check_parts(index: Mapping[str, object]) -> None:
    """Raise ValueError if a model_index.json names code that is neither diffusers' nor transformers'.

    diffusers imports a part's library by its name: with the working directory on the path, any module there.
    """
    from diffusers import pipelines

    for part, value in index.items():
        if part.startswith("_") or not (isinstance(value, list | tuple) and len(value) == 2):
            continue
        if not isinstance(value[0], str):  # absent, or numbers
            continue
        library = value[0]
        if library not in LIBRARIES and not (library.isidentifier() and hasattr(pipelines, library)):
            raise ValueError(
                f"model_index.json takes {part!r} from {library[:50]!r}, which is not part of diffusers or transformers"
                "; build that part in Python and pass it, or pass trust_remote_code=True if you trust its author"
            )


def _is_plain(kind: type[Callback] | None, name: str, value: object) -> bool:
    if isinstance(value, str):
        return kind is not None and value in kind.words.get(name, ())
    if isinstance(value, list):
        return len(value) <= MAX_NUMBERS and all(isinstance(each, int | float) for each in value)
    return value is None or isinstance(value, bool | int | float)
