"""Baselines: the findings that are known already, in a file, so that only new ones count.

A finding is known again by its node and its fingerprint, which is of what it is about, not of lines and counters: it survives a new dump.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.errors import InputError
from ruleaudit.near import did_you_mean, near_matches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ruleaudit.findings import Report, Severity

__all__ = ["SCHEMA", "Baseline", "Known", "baseline_text", "read_baseline"]

SCHEMA: Final = "ruleaudit/baseline/v1"
_MAX_BYTES: Final = 1 << 28
_KEYS: Final = ("node", "code", "fingerprint", "service", "port", "frontend", "endpoint", "message", "count", "reason")


class Key(NamedTuple):
    """By what a finding is known again. `node` is "" for a node without a name."""

    node: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Known:
    """A known finding. `count`: how many findings have this fingerprint; `reason`: why it may stay, as somebody wrote it in the file.

    The rest is for people who read the file.
    """

    node: str
    code: str
    fingerprint: str
    service: str | None = None
    port: str | None = None
    frontend: str | None = None
    endpoint: str | None = None
    message: str = ""
    count: int = 1
    reason: str = ""

    @property
    def key(self) -> Key:
        """By what it is known again."""
        return Key(self.node, self.fingerprint)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.code, self.service, self.endpoint, f"on {self.node}" if self.node else "")))


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a file holds. `path`: the file."""

    path: str
    entries: Mapping[Key, Known]

    def of(self, node: str | None) -> Mapping[str, Known]:
        """The known findings of a node, by fingerprint."""
        return {key.fingerprint: entry for key, entry in self.entries.items() if key.node == (node or "")}


def read_baseline(path: str) -> Baseline:
    """The baseline in a file. Raises InputError for what is none."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError("there is no such baseline; --write-baseline writes one", path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"is larger than a baseline may be ({_MAX_BYTES:,} bytes)", path)
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(f"is no JSON: {error.msg}; {_AGAIN}", path, error.lineno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"is no JSON; {_AGAIN}", path) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or not isinstance(document.get("findings"), list):
        raise InputError(f"is no baseline of ruleaudit (schema {SCHEMA}); {_AGAIN}", path)
    entries: dict[Key, Known] = {}
    for number, entry in enumerate(document["findings"], 1):
        known = _entry(entry, f"finding {number}", path)
        before = entries.get(known.key)
        entries[known.key] = known if before is None else replace(before, count=before.count + known.count)
    return Baseline(path, entries)


_AGAIN: Final = "--write-baseline writes it anew"


def _entry(entry: object, what: str, path: str) -> Known:
    if not isinstance(entry, dict):
        raise InputError(f"{what} is no object; {_AGAIN}", path)
    for key in entry:
        if key not in _KEYS:
            raise InputError(f"{what} has an unknown key {key!r}{did_you_mean(near_matches(key, _KEYS, 1))}", path)
    count = entry.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"{what}: count is {count!r}, no number of findings", path)
    for key in _KEYS:
        optional = key not in ("node", "code", "fingerprint")
        if key != "count" and not isinstance(entry.get(key), str) and not (optional and entry.get(key) is None):
            raise InputError(f"{what}: {key} is {entry.get(key)!r}, no text; {_AGAIN}", path)
    return Known(**{**entry, "message": entry.get("message") or "", "reason": entry.get("reason") or ""})


def baseline_text(
    reports: Iterable[Report], threshold: Severity, before: Baseline | None, unseen: Collection[tuple[str, str]] = ()
) -> str:
    """The text of a baseline that holds every finding of the reports at or above `threshold`, one to a line, in a stable order.

    Of `before`, the baseline that is replaced, the reasons stay, the findings of nodes that the reports are not about, and those that are
    `unseen`, as (node, fingerprint): there, but not in the reports, as --select leaves them out.
    """
    reports = list(reports)
    audited = {report.node or "" for report in reports}
    entries: dict[Key, Known] = {}
    old: Mapping[Key, Known] = {} if before is None else before.entries
    for report in reports:
        counts = Counter(one.fingerprint for one in report.findings if one.severity.rank <= threshold.rank)
        for finding in report.findings:
            key = Key(report.node or "", finding.fingerprint)
            if finding.severity.rank > threshold.rank or key in entries:
                continue
            entries[key] = Known(
                key.node,
                finding.code,
                finding.fingerprint,
                finding.service,
                finding.port,
                None if finding.frontend is None else str(finding.frontend),
                finding.endpoint,
                finding.message,
                counts[finding.fingerprint],
                old[key].reason if key in old else "",
            )
    entries.update(
        {key: entry for key, entry in old.items() if key.node not in audited or (key in unseen and key not in entries)}
    )
    lines = [_line(entry) for entry in sorted(entries.values(), key=_order)]
    body = "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"
    return f'{{"schema": "{SCHEMA}", "findings": {body}}}\n'


def _order(entry: Known) -> tuple[str, ...]:
    return (entry.node, entry.code, entry.service or "", entry.port or "", entry.endpoint or "", entry.fingerprint)


def _line(entry: Known) -> str:
    values = {key: getattr(entry, key) for key in _KEYS}
    always = ("node", "code", "fingerprint")
    return json.dumps({key: value for key, value in values.items() if key in always or (value and (key != "count" or value > 1))})
