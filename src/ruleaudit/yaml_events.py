"""YAML documents as plain values, built from the parser's events. Apart, because importing yaml costs time that JSON input need
not pay.

PyYAML's own composer recurses, in C, once for each level of nesting, and a hostile file ends the process; this one counts
levels, and what aliases stand for. Scalars are read as JSON would have them (YAML 1.2 core schema): `on`, `12:30` and
`2026-01-01` are text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["YAMLRefusedError", "documents"]

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]")
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NUMBER_STARTS: Final = frozenset("-+.0123456789")
_NO_KEY: Final = object()
_Container = dict[object, object] | list[object]
_MAX_DEPTH: Final = 200
_MIN_BUDGET: Final = 10_000


class YAMLRefusedError(Exception):
    """A document that no cluster writes: too deep, or its aliases stand for too much. `line` is 1-based."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


def scalar(text: str) -> str | int | float | bool | None:
    """The value of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in _NUMBER_STARTS and not _LEADING_ZERO.match(text):
        if _INTEGER.match(text):
            return int(text) if len(text) < 40 else text
        if _FLOAT.match(text):
            return float(text)
    return text


def documents(data: bytes) -> Iterator[object]:
    """The documents of `data` in order; empty ones are left out. Raises yaml.YAMLError, or YAMLRefusedError."""
    budget = max(len(data), _MIN_BUDGET)
    anchors: dict[str, tuple[object, int]] = {}
    outer: list[tuple[_Container | None, object, str | None, int]] = []
    container: _Container | None = None
    key: object = _NO_KEY
    values = 0
    root: object = None
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, ScalarEvent):
            value: object = scalar(event.value) if event.implicit[0] else event.value
            values += 1
            if event.anchor:
                anchors[event.anchor] = (value, 1)
            if isinstance(container, dict) and key is _NO_KEY:
                key = event.value
                continue
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            if len(outer) >= _MAX_DEPTH:
                raise YAMLRefusedError("nested too deeply to be Kubernetes objects", _line(event))
            if isinstance(container, dict) and key is _NO_KEY:
                raise YAMLRefusedError("a mapping or list is used as a key", _line(event))
            outer.append((container, key, event.anchor, values))
            container = {} if isinstance(event, MappingStartEvent) else []
            key = _NO_KEY
            continue
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            value = container
            container, key, anchor, before = outer.pop()
            values += 1
            if anchor:
                anchors[anchor] = (value, values - before)
        elif isinstance(event, AliasEvent):
            if event.anchor not in anchors:
                raise YAMLRefusedError(f"alias *{event.anchor} without its anchor", _line(event))
            if isinstance(container, dict) and key is _NO_KEY:
                raise YAMLRefusedError("an alias is used as a key", _line(event))
            value, size = anchors[event.anchor]
            values += size
            if values > budget:
                raise YAMLRefusedError("its aliases stand for more than the whole text could hold", _line(event))
        elif isinstance(event, DocumentEndEvent):
            if root is not None:
                yield root
            root = None
            anchors.clear()
            continue
        else:
            continue
        if container is None:
            root = value
        elif isinstance(container, list):
            container.append(value)
        else:
            container[key] = value
            key = _NO_KEY


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return 1 if mark is None else mark.line + 1
