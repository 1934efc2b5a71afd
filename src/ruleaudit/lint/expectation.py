"""What must and must not be found on a fixture: its expected.json.

    {"schema": "ruleaudit/expected/v1",
     "found": [{"code": "RA206", "service": "shop/web", "endpoint": "10.1.2.3:8080", "reason": "changed by hand"}],
     "absent": [{"code": "RA1"}, {"service": "shop/cart"}],
     "others": "refused"}

`found`: each entry must be found; what it names must be so, what it leaves out may be anything, null means none. `absent`: nothing that an
entry fits may be found, notes included; its code may be a beginning of codes. `others`: whether errors and warnings that no entry of `found`
fits are "refused" (they count, the default) or "allowed".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.errors import InputError
from ruleaudit.findings import Finding, Location, Severity, Suppressed
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches
from ruleaudit.reports.evidence import plural
from ruleaudit.reports.selection import code_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["EXPECTED", "SCHEMA", "Entry", "Expected", "compared", "expected_text", "read_expected"]

SCHEMA: Final = "ruleaudit/expected/v1"
EXPECTED: Final = "expected.json"
_KEYS: Final = ("schema", "found", "absent", "others")
_PLACES: Final = ("service", "port", "endpoint")
_OTHERS: Final = ("refused", "allowed")
_MAX_BYTES: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `code` a code or the beginning of one, "" for any; `places`: what "service", "port" and "endpoint" must be, those that are
    given; `line` where it stands, 0 where that cannot be told.
    """

    code: str
    places: Mapping[str, str | None]
    reason: str = ""
    line: int = 0

    def fits(self, finding: Finding) -> bool:
        """Whether it is about a finding."""
        return finding.code.startswith(self.code) and all(getattr(finding, name) == value for name, value in self.places.items())

    def __str__(self) -> str:
        words = [self.code or "any finding"]
        if "service" in self.places:
            service = self.places["service"]
            words.append("of no Service" if service is None else f"of {service}")
        words += [f"with {name} {self.places[name]}" for name in ("port", "endpoint") if name in self.places]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Expected:
    """The expectation of a fixture; `path` is that of the file."""

    path: str
    found: tuple[Entry, ...] = ()
    absent: tuple[Entry, ...] = ()
    others: str = "refused"


def read_expected(path: Path, shown: str) -> Expected | None:
    """The expectation in a file, which messages call `shown`; None where there is none. Raises InputError for what is none."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", shown) from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"is larger than an expectation may be ({_MAX_BYTES:,} bytes)", shown)
    try:
        text = data.decode()
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is no JSON: {error.msg}", shown, error.lineno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError("is no JSON", shown) from error
    return expected_of(document, text, shown)


def expected_of(document: object, text: str, path: str) -> Expected:
    """The expectation that a document is. `text` is it as it was written. Raises InputError."""
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        raise InputError(f"has no schema {SCHEMA}; `ruleaudit lint --write-expected` writes such a file", path)
    _known(document, _KEYS, "key", path)
    others = document.get("others", _OTHERS[0])
    if others not in _OTHERS:
        raise InputError(f"others is {others!r}, neither {' nor '.join(_OTHERS)}", path)
    parts = {}
    for part in ("found", "absent"):
        entries = document.get(part, [])
        if not isinstance(entries, list):
            raise InputError(f"{part} is no list", path)
        parts[part] = tuple(_entry(entry, f"{part}[{number}]", text, path) for number, entry in enumerate(entries))
    for number, entry in enumerate(parts["found"]):
        if entry.code not in CATALOGUE:
            raise InputError(f"found[{number}] has no whole code such as RA206", path, entry.line or None)
    return Expected(path, parts["found"], parts["absent"], str(others))


def _known(table: Mapping[str, object], keys: tuple[str, ...], what: str, path: str) -> None:
    for key in table:
        if key not in keys:
            near = did_you_mean(near_matches(str(key), keys, 1)) or f"; there are {', '.join(keys)}"
            raise InputError(f"there is no {what} {key!r}{near}", path)


def _entry(entry: object, what: str, text: str, path: str) -> Entry:
    if not isinstance(entry, Mapping):
        raise InputError(f"{what} is no object", path)
    _known(entry, ("code", *_PLACES, "reason"), f"key of {what}", path)
    for key, value in entry.items():
        if not isinstance(value, str) and not (value is None and key in _PLACES):
            raise InputError(f"{what}: {key} is {value!r}, no text", path)
    if not entry.keys() - {"reason"}:
        raise InputError(f"{what} names neither a code nor a place", path)
    try:
        code = code_prefix(entry["code"]) if "code" in entry else ""
    except UnknownNameError as error:
        raise InputError(f"{what}: {error}", path) from error
    places = {name: entry[name] for name in _PLACES if name in entry}
    return Entry(code, places, entry.get("reason", ""), _line(entry, text))


def _line(entry: Mapping[str, object], text: str) -> int:
    """The first line that holds all texts of an entry; 0 where it is spread over several."""
    wanted = [json.dumps(value) for key, value in entry.items() if key != "reason" and value is not None]
    for number, line in enumerate(text.splitlines(), 1):
        if wanted and all(one in line for one in wanted):
            return number
    return 0


def compared(
    findings: Sequence[Finding], expected: Expected, services: Sequence[str] = ()
) -> tuple[list[Finding], list[Suppressed]]:
    """What remains of the findings, with RA013 for what the expectation is not met in; and those that are expected. `services`: those of the
    objects, of which an entry that is not met may have misspelt one.
    """
    kept: list[Finding] = []
    met: list[Suppressed] = []
    used: set[int] = set()
    for finding in findings:
        fitting = [number for number, entry in enumerate(expected.found) if entry.fits(finding)]
        used.update(fitting)
        if fitting:
            entry = expected.found[fitting[0]]
            place = f"{expected.path}:{entry.line}" if entry.line else expected.path
            met.append(Suppressed(finding, "expected", entry.reason, place))
        elif expected.others == "allowed" and finding.severity is not Severity.INFO:
            met.append(Suppressed(finding, "expected", "others are allowed", expected.path))
        else:
            kept.append(finding)
    unmet = [
        *_not_found([entry for number, entry in enumerate(expected.found) if number not in used], findings, expected, services),
        *_found(findings, expected),
    ]
    return [*unmet, *kept], met


def _not_found(
    entries: Sequence[Entry], findings: Sequence[Finding], expected: Expected, services: Sequence[str]
) -> Iterator[Finding]:
    for entry in entries:
        name = CATALOGUE[entry.code].name
        message = f"{entry} ({name}) must be found, and is not{_meant(entry, findings, services)}"
        yield _unmet(message, entry, expected, f"not {entry}")


def _meant(entry: Entry, findings: Sequence[Finding], services: Sequence[str]) -> str:
    """What somebody may have meant by the first place of an entry that is not there: Services by the objects, the others by what is found."""
    for place, value in entry.places.items():
        alike = [one for one in findings if one.code.startswith(entry.code)]
        known = {found for one in alike if (found := getattr(one, place)) is not None}
        if place == "service":
            known.update(services)
        if value is not None and value not in known:
            return did_you_mean(near_matches(value, known, 1))
    return ""


def _found(findings: Sequence[Finding], expected: Expected) -> Iterator[Finding]:
    for entry in expected.absent:
        fitting = [one for one in findings if entry.fits(one)]
        if fitting:
            first = fitting[0]
            more = f" and {plural(len(fitting) - 1, 'other finding')}" if len(fitting) > 1 else ""
            message = f"{entry} must not be found, and is: {first.code} {first.name}: {first.message}{more}"
            yield _unmet(message, entry, expected, f"absent {entry}", first)


def _unmet(message: str, entry: Entry, expected: Expected, subject: str, shown: Finding | None = None) -> Finding:
    code = CATALOGUE["RA013"]
    service = entry.places.get("service")
    return Finding(
        code.code,
        code.name,
        code.severity,
        message,
        service=service,
        expected=entry.reason,
        hint=code.action,
        locations=(Location(expected.path, entry.line, ""), *(() if shown is None else shown.locations[:1])),
        subject=subject,
    )


def expected_text(findings: Sequence[Finding], before: Expected | None) -> str:
    """The text of an expectation that every error and warning of `findings` meets, in a stable order, one entry to a line.

    Of `before`, the one that is replaced, what must be absent and whether others are allowed stays, and so does a reason.
    """
    entries: dict[tuple[str, ...], dict[str, str | None]] = {}
    known = () if before is None else before.found
    for finding in findings:
        old = next((one for one in known if one.fits(finding)), None)
        if finding.severity is Severity.INFO and old is None:
            continue
        entry: dict[str, str | None] = {"code": finding.code, "service": finding.service}
        entry.update({name: value for name in ("port", "endpoint") if (value := getattr(finding, name)) is not None})
        if old is not None and old.reason:
            entry["reason"] = old.reason
        entries[tuple(str(entry.get(name) or "") for name in ("code", *_PLACES))] = entry
    lines = {"found": [json.dumps(entries[key]) for key in sorted(entries)]}
    if before is not None and before.absent:
        lines["absent"] = [
            json.dumps(
                {**({"code": one.code} if one.code else {}), **one.places, **({"reason": one.reason} if one.reason else {})}
            )
            for one in before.absent
        ]
    members = [f'  "schema": "{SCHEMA}"']
    members += [
        f'  "{part}": [\n' + ",\n".join(f"    {one}" for one in found) + "\n  ]" if found else f'  "{part}": []'
        for part, found in lines.items()
    ]
    if before is not None and before.others != _OTHERS[0]:
        members.append(f'  "others": "{before.others}"')
    return "{\n" + ",\n".join(members) + "\n}\n"
