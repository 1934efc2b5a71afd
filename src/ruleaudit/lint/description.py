"""Whether a capture is whole (RA011), and what its meta.json says is so (RA012)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ruleaudit.addresses import canonical_address, family_of
from ruleaudit.audit.inputs import header_time
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.findings import Finding, Location, ObjectReference, Severity
from ruleaudit.kubeproxy.settings import GivenSettings, combine, find_settings, read_settings
from ruleaudit.near import did_you_mean, near_matches
from ruleaudit.signs import Signs, read_ipvs_signs, read_signs
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.audit.inputs import Inputs
    from ruleaudit.dumps.rules import Table
    from ruleaudit.findings import Report
    from ruleaudit.sources import Source

__all__ = ["META", "Capture", "gaps", "read_description", "wrong_description"]

META: Final = "meta.json"
_SKEW: Final = timedelta(minutes=5)
_ZONES: Final = timedelta(hours=14)
"""Zones reach from UTC-12 to UTC+14: the header of iptables-save is that far from UTC at most."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured node: its sources as they were read, what they hold, its audit, and its description; `path` is that of meta.json."""

    folder: str
    sources: Sequence[Source]
    inputs: Inputs
    report: Report
    description: Mapping[str, object]
    path: str

    @property
    def kinds(self) -> frozenset[InputKind]:
        """What kinds of inputs there are."""
        return frozenset(one.kind for one in self.sources)

    @property
    def tables(self) -> list[Table]:
        """The tables of all dumps."""
        return [table for dump in self.inputs.dumps for table in dump.tables]

    def text(self, key: str) -> str | None:
        """A value of the description that is text."""
        value = self.description.get(key)
        return value if isinstance(value, str) and value else None


def read_description(sources: Sequence[Source]) -> tuple[Mapping[str, object], str]:
    """The description of a capture, and its path; an empty one and "" where there is none."""
    for source in sources:
        if source.kind is InputKind.CAPTURE_META:
            try:
                document = json.loads(source.data)
            except ValueError:
                continue
            if isinstance(document, Mapping):
                return document, source.path
    return {}, ""


# --- RA011 ---


def gaps(capture: Capture) -> Iterator[Finding]:
    """RA011: what a capture of a node in its mode has and this one lacks."""
    kinds, report = capture.kinds, capture.report
    cluster = capture.inputs.cluster
    if not capture.path:
        yield _gap(capture, META, f"no {META} says which node this is, in which mode, of which release, and when it was captured")
    if report.node is None:
        yield _gap(capture, "node", "nothing says which node this is", f'add "node" to {META}')
    mode = capture.text("mode") or report.proxy.mode
    for kind, tool in {"ipvs": _OF_IPVS, "nftables": _OF_NFTABLES}.get(mode or "", {}).items():
        if kind not in kinds:
            yield _gap(
                capture, kind.value, f"no output of {tool} is there, as of a node in {mode} mode", f"add the output of `{tool}`"
            )
    present = {(table.family, table.name) for table in capture.tables}
    for family, tool in ((4, "iptables-save"), (6, "ip6tables-save")) if mode != "nftables" else ():
        if family not in _families(capture):
            continue
        for table in ("nat", "filter"):
            if (family, table) not in present:
                yield _gap(
                    capture,
                    f"{table} {family}",
                    f"no table {table} of IPv{family} is there, as of a node in {mode or 'iptables'} mode",
                    f"add the whole output of `{tool}`",
                )
    if not capture.inputs.has_objects:
        yield _gap(capture, "objects", "no objects of the cluster are there", f"add the output of `{_OBJECTS}`")
        return
    for wanted in (("Service",), ("EndpointSlice", "Endpoints"), ("Node",), ("Pod",)):
        if not any(cluster.has_kind(kind) for kind in wanted):
            yield _gap(capture, wanted[0], f"no {' or '.join(wanted)} is among the objects", f"add the output of `{_OBJECTS}`")


_OF_IPVS: Final = {
    InputKind.IPVSADM: "ipvsadm -Sn",
    InputKind.IPSET: "ipset save",
    InputKind.IP_ADDR: "ip addr",
}
_OF_NFTABLES: Final = {InputKind.NFT: "nft list ruleset"}
_OBJECTS: Final = "kubectl get services,endpointslices,endpoints,nodes,pods,ingresses,ingressclasses -A -o json"


def _families(capture: Capture) -> set[int]:
    """The families that kube-proxy serves as far as its cluster CIDRs say, else those of the node's and the Services' addresses, else IPv4."""
    configured = combine(_configured(capture))
    cidrs = () if configured is None else configured.cluster_cidrs or ()
    served = {family for cidr in cidrs if (family := family_of(cidr.partition("/")[0])) is not None}
    if served:
        return served
    texts = capture.description.get("node_ips")
    addresses = [one for one in texts if isinstance(one, str)] if isinstance(texts, list) else []
    for service in capture.inputs.cluster.services.values():
        addresses += [*service.spec.cluster_ips, service.spec.cluster_ip or ""]
    return {family for text in addresses if (family := family_of(text)) is not None} or {4}


def _configured(capture: Capture) -> list[GivenSettings]:
    """What kube-proxy's own configuration and command line say; what cannot be read of them, the audit tells."""
    held = (find_settings(one.data, one.path) for one in capture.sources if one.kind is InputKind.PROXY_CONFIG)
    return [one for one in held if one is not None]


def _gap(capture: Capture, subject: str, message: str, hint: str = "") -> Finding:
    entry = CATALOGUE["RA011"]
    place = Location(capture.path or capture.folder, 0, "")
    return Finding(
        entry.code, entry.name, entry.severity, message, hint=hint or entry.action, locations=(place,), subject=f"lacks {subject}"
    )


# --- RA012 ---


def wrong_description(capture: Capture) -> Iterator[Finding]:
    """RA012: what the description says, and what is there contradicts."""
    if not capture.path:
        return
    yield from _types(capture)
    yield from _node(capture)
    yield from _mode(capture)
    yield from _settings(capture)
    yield from _release(capture)
    yield from _backend(capture)
    yield from _times(capture)


def _wrong(
    capture: Capture,
    key: str,
    message: str,
    *,
    observed: str = "",
    places: Sequence[Location] = (),
    objects: Sequence[ObjectReference] = (),
    severity: Severity | None = None,
) -> Finding:
    entry = CATALOGUE["RA012"]
    value = capture.description.get(key)
    return Finding(
        entry.code,
        entry.name,
        severity or entry.severity,
        f"{META}: {message}",
        expected="" if value is None else f"{key}: {json.dumps(value)}",
        observed=observed,
        hint=entry.action,
        locations=(Location(capture.path, _line(capture, key), ""), *places),
        objects=tuple(objects),
        subject=f"{key} {message}",
    )


def _line(capture: Capture, key: str) -> int:
    """The line of a key, 0 where it cannot be told."""
    source = next(one for one in capture.sources if one.path == capture.path)
    at = source.data.find(f'"{key}"'.encode())
    return source.data.count(b"\n", 0, at) + 1 if at >= 0 else 0


_TEXTS: Final = ("node", "mode", "kube_proxy_version", "iptables_version", "captured_at", "detect_local", "cluster_cidr")


def _types(capture: Capture) -> Iterator[Finding]:
    for key in _TEXTS:
        value = capture.description.get(key)
        if value is not None and not isinstance(value, str):
            yield _wrong(capture, key, f"{key} is no text")
    addresses = capture.description.get("node_ips")
    if addresses is not None and not (isinstance(addresses, list) and all(isinstance(one, str) for one in addresses)):
        yield _wrong(capture, "node_ips", "node_ips is no list of addresses")
    time = capture.text("captured_at")
    if time is not None and _time(time) is None:
        yield _wrong(capture, "captured_at", f"captured_at {time!r} is no time with a zone, such as 2026-01-31T12:00:00+00:00")


def _node(capture: Capture) -> Iterator[Finding]:
    name = capture.text("node")
    nodes = capture.inputs.cluster.nodes
    if name is None or not nodes:
        return
    node = nodes.get(name)
    if node is None:
        near = did_you_mean(near_matches(name, nodes, 2))
        yield _wrong(capture, "node", f"there is no Node {name} among the objects{near}", observed=", ".join(sorted(nodes)[:5]))
        return
    known = {_canonical(one.address) for one in node.status.addresses}
    known.update(
        _canonical(one.address) for dump in capture.inputs.interfaces for device in dump.interfaces for one in device.addresses
    )
    addresses = capture.description.get("node_ips")
    if not any(family_of(one.address) for one in node.status.addresses) or not isinstance(addresses, list):
        return
    for address in addresses:
        if isinstance(address, str) and family_of(address) is not None and _canonical(address) not in known:
            yield _wrong(
                capture,
                "node_ips",
                f"{address} is no address of node {name}",
                observed=", ".join(one.address for one in node.status.addresses if family_of(one.address)),
                objects=[ObjectReference("Node", "", name)],
            )


def _canonical(text: str) -> str | None:
    family = family_of(text)
    return None if family is None else canonical_address(text, family)


def _mode(capture: Capture) -> Iterator[Finding]:
    mode = capture.text("mode")
    found = capture.report.proxy.mode
    if mode is None or found is None or mode == found or not capture.report.frontends:
        return
    if mode == "nftables" and InputKind.NFT in capture.kinds:
        return  # what iptables holds may be left over from before
    yield _wrong(capture, "mode", f"the rules are those of kube-proxy in {found} mode, not {mode}", observed=f"mode {found}")


def _settings(capture: Capture) -> Iterator[Finding]:
    """kube-proxy's own configuration or command line against the description."""
    configured = combine(_configured(capture))
    source = next(one for one in capture.sources if one.path == capture.path)
    if configured is None:
        return
    described = read_settings(source.data, source.path)
    for key, name in _SETTINGS.items():
        here, there = getattr(described, name), getattr(configured, name)
        if name == "cluster_cidrs" and set(there or ()) <= set(here or ()):
            continue  # kube-proxy of one family is given that family's
        if here is not None and there is not None and here != there:
            value = ", ".join(there) if isinstance(there, tuple) else f"1.{there}" if name == "minor" else str(there)
            places = [Location(path, 0, "") for path in configured.paths]
            yield _wrong(capture, key, f"kube-proxy's own settings say {_WORDS[name]} {value}", observed=value, places=places)


_SETTINGS: Final = {
    "mode": "mode",
    "node": "node",
    "kube_proxy_version": "minor",
    "cluster_cidr": "cluster_cidrs",
    "detect_local": "detect_local_mode",
}
_WORDS: Final = {
    "mode": "mode",
    "node": "node",
    "minor": "release",
    "cluster_cidrs": "cluster CIDR",
    "detect_local_mode": "detect-local mode",
}


_LEFTOVERS: Final = ("mixed-modes", "leftover-chains", "blocked-sync")
"""Findings that say that rules of another release or mode are there, too: the signs are not of one kube-proxy."""


def _release(capture: Capture) -> Iterator[Finding]:
    """The release against what the rules show of theirs."""
    described = capture.inputs.given
    minor = described.minor if described is not None else None
    if minor is None or any(one.name in _LEFTOVERS for one in capture.report.findings):
        return
    read = read_ipvs_signs if capture.report.proxy.mode == "ipvs" else read_signs
    tables = capture.tables
    for family in (4, 6):
        signs: Signs = read(Ruleset(family, [one for one in tables if not one.partial]))
        if signs.served and not signs.oldest <= minor <= signs.newest:
            bounds = f"1.{signs.oldest}" if signs.oldest == signs.newest else f"1.{signs.oldest} to 1.{signs.newest}"
            why = f" ({'; '.join(signs.reasons)})" if signs.reasons else ""
            yield _wrong(
                capture,
                "kube_proxy_version",
                f"the rules of IPv{family} are those of kube-proxy {bounds}, not 1.{minor}",
                observed=f"{bounds}{why}",
            )


def _backend(capture: Capture) -> Iterator[Finding]:
    version = capture.text("iptables_version") or ""
    said = next((one for one in ("nf_tables", "legacy") if f"({one})" in version), None)
    found = sorted({table.backend for table in capture.tables if table.backend is not None})
    if said is None or not found or said in found:
        return
    places = [Location(table.dump.path, table.line, "") for table in capture.tables[:1]]
    yield _wrong(
        capture, "iptables_version", f"the dumps are of the backend {', '.join(found)}", observed=", ".join(found), places=places
    )


def _times(capture: Capture) -> Iterator[Finding]:
    """The time against those of dumps and objects: what was not captured at once shows differences that were none."""
    captured = _time(capture.text("captured_at") or "")
    if captured is None:
        return
    for table in capture.tables:
        dumped = header_time(table)
        if dumped is not None and abs(dumped.replace(tzinfo=UTC) - captured) > _ZONES + _SKEW:
            yield _wrong(
                capture,
                "captured_at",
                f"{table.dump.path} was dumped at {dumped:%Y-%m-%d %H:%M:%S} local time, on another day",
                places=[Location(table.dump.path, table.line, "")],
                severity=Severity.WARNING,
            )
            break
    newest = max(_object_times(capture), key=lambda one: one[0], default=None)
    if newest is not None and newest[0] - captured > _SKEW:
        time, reference = newest
        yield _wrong(
            capture,
            "captured_at",
            f"{reference.kind} {reference.namespace}/{reference.name} is younger: {time:%Y-%m-%dT%H:%M:%SZ}",
            objects=[reference],
            severity=Severity.WARNING,
        )


def _object_times(capture: Capture) -> Iterator[tuple[datetime, ObjectReference]]:
    cluster = capture.inputs.cluster
    for kind, objects in (("Service", cluster.services), ("EndpointSlice", cluster.slices), ("Pod", cluster.pods)):
        for one in objects.values():
            time = _time(one.metadata.creation_timestamp or "")
            if time is not None:
                yield time, ObjectReference(kind, *one.metadata.key)


def _time(text: str) -> datetime | None:
    """A time with a zone; None for anything else."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time
