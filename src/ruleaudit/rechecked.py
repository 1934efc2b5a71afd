"""Which known findings an audit could have found again: of what it did not check, nothing is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ruleaudit.addresses import family_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.baseline import Known
    from ruleaudit.findings import Finding, Report

__all__ = ["is_rechecked"]

_OF_OBJECTS: Final = ("RA7",)
"""What objects say by themselves."""
_OF_DUMMY: Final = ("RA111", "RA210")
_OF_SETS: Final = ("RA110", "RA111", "RA210", "RA403")
"""What depends on kube-proxy's release, of which sets and addresses it makes."""
_OF_RULES: Final = ("RA107", "RA108", "RA110", "RA208", "RA210", "RA306", "RA307", "RA308", "RA310", "RA4", "RA6")
"""What rules and sets show of a node in IPVS mode, beside its virtual servers."""
_EVERY: Final = ("RA",)

_LOST: Final = (
    (re.compile(r"(?:rules|no rules|part of the sets) ([46])|cut sets"), _OF_RULES),
    (re.compile(r"kube-ipvs0 ([46])|part of kube-ipvs0"), _OF_DUMMY),
    (re.compile(r"release ([46])"), _OF_SETS),
    (re.compile(r"(?:family|nat|filter|cut [a-z]+|unserved|unread|virtual servers|node IPv) ?([46])"), _EVERY),
    (re.compile(r"absent (?:nodes|pods|endpoints|endpointslices|ingresses|ingressclasses)"), _OF_OBJECTS),
    (
        re.compile(
            r"objects|services|endpoints|node|dump|mode|part of the virtual servers|columns of the virtual servers|empty .*"
        ),
        _EVERY,
    ),
)
"""What RA004 and RA005 are about, by their subject, with the codes of findings that are not judged then; the group is the only family that it is
about. That a node has no name is none of it: what is known of such a node was found without it."""
_NOT_OF_OBJECTS: Final = frozenset({"dump", "mode", "node"})
"""What keeps only a node's findings from being judged, not those of the objects by themselves."""


def is_rechecked(entry: Known, report: Report) -> bool:
    """Whether the audit of the entry's node would have found it again, were it still there: nothing that it needs was left out."""
    family = _family(entry)
    return not any(
        entry.code.startswith(codes) and (of is None or family is None or of == family) for codes, of in _unchecked(entry, report)
    )


def _unchecked(entry: Known, report: Report) -> Iterator[tuple[tuple[str, ...], int | None]]:
    """Beginnings of codes that were not judged, and the only family of which that is so; None for both."""
    of_objects = entry.code.startswith(_OF_OBJECTS)
    for one in _said(report):
        if one.code in ("RA001", "RA002"):  # lines, files or objects that could not be used
            yield _EVERY, None
        if one.code not in ("RA004", "RA005") or (of_objects and one.subject in _NOT_OF_OBJECTS):
            continue
        if one.code == "RA004" and one.subject == "node":
            continue
        for pattern, codes in _LOST:
            found = pattern.fullmatch(one.subject)
            if found is not None:
                of = found[1] if pattern.groups else None
                if not (of_objects and of):
                    yield codes, None if of is None else int(of)
                break


def _said(report: Report) -> Iterator[Finding]:
    """Everything that was found, be it put aside or not."""
    yield from report.findings
    yield from (one.finding for one in report.suppressed)


def _family(entry: Known) -> int | None:
    """The family that a finding is about, where it names an address."""
    for text in (entry.frontend, entry.endpoint):  # "10.0.0.1:80/TCP", "[fd00::1]:80", or whatever somebody wrote into the file
        host = (text or "").partition("/")[0].rpartition(":")[0]
        found = family_of(host.removeprefix("[").removesuffix("]"))
        if found is not None:
            return found
    return None
