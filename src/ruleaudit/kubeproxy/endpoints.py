"""kube-proxy's choice of endpoints, and nothing else: which ones a service port has, and which of them get its traffic on one
node.

Follows KPR 2.1 to 2.7 (pkg/proxy/endpointslicecache.go, pkg/proxy/topology.go and, before 1.24, pkg/proxy/iptables/proxier.go).
"""

from __future__ import annotations

from itertools import islice, product
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

import msgspec

from ruleaudit.addresses import canonical_address
from ruleaudit.forwarding import endpoint_text
from ruleaudit.kubeproxy.release import DuplicateRule, HintsMode, Release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ruleaudit.cluster import objects

__all__ = [
    "HEADLESS_LABEL",
    "PROXY_NAME_LABEL",
    "Candidates",
    "Endpoint",
    "Policy",
    "Selection",
    "candidates_from_endpoints",
    "candidates_from_slices",
    "select",
]

HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
PROXY_NAME_LABEL: Final = "service.kubernetes.io/service-proxy-name"
_HOSTNAME_KEY: Final = "kubernetes.io/hostname"
_NONE: Final[frozenset[str]] = frozenset()
_ADDRESS_TYPES: Final = {4: "IPv4", 6: "IPv6"}
_MAX_OUTCOMES: Final = 16
_by_text: Final[Callable[[Endpoint], str]] = attrgetter("text")
_by_address: Final[Callable[[Endpoint], str]] = attrgetter("address")


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of one service port, as kube-proxy sees it.

    `address` and `text` ("10.0.0.1:80", "[fd00::1]:80") are as this release writes them; `ready`, `serving` and `terminating`
    have the API's absent values filled in.
    """

    address: str
    port: int
    text: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str | None = None
    is_local: bool = False
    zone_hints: frozenset[str] = _NONE
    node_hints: frozenset[str] = _NONE
    target_ref: objects.ObjectReference | None = None
    topology: dict[str, str] | None = None

    @property
    def target(self) -> tuple[str, str] | None:
        """The (namespace, name) of the Pod that the endpoint names, None without one."""
        reference = self.target_ref
        if reference is None or reference.kind != "Pod":
            return None
        return reference.namespace or "", reference.name or ""

    @property
    def usable_when_terminating(self) -> bool:
        """Whether it may stand in where no endpoint is ready (KPR 2.3.1)."""
        return self.serving and self.terminating


class Candidates(NamedTuple):
    """The endpoints of one service port before the choice.

    `endpoints` are in kube-proxy's order; `unready` are those that this release never takes up (up to 1.20), kept to explain.
    Where slices hold one endpoint twice and the order of slices, which is random, decides which entry counts, `duplicates`
    holds the entries that may, the one in `endpoints` first (KPR 2.2, T-12). `merged`: whether any entry gave way to another of the same
    endpoint, which may hang on the node.
    """

    endpoints: tuple[Endpoint, ...]
    unready: tuple[Endpoint, ...] = ()
    duplicates: tuple[tuple[Endpoint, ...], ...] = ()
    merged: bool = False

    def of_node(self, node: str) -> Candidates | None:
        """The same for another node of the same release, where `is_local` is all that differs: of endpoints in slices, whose place is told by
        their nodes' names. None where that is not so.
        """
        if self.merged:
            return None
        endpoints, unready = (
            tuple(
                [
                    one if one.is_local == (one.node_name == node) else msgspec.structs.replace(one, is_local=not one.is_local)
                    for one in group
                ]
            )
            for group in (self.endpoints, self.unready)
        )
        return Candidates(endpoints, unready)

    @property
    def ambiguous(self) -> frozenset[str]:
        """The texts of the endpoints of which either of several differing entries may count."""
        return frozenset(entry.text for group in self.duplicates for entry in group)

    def outcomes(self) -> Iterator[tuple[Endpoint, ...]]:
        """The lists of endpoints that kube-proxy may have ended up with, `endpoints` first; the first sixteen when there are
        more.
        """
        if not self.duplicates:
            yield self.endpoints
            return
        chosen = {group[0].text: number for number, group in enumerate(self.duplicates)}
        for choice in islice(product(*self.duplicates), _MAX_OUTCOMES):
            replaced = [choice[chosen[entry.text]] if entry.text in chosen else entry for entry in self.endpoints]
            yield tuple(sorted(replaced, key=_by_text))


class Policy(NamedTuple):
    """What the choice for one service port depends on beside its endpoints (KPR 1.3).

    `topology_keys` is empty unless the release reads it; `hints_annotated` tells whether the Service's annotations ask for
    hints where the release's HintsMode looks at them; `zone` is the node's, None without the label; `labels` are the node's.
    """

    internal_local: bool
    external_local: bool
    uses_cluster: bool
    uses_local: bool
    node: str
    zone: str | None
    hints_annotated: bool = False
    topology_keys: tuple[str, ...] = ()
    labels: Mapping[str, str] | None = None


class Selection(NamedTuple):
    """The endpoints of one service port that get its traffic on one node (KPR 2.3).

    `cluster`: the list of policy Cluster. `local`: the list of policy Local. `reachable`: those with rules on this node. All in
    kube-proxy's order. `any`: whether kube-proxy takes the service port to have usable endpoints, anywhere.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    reachable: tuple[Endpoint, ...]
    any: bool


_NOTHING: Final = Selection((), (), (), any=False)


def candidates_from_slices(
    slices: Sequence[objects.EndpointSlice], port_name: str, protocol: str, *, family: int, node: str, release: Release
) -> Candidates:
    """The endpoints that `slices`, those labelled with one Service's name, hold for one of its ports (KPR 2.1, 2.2).

    `port_name` is "" for a port without a name, `protocol` is "TCP", "UDP" or "SCTP", `node` is kube-proxy's node name.
    """
    taken: list[list[Endpoint]] = []
    unready: list[Endpoint] = []
    for entry in slices:
        if not _slice_used(entry, family, release):
            continue
        for port in entry.ports:
            if port.name is None or not port.port or port.name != port_name:
                continue
            if release.protocol_in_key and (port.protocol or "TCP") != protocol:
                continue
            found = _slice_endpoints(entry.endpoints, port.port, family, node, release)
            if not release.unready_endpoints_kept:
                unready.extend(endpoint for endpoint in found if not endpoint.ready)
                found = [endpoint for endpoint in found if endpoint.ready]
            if found:
                taken.append(found)
    if not taken:
        return Candidates((), tuple(unready))
    rule = release.duplicate_rule
    order = _by_address if release.endpoints_sorted_by_address else _by_text
    key = _by_address if rule is DuplicateRule.ADDRESS_LOCAL_WINS else _by_text
    if len(taken) == 1:
        # One slice: its order is given, and so is the outcome.
        found = taken[0]
        merged = len({key(endpoint) for endpoint in found}) != len(found)
        if merged:
            found = list(_merge_in_order(found, key, rule).values())
        found.sort(key=order)
        return Candidates(tuple(found), tuple(unready), merged=merged)
    groups: dict[str, list[Endpoint]] = {}
    for found in taken:
        for text, endpoint in _merge_in_order(found, key, rule).items():
            groups.setdefault(text, []).append(endpoint)
    chosen: list[Endpoint] = []
    duplicates: list[tuple[Endpoint, ...]] = []
    for group in groups.values():
        possible = group if len(group) == 1 else _possible(group, rule)
        chosen.append(possible[0])
        if len(possible) > 1:
            duplicates.append(tuple(possible))
    merged = len(chosen) != sum(map(len, taken))
    return Candidates(tuple(sorted(chosen, key=order)), tuple(unready), tuple(duplicates), merged)


def _slice_used(entry: objects.EndpointSlice, family: int, release: Release) -> bool:
    if entry.address_type != _ADDRESS_TYPES[family] and not (entry.address_type == "IP" and release.legacy_address_type):
        return False
    labels = entry.metadata.labels
    return labels is None or (HEADLESS_LABEL not in labels and PROXY_NAME_LABEL not in labels)


def _slice_endpoints(entries: Iterable[objects.Endpoint], port: int, family: int, node: str, release: Release) -> list[Endpoint]:
    found: list[Endpoint] = []
    suffix = f":{port}"
    canonical = release.canonical_addresses
    checked = release.address_family_checked
    node_hints_read = release.hints_mode is HintsMode.SLICES_AND_NODES
    for entry in entries:
        if not entry.addresses:
            continue
        address = entry.addresses[0]
        exact = canonical_address(address, family)
        if exact is None:
            if checked:
                continue
        elif canonical:
            address = exact
        conditions = entry.conditions
        if conditions is None:
            ready = serving = True
            terminating = False
        else:
            ready = conditions.ready is not False
            serving = conditions.serving is not False
            terminating = conditions.terminating is True
        hints = entry.hints
        found.append(
            Endpoint(
                address,
                port,
                f"[{address}]{suffix}" if ":" in address else address + suffix,
                ready,
                serving,
                terminating,
                entry.node_name,
                entry.node_name == node if canonical else _is_local(entry, node, release),
                frozenset(hint.name for hint in hints.for_zones) if hints is not None else _NONE,
                frozenset(hint.name for hint in hints.for_nodes) if hints is not None and node_hints_read else _NONE,
                entry.target_ref,
                entry.topology or entry.deprecated_topology,
            )
        )
    return found


def _is_local(entry: objects.Endpoint, node: str, release: Release) -> bool:
    """KPR 2.1.2."""
    if release.locality_by_node_name and entry.node_name is not None:
        return entry.node_name == node
    if not release.locality_by_topology:
        return False
    topology = entry.topology or entry.deprecated_topology
    if topology is None or _HOSTNAME_KEY not in topology:
        # discovery/v1 moved the entry into nodeName; an old kube-proxy was served v1beta1, which still has it.
        return entry.node_name == node
    return topology[_HOSTNAME_KEY] == node


def _merge_in_order(found: Iterable[Endpoint], key: Callable[[Endpoint], str], rule: DuplicateRule) -> dict[str, Endpoint]:
    """One entry for each key, by the release's rule and the given order."""
    kept: dict[str, Endpoint] = {}
    for endpoint in found:
        text = key(endpoint)
        earlier = kept.get(text)
        if earlier is None or _replaces(endpoint, earlier, rule):
            kept[text] = endpoint
    return kept


def _replaces(later: Endpoint, earlier: Endpoint, rule: DuplicateRule) -> bool:
    match rule:
        case DuplicateRule.ADDRESS_LOCAL_WINS:
            return later.is_local and not earlier.is_local
        case DuplicateRule.ENDPOINT_LOCAL_WINS:
            return later.is_local
        case DuplicateRule.ENDPOINT_NON_TERMINATING_WINS:
            return not later.terminating
        case _:
            assert_never(rule)


def _possible(group: Sequence[Endpoint], rule: DuplicateRule) -> list[Endpoint]:
    """The entries of several slices for one key that may count, since the order of slices is random; equal ones are one."""
    if rule is DuplicateRule.ENDPOINT_NON_TERMINATING_WINS:
        preferred = [endpoint for endpoint in group if not endpoint.terminating]
    else:
        preferred = [endpoint for endpoint in group if endpoint.is_local]
    distinct: list[Endpoint] = []
    for endpoint in preferred or group:
        if not any(_same(endpoint, other) for other in distinct):
            distinct.append(endpoint)
    return distinct


def _same(one: Endpoint, other: Endpoint) -> bool:
    """Whether two entries lead to the same choice."""
    return (
        one.text == other.text
        and one.ready == other.ready
        and one.serving == other.serving
        and one.terminating == other.terminating
        and one.is_local == other.is_local
        and one.zone_hints == other.zone_hints
        and one.node_hints == other.node_hints
    )


def candidates_from_endpoints(
    given: objects.Endpoints | None,
    port_name: str,
    protocol: str,
    *,
    family: int,
    node: str,
    release: Release,
    with_unready: bool,
) -> Candidates:
    """The endpoints that a Service's Endpoints object holds for one of its ports (KPR 2.7), in the object's order, duplicates
    kept.

    `with_unready`: its notReadyAddresses are candidates that are not ready, as they are where Endpoints stand for
    EndpointSlices that were not given; otherwise they are in `unready`.
    """
    if given is None or HEADLESS_LABEL in (given.metadata.labels or ()) or PROXY_NAME_LABEL in (given.metadata.labels or ()):
        return Candidates(())
    endpoints: list[Endpoint] = []
    unready: list[Endpoint] = []
    for subset in given.subsets:
        for port in subset.ports:
            if not port.port or (port.name or "") != port_name:
                continue
            if release.protocol_in_key and (port.protocol or "TCP") != protocol:
                continue
            for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
                for entry in addresses:
                    exact = canonical_address(entry.ip, family)
                    if exact is None:
                        continue
                    address = exact if release.canonical_addresses else entry.ip
                    endpoint = Endpoint(
                        address,
                        port.port,
                        endpoint_text(address, port.port),
                        ready=ready,
                        serving=ready,
                        node_name=entry.node_name,
                        is_local=entry.node_name == node,
                        target_ref=entry.target_ref,
                    )
                    (endpoints if ready or with_unready else unready).append(endpoint)
    if with_unready:
        return Candidates(
            tuple(sorted({endpoint.text: endpoint for endpoint in endpoints}.values(), key=_by_text)), tuple(unready)
        )
    return Candidates(tuple(endpoints), tuple(unready))


def select(endpoints: Sequence[Endpoint], policy: Policy, release: Release) -> Selection:
    """The endpoints among `endpoints`, in kube-proxy's order, that get a service port's traffic on `policy.node`."""
    if not endpoints:
        return _NOTHING
    if release.common_selection:
        return _select_common(tuple(endpoints), policy, release)
    return _select_before_common(tuple(endpoints), policy, release)


def _select_common(endpoints: tuple[Endpoint, ...], policy: Policy, release: Release) -> Selection:
    """KPR 2.3; pkg/proxy/topology.go, CategorizeEndpoints, 1.24 and later."""
    fallback = release.terminating_fallback
    ready = tuple([endpoint for endpoint in endpoints if endpoint.ready])
    if len(ready) == len(endpoints):
        ready = endpoints
    cluster: tuple[Endpoint, ...] = ()
    usable = False
    if policy.uses_cluster:
        cluster = _hinted(ready, policy, release.hints_mode)
        if not cluster and fallback:
            cluster = tuple([endpoint for endpoint in endpoints if endpoint.usable_when_terminating])
        usable = bool(cluster)
    if not policy.uses_local:
        return Selection(cluster, (), cluster, usable)
    usable = bool(ready) or (fallback and any(endpoint.usable_when_terminating for endpoint in endpoints))
    local = _local(endpoints, fallback=fallback)
    return Selection(cluster, local, _union(cluster, local) if policy.uses_cluster else local, usable)


def _local(endpoints: Sequence[Endpoint], *, fallback: bool) -> tuple[Endpoint, ...]:
    ready = tuple([endpoint for endpoint in endpoints if endpoint.is_local and endpoint.ready])
    if ready or not fallback:
        return ready
    return tuple([endpoint for endpoint in endpoints if endpoint.is_local and endpoint.usable_when_terminating])


def _union(cluster: tuple[Endpoint, ...], local: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Both lists, each endpoint once."""
    held = {endpoint.text for endpoint in cluster}
    if all(endpoint.text in held for endpoint in local):
        return cluster
    return tuple(sorted((*cluster, *(endpoint for endpoint in local if endpoint.text not in held)), key=_by_text))


def _hinted(endpoints: tuple[Endpoint, ...], policy: Policy, mode: HintsMode) -> tuple[Endpoint, ...]:
    """Those of `endpoints` that topology hints leave to this node; all where hints do not count (KPR 2.4)."""
    if mode is HintsMode.NONE or not endpoints:
        return endpoints
    if mode is HintsMode.SLICES_AND_NODES and all(endpoint.node_hints for endpoint in endpoints):
        hinted = tuple([endpoint for endpoint in endpoints if policy.node in endpoint.node_hints])
        if hinted:
            return hinted
    if mode not in (HintsMode.SLICES, HintsMode.SLICES_AND_NODES) and not policy.hints_annotated:
        return endpoints
    if not policy.zone or not all(endpoint.zone_hints for endpoint in endpoints):
        return endpoints
    return tuple([endpoint for endpoint in endpoints if policy.zone in endpoint.zone_hints]) or endpoints


def _select_before_common(endpoints: tuple[Endpoint, ...], policy: Policy, release: Release) -> Selection:
    """KPR 2.5 and 2.6; pkg/proxy/iptables/proxier.go, syncProxyRules, up to 1.23."""
    left = endpoints
    mode = release.hints_mode
    if not policy.external_local:
        if policy.topology_keys and release.topology_keys:
            left = _by_topology_keys(left, policy)
        elif policy.internal_local:
            left = tuple([endpoint for endpoint in left if endpoint.is_local])
        elif mode is HintsMode.ANNOTATION_ALL:
            left = _hinted(left, policy, mode)
        elif mode is HintsMode.ANNOTATION_READY:
            ready = tuple([endpoint for endpoint in left if endpoint.ready])
            left = _hinted(ready, policy, mode) if policy.hints_annotated else left
    cluster = tuple([endpoint for endpoint in left if endpoint.ready])
    fallback = release.terminating_fallback
    local = _local(left, fallback=fallback)
    if release.has_endpoints_before_ready_test:
        return Selection(cluster, local, left, bool(left))
    usable = bool(cluster) or (fallback and policy.external_local and any(endpoint.usable_when_terminating for endpoint in left))
    return Selection(cluster, local, _union(cluster, local), usable)


def _by_topology_keys(endpoints: tuple[Endpoint, ...], policy: Policy) -> tuple[Endpoint, ...]:
    """KPR 2.6: the first key with a match decides; "*" takes all; no match leaves none."""
    labels = policy.labels or {}
    for key in policy.topology_keys:
        if key == "*":
            return endpoints
        value = labels.get(key)
        matching = tuple([endpoint for endpoint in endpoints if value and (endpoint.topology or {}).get(key) == value])
        if matching:
            return matching
    return ()
