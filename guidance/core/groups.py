"""Arguments of a callback that belong together, as one frozen dataclass; files and command lines name each of them.

`Guide(Strength(scale=2.0))` is written `{"callback": "Guide", "scale": 2.0}` and `guide:scale=2`. An argument is such a
group if its default is an instance of a dataclass. Names of fields and arguments of a callback all differ.
"""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any


def parameters(kind: type) -> dict[str, Any]:
    """name -> default (or `inspect.Parameter.empty`) of every argument of a callback class, groups by their fields."""
    return ungrouped(_defaults(kind))


def ungrouped(arguments: Mapping[str, object]) -> dict[str, Any]:
    """`arguments` with the fields of every group in its place."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        found |= _fields(value) if _is_group(value) else {name: value}
    return found


def grouped(kind: type, arguments: Mapping[str, object]) -> dict[str, Any]:
    """The other way round: `arguments` of a callback class with the fields of its groups put together.

    Raises:
        ValueError: a group's own, for a field out of range.
    """
    rest = dict(arguments)
    for name, default in _defaults(kind).items():
        if _is_group(default) and (own := {field: rest.pop(field) for field in _fields(default) if field in rest}):
            rest[name] = replace(default, **own)
    return rest


def _is_group(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _fields(group: Any) -> dict[str, Any]:
    return {field.name: getattr(group, field.name) for field in fields(group)}


def _defaults(kind: Any) -> dict[str, Any]:
    known = inspect.signature(kind.__init__).parameters.values()
    return {parameter.name: parameter.default for parameter in known if parameter.name != "self"}
