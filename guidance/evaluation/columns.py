"""Columns that distinguish the rows of a report: every setting of every callback that is not at its default."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ..core.callback import Callback
from ..core.configuration import to_config
from ..core.groups import parameters
from .effective import FIELD
from .metrics.registry import LABELS


#: Columns with a meaning of their own, which no setting may take.
TAKEN = frozenset({"method", "steps", "nfe", "samples", FIELD, *LABELS})


def setting_columns(chains: Sequence[Sequence[Callback]], rows: Sequence[Mapping]) -> list[dict]:
    """For each row, its settings: those that differ from their default in one of the chains.

    Two rows of the same callbacks therefore never agree in all columns unless all their settings agree. A setting is
    called by its argument, or `CALLBACK.ARGUMENT` where the row has that name already with another value.

    Args:
        chains: the callbacks of each row.
        rows: what the rows already hold, such as `weight`.
    """
    tables = [_settings(chain) for chain in chains]
    shown = {key for table in tables for key, (_, default) in table.items() if not default}
    return [
        _named({key: value for key, (value, _) in table.items() if key in shown}, row)
        for table, row in zip(tables, rows, strict=True)
    ]


def _settings(chain: Sequence[Callback]) -> dict[tuple[str, str], tuple[object, bool]]:
    """(callback, argument) -> (value, whether it is the default); a callback that comes again gets a number."""
    table: dict[tuple[str, str], tuple[object, bool]] = {}
    seen: Counter[str] = Counter()
    for callback, entry in zip(chain, to_config(chain), strict=True):
        name = entry["callback"].lower()
        seen[name] += 1
        known = parameters(type(callback))
        for argument, value in entry.items():
            if argument != "callback":
                default = argument in known and known[argument] == value
                table[name if seen[name] == 1 else f"{name}{seen[name]}", argument] = (value, default)
    return table


def _named(settings: Mapping[tuple[str, str], object], row: Mapping) -> dict:
    counts = Counter(argument for _, argument in settings)
    columns = {}
    for (callback, argument), value in settings.items():
        if argument in row and row[argument] == value:
            continue
        own = counts[argument] > 1 or argument in row or argument in TAKEN
        columns[f"{callback}.{argument}" if own else argument] = value
    return columns
