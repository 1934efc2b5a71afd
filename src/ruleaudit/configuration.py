"""The configuration: `ruleaudit.toml`, or `[tool.ruleaudit]` of a pyproject.toml.

It holds defaults for the options of the commands, and findings that are ignored in some place, each with a reason and until when.
What is in it and not known is refused, with the line where it stands: an ignore that is misspelt would ignore nothing, in silence.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date, datetime
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ruleaudit.errors import InputError
from ruleaudit.findings import Severity
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches
from ruleaudit.reports.formats import FORMATS, OutputNameError, target
from ruleaudit.reports.selection import code_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ruleaudit.findings import Finding

__all__ = ["Configuration", "Ignore", "find_configuration", "read_configuration"]

FILE: Final = "ruleaudit.toml"
PROJECT: Final = "pyproject.toml"
_TABLE: Final = ("tool", "ruleaudit")
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Ignore:
    """Findings that do not count in one place.

    `codes`: beginnings of codes ("RA301", "RA2"). `node`, `namespace`, `service` ("namespace/name"): where; None: everywhere; `*` and `?` stand
    for parts of a name. `reason`: why. `until`: the last day on which it applies, None: for ever. `place`: "file:line" of the entry.
    """

    codes: tuple[str, ...]
    reason: str
    node: str | None = None
    namespace: str | None = None
    service: str | None = None
    until: date | None = None
    place: str = ""

    def covers(self, finding: Finding, node: str | None) -> bool:
        """Whether it is about a finding of the node `node`."""
        namespace = None if finding.service is None else finding.service.partition("/")[0]
        return (
            finding.code.startswith(self.codes)
            and _fits(self.node, finding.node or node)
            and _fits(self.namespace, namespace)
            and _fits(self.service, finding.service)
        )

    def is_of(self, node: str | None) -> bool:
        """Whether it is about a node."""
        return _fits(self.node, node)

    def __str__(self) -> str:
        where = [f"{kind} {name}" for kind in ("node", "namespace", "service") if (name := getattr(self, kind)) is not None]
        return ", ".join(self.codes) + (f" for {', '.join(where)}" if where else "")


def _fits(wanted: str | None, name: str | None) -> bool:
    return wanted is None or (name is not None and fnmatchcase(name, wanted))


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a configuration file says. `options`: values by the parameters' names in the command line; paths in them are as the working
    directory needs them. `places`: "file:line" of each. `path`: the file, "" for none.
    """

    path: str = ""
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    ignores: tuple[Ignore, ...] = ()
    places: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


# --- finding the file ---


def find_configuration(folder: Path) -> Path | None:
    """The configuration for a folder: the nearest one of the folder and those above it; ruleaudit.toml before pyproject.toml.

    A pyproject.toml without `[tool.ruleaudit]` is none. Raises InputError where a file cannot be read.
    """
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return place / FILE
        project = place / PROJECT
        if project.is_file() and _has_table(project):
            return project
    return None


def _has_table(project: Path) -> bool:
    """Whether a pyproject.toml has a table for ruleaudit; one that is no TOML has, where it names the table."""
    text = _text(project)
    if "ruleaudit" not in text:
        return False
    try:
        tool = tomllib.loads(text).get("tool")
    except tomllib.TOMLDecodeError:
        return "tool.ruleaudit" in text
    return isinstance(tool, dict) and "ruleaudit" in tool


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", str(path)) from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"is larger than a configuration may be ({_MAX_BYTES:,} bytes)", str(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is no UTF-8 (byte {error.start})", str(path), data.count(b"\n", 0, error.start) + 1) from error


# --- reading it ---


def read_configuration(path: Path) -> Configuration:
    """The configuration in a file. Raises InputError for what is unreadable, unknown or of the wrong kind."""
    shown = _shown(path)
    text = _text(path)
    try:
        document: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        raise InputError(f"is no TOML: {error}", shown, int(found[1]) if found else text.count("\n") + 1) from error
    within: tuple[str, ...] = ()
    if path.name == PROJECT:
        within = _TABLE
        for name in _TABLE:
            inner = document.get(name, {})
            if not isinstance(inner, dict):
                raise InputError(f"{name} is no table", shown)
            document = inner
        if not document:
            raise InputError(f"holds no [{'.'.join(_TABLE)}]", shown)
    return _Reader(shown, text, within, path.parent).configuration(document)


def _shown(path: Path) -> str:
    """The path as messages give it: relative where it lies below the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class _Reader:
    """Reads the values of one file, and says where they stand."""

    def __init__(self, path: str, text: str, within: tuple[str, ...], folder: Path) -> None:
        self.path = path
        self.text = text
        self.within = within
        self.folder = folder
        self.document: Mapping[str, object] = {}

    def configuration(self, document: Mapping[str, object]) -> Configuration:
        """The whole of it."""
        self.document = document
        self.known(document, (*_OPTIONS, _IGNORES), "option")
        options = {_OPTIONS[key].name: _OPTIONS[key].read(self, key, document[key]) for key in _OPTIONS if key in document}
        entries = document.get(_IGNORES, [])
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise self.error(
                f"{_IGNORES} is no list of tables; write each as [[{'.'.join((*self.within, _IGNORES))}]] with codes, "
                "reason, and service, namespace or node (codes to be ignored everywhere: ignore = [...])",
                self.line(_IGNORES),
            )
        ignores = tuple(self.ignore(entry, number) for number, entry in enumerate(entries))
        places = {_OPTIONS[key].name: self.place(self.line(key)) for key in _OPTIONS if key in document}
        return Configuration(self.path, MappingProxyType(options), ignores, MappingProxyType(places))

    def ignore(self, entry: Mapping[str, object], number: int) -> Ignore:
        """One entry of `ignores`."""
        here = self.line(None, number)
        self.known(entry, _IGNORE_KEYS, "key of an ignore", number)
        for key in ("codes", "reason"):
            if key not in entry:
                why = "which findings are ignored" if key == "codes" else "why these findings are ignored"
                raise self.error(f"this ignore has no {key}: say {why}", here)
        texts: dict[str, str | None] = {}
        for key in ("reason", "node", "namespace", "service"):
            value = entry.get(key)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise self.error(f"{key} is no text: {value!r}", self.line(key, number))
            texts[key] = value
        service = texts["service"]
        if service is not None and not re.fullmatch(r"[^/]+/[^/]+", service):
            raise self.error(f"service {service!r} is no NAMESPACE/NAME", self.line("service", number))
        until = entry.get("until")
        if until is not None and (not isinstance(until, date) or isinstance(until, datetime)):
            raise self.error(f"until is no date such as 2027-01-31 (without quotes): {until!r}", self.line("until", number))
        codes = self.codes("codes", entry["codes"], number)
        if not codes:
            raise self.error("codes is empty: say which findings are ignored", self.line("codes", number))
        return Ignore(
            codes,
            str(texts["reason"]),
            texts["node"],
            texts["namespace"],
            service,
            until,
            self.place(here),
        )

    # --- values ---

    def codes(self, key: str, value: object, number: int | None = None) -> tuple[str, ...]:
        """Codes, beginnings of codes, or names of codes."""
        if key == _EVERYWHERE and any(isinstance(one, dict) for one in (value if isinstance(value, list) else [value])):
            tables = ".".join((*self.within, _IGNORES))
            raise self.error(f"{key} is a list of codes that are ignored everywhere; did you mean [[{tables}]]?", self.line(key))
        try:
            return tuple(code_prefix(one) for one in self.texts(key, value, number))
        except UnknownNameError as error:
            raise self.error(f"{key}: {error}", self.line(key, number)) from error

    def texts(self, key: str, value: object, number: int | None = None) -> tuple[str, ...]:
        """Texts."""
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise self.error(f'{key} is no list of texts such as ["..."]: {value!r}', self.line(key, number))

    def text_value(self, key: str, value: object) -> str:
        """One text."""
        if isinstance(value, str) and value:
            return value
        raise self.error(f"{key} is no text: {value!r}", self.line(key))

    def flag(self, key: str, value: object) -> bool:
        """Yes or no."""
        if isinstance(value, bool):
            return value
        raise self.error(f"{key} is neither true nor false: {value!r}", self.line(key))

    def number(self, key: str, value: object) -> int:
        """A number of --limit-factor."""
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
            return value
        raise self.error(f"{key} is no number from 1 to 1000: {value!r}", self.line(key))

    def services(self, key: str, value: object) -> tuple[str, ...]:
        """Services as NAMESPACE/NAME."""
        texts = self.texts(key, value)
        for text in texts:
            if not re.fullmatch(r"[^/]+/[^/]+", text):
                raise self.error(f"{key}: {text!r} is no NAMESPACE/NAME", self.line(key))
        return texts

    def file(self, key: str, value: object) -> str:
        """A file, relative to the folder of the configuration."""
        return self.placed(self.text_value(key, value))

    def outputs(self, key: str, value: object) -> tuple[str, ...]:
        """FILE or FORMAT:FILE, relative to the folder of the configuration."""
        found = []
        chosen = self.document.get("format")
        for text in self.texts(key, [value] if isinstance(value, str) else value):
            prefix, colon, path = text.partition(":")
            try:
                target(text, chosen if isinstance(chosen, str) else None)
            except OutputNameError as error:
                raise self.error(f"{key}: {str(error).removeprefix('--output ')}", self.line(key)) from error
            named = colon and prefix in FORMATS and path
            found.append(f"{prefix}:{self.placed(path)}" if named else self.placed(text))
        return tuple(found)

    def placed(self, path: str) -> str:
        """A path that is relative to the configuration's folder, as the working directory has it."""
        return path if path == "-" else os.path.relpath(self.folder / path)

    def one_of(self, key: str, value: object, values: tuple[str, ...]) -> str:
        """One of some words."""
        if isinstance(value, str) and value in values:
            return value
        near = did_you_mean(near_matches(value, values, 1)) if isinstance(value, str) else ""
        raise self.error(f"{key} is {value!r}, none of {', '.join(values)}{near}", self.line(key))

    # --- what is wrong, and where ---

    def known(self, table: Mapping[str, object], keys: tuple[str, ...], what: str, number: int | None = None) -> None:
        """Raises InputError for a key that means nothing."""
        for key in table:
            if key not in keys:
                dashed = key.replace("_", "-")
                likely = (dashed,) if dashed in keys else near_matches(dashed, keys, 2)
                near = did_you_mean(likely) or f"; there are {', '.join(keys)}"
                raise self.error(f"there is no {what} {key!r}{near}", self.line(key, number))

    def place(self, line: int | None) -> str:
        """The file, with the line where it is known."""
        return self.path if line is None else f"{self.path}:{line}"

    def error(self, message: str, line: int | None) -> InputError:
        """The refusal."""
        return InputError(message, self.path, line)

    def line(self, key: str | None, number: int | None = None) -> int | None:
        """The line of a key, of the ignore of that number; without a key that of the ignore itself. None where it cannot be told."""
        table: tuple[str, ...] = ()
        index = -1
        place = self.within if number is None else (*self.within, _IGNORES)
        for count, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[\[?\s*([^\]\s]+)\s*\]", line)
            if header is not None:
                table = tuple(part.strip("\"' ") for part in header[1].split("."))
                index += table == (*self.within, _IGNORES)
                if key is None and table == place and index == number:
                    return count
                if key is not None and number is None and table == (*place, key):
                    return count
                continue
            found = re.match(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([\w-]+))\s*=", line)
            if found and table == place and index == (-1 if number is None else number) and key in found.groups():
                return count
        return None


@dataclass(frozen=True, slots=True)
class _Option:
    """An option of the command line that the file may set: its parameter's name, and how its value is read."""

    name: str
    read: Callable[[_Reader, str, object], object]


def _words(*values: str) -> Callable[[_Reader, str, object], object]:
    return lambda reader, key, value: reader.one_of(key, value, values)


_OPTIONS: Final[Mapping[str, _Option]] = MappingProxyType(
    {
        "select": _Option("select", _Reader.codes),
        "ignore": _Option("ignore", _Reader.codes),
        "service": _Option("services", _Reader.services),
        "namespace": _Option("namespaces", _Reader.texts),
        "fail-on": _Option("fail_on", _words(*(one.value for one in reversed(Severity)))),
        "format": _Option("format_", _words(*FORMATS)),
        "output": _Option("outputs", _Reader.outputs),
        "baseline": _Option("baseline", _Reader.file),
        "exit-zero": _Option("exit_zero", _Reader.flag),
        "strict-coverage": _Option("strict_coverage", _Reader.flag),
        "group-by": _Option("group_by", _words("service", "code", "node")),
        "statistics": _Option("statistics", _Reader.flag),
        "limit-factor": _Option("limit_factor", _Reader.number),
        "quiet": _Option("quiet", _Reader.flag),
        "color": _Option("color", _words("auto", "always", "never")),
    }
)
_IGNORES: Final = "ignores"
_EVERYWHERE: Final = "ignore"
_IGNORE_KEYS: Final = ("codes", "reason", "node", "namespace", "service", "until")
