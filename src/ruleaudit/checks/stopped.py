"""RA505: whether the differences together say that kube-proxy stopped applying changes, and since when."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.findings import Finding

__all__ = ["stopped"]

# What a change of the objects that was not applied looks like. Anything else (a mark, a hook, a share) is damage to the rules.
_OUT_OF_DATE = frozenset(
    {"RA101", "RA102", "RA103", "RA104", "RA105", "RA106", "RA107", "RA201", "RA202", "RA203", "RA204", "RA205", "RA206", "RA207",
     "RA208", "RA302", "RA304", "RA305", "RA306", "RA109"}
)  # fmt: skip
_LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
_FEW = 3


def stopped(findings: Sequence[Finding], cluster: Cluster) -> tuple[Finding | None, list[Finding]]:
    """The leading RA505 and the findings with their cause set, or None and the findings as they are.

    Said when at least three services are behind, or two with dated objects all younger than everything that is programmed, and
    nothing else explains it. The time is that of the oldest change that is not programmed, where the objects give one.
    """
    behind = [
        one
        for one in findings
        if one.code in _OUT_OF_DATE and one.severity.value != "info" and one.cause is None and one.service is not None
    ]
    services = {one.service for one in behind if one.service}
    if len(services) < 2 or any(
        one.code in ("RA005", "RA504", "RA108", "RA502") and one.severity.value == "error" for one in findings
    ):
        return None, list(findings)
    damaged = {
        one.service
        for one in findings
        if one.severity.value == "error" and one.service and one.cause is None and one.code not in _OUT_OF_DATE
    }
    if damaged & services:
        return None, list(findings)
    missed = [time for name in services if (time := _changed(cluster, name)) is not None]
    applied = [
        time
        for key in cluster.services
        if (name := "/".join(key)) not in services and (time := _changed(cluster, name)) is not None
    ]
    since = min(missed, default=None)
    dated = since is not None and (not applied or since >= max(applied))
    if len(services) < _FEW and not dated:
        return None, list(findings)
    if len({one.code for one in behind}) < 2 and len(services) < 2 * _FEW and not dated:
        return None, list(findings)
    when = f" since about {since:%Y-%m-%dT%H:%M:%SZ}" if dated and since is not None else ""
    names = sorted(services)
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    first = behind[0]
    from ruleaudit.catalogue import CATALOGUE

    entry = CATALOGUE["RA505"]
    leader = replace(
        first,
        code="RA505",
        name=entry.name,
        severity=entry.severity,
        message=f"kube-proxy seems to have stopped applying changes{when}: {len(names)} services are behind their objects ({listed})",
        service=None,
        port=None,
        frontend=None,
        endpoint=None,
        expected="every change of Services and EndpointSlices is programmed within seconds",
        observed=f"{len(behind)} differences, all of which a missed change explains",
        hint=entry.action,
        cause=None,
        locations=(),
        objects=(),
        subject="",
    )
    marked = {id(one) for one in behind}
    return leader, [replace(one, cause=leader.fingerprint) if id(one) in marked else one for one in findings]


def _changed(cluster: Cluster, service: str) -> datetime | None:
    """When a Service's objects last changed, as far as they say."""
    namespace, _, name = service.partition("/")
    times: list[datetime] = []
    found = cluster.services.get((namespace, name))
    if found is not None:
        times.extend(_times([found.metadata.creation_timestamp, found.metadata.deletion_timestamp]))
    for entry in cluster.slices_of(namespace, name):
        times.extend(_times([entry.metadata.creation_timestamp, entry.metadata.annotation(_LAST_CHANGE)]))
    return max(times, default=None)


def _times(texts: Iterable[str | None]) -> list[datetime]:
    found = []
    for text in texts:
        if not text:
            continue
        try:
            found.append(datetime.fromisoformat(text))
        except ValueError:
            continue
    return [one for one in found if one.tzinfo is not None]
