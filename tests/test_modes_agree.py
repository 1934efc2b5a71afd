"""One cluster in iptables and in IPVS mode: the canonical forwarding of every frontend is the same, but for what the modes do differently.

What each mode's dumps make of a connection (its verdict, endpoints with their shares, session affinity, masquerade) is observed and compared for
each frontend and vantage point: on generated clusters, written out for both modes, and on captured nodes, service by service.
`DIFFERENCES` says once where the modes part, and why (docs/semantics.md, "Where the modes differ"; KPR 16).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kubeproxy.test_expect_ipvs import content
from tests.small_ipvs_node import OWN, SmallIpvsNode
from tests.small_node import KUBERNETES, NODE, NODES, Object, SmallNode, as_list, endpoint, service

from ruleaudit.cluster import load
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.ipvs import IpvsEvaluator, VirtualTable
from ruleaudit.dataplane.observe import observe
from ruleaudit.dataplane.packet import Host
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.dataplane.sets import Sets
from ruleaudit.dataplane.vantage import Clients, choose_clients
from ruleaudit.formats import ip_addr, ipset, ipvsadm
from ruleaudit.formats.iptables_save import parse
from ruleaudit.forwarding import Frontend, FrontendKind, Vantage
from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort, expect
from ruleaudit.kubeproxy.release import ProxyMode
from ruleaudit.kubeproxy.settings import combine, read_settings, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

MARK = 0x4000
Evaluator(
    Ruleset(4, ()), Host()
)  # raises the limit of recursion, which hypothesis wants to be the same at a test's begin and end


class Seen(NamedTuple):
    """What becomes of a connection. `masquerade` None: nothing is forwarded, or the client is its own endpoint."""

    verdict: str
    backends: Mapping[str, float]
    affinity: int | None
    masquerade: bool | None


def alike(one: Seen, other: Seen) -> bool:
    """Whether both do the same, as far as both tell of masquerade."""
    return one[:3] == other[:3] and (None in (one.masquerade, other.masquerade) or one.masquerade == other.masquerade)


@dataclass(frozen=True)
class Side:
    """One node in one mode: what it does, and what is known of its objects."""

    evaluator: Evaluator
    clients: Clients
    expectation: Expectation
    own: str

    def seen(self, frontend: Frontend, vantage: Vantage) -> Seen:
        """What becomes of a connection to a frontend."""
        destination = frontend.address or self.own
        found = observe(self.evaluator, self.clients.packet(vantage, frontend.protocol, destination, frontend.port), MARK)
        masquerade = found.marked > 0 if found.marked or found.unmarked else None
        verdict = found.verdict.value if found.verdict is not None else "several"
        backends = {text: round(share, 6) for text, share in found.backends.items()}
        return Seen(verdict, backends, found.affinity if backends else None, masquerade if backends else None)


class ModeDifference(NamedTuple):
    """Where the modes part: which questions it concerns, by the service port, the frontend and the client; and why."""

    name: str
    reason: str
    concerns: Callable[[ExpectedServicePort, Frontend, Vantage], bool]


def _external(frontend: Frontend) -> bool:
    return frontend.kind is not FrontendKind.CLUSTER_IP


DIFFERENCES = (
    ModeDifference(
        "a Local policy without local endpoints",
        "iptables drops, IPVS sends to all endpoints (1.24 and later; pkg/proxy/ipvs/proxier.go, syncEndpoint)",
        lambda port, frontend, _vantage: (
            (port.external_local if _external(frontend) else port.internal_local) and not port.selection.local
        ),
    ),
    ModeDifference(
        "external policy Local from the node and its pods",
        "iptables takes them to all endpoints and masquerades the node; a virtual server has one set of real servers for everybody",
        lambda port, frontend, vantage: port.external_local and _external(frontend) and vantage is not Vantage.OUTSIDE,
    ),
    ModeDifference(
        "source ranges and the node",
        "iptables looks at the source; in IPVS mode the node asks a VIP from that VIP, and is let in where its address is in a range",
        lambda port, frontend, vantage: (
            bool(port.source_ranges) and frontend.kind is FrontendKind.LOAD_BALANCER_IP and vantage is Vantage.NODE
        ),
    ),
    ModeDifference(
        "source ranges without endpoints",
        "iptables writes no firewall then and rejects, IPVS mode drops (KPR 16)",
        lambda port, frontend, _vantage: (
            bool(port.source_ranges) and frontend.kind is FrontendKind.LOAD_BALANCER_IP and not port.selection.any
        ),
    ),
    ModeDifference(
        "external addresses without endpoints from the node",
        "iptables refuses in KUBE-EXTERNAL-SERVICES, which OUTPUT does not reach (KPR 4.2); a virtual server refuses everybody",
        lambda port, frontend, vantage: (
            not port.selection.any
            and frontend.kind in (FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER_IP)
            and vantage is Vantage.NODE
        ),
    ),
)
REFUSED = "external IPs under external policy Local"
"""In IPVS mode of 1.26 to 1.29 KUBE-IPVS-FILTER refuses them: only from 1.30 on it asks the set that holds them (KPR 10.4)."""


def judged(iptables: Side, ipvs: Side) -> Iterator[tuple[str, Seen, Seen, list[str]]]:
    """Every question that both sides can be asked, with both answers, and the names of the differences that concern it."""
    others = {(port.name, port.protocol): port for port in ipvs.expectation.service_ports}
    for port in iptables.expectation.service_ports:
        other = others.get((port.name, port.protocol))
        if other is None or [one.kind for one in port.frontends] != [one.kind for one in other.frontends]:
            continue
        for one, two in zip(port.frontends, other.frontends, strict=True):
            for vantage in Vantage:
                names = [each.name for each in DIFFERENCES if each.concerns(port, one, vantage)]
                yield (
                    f"{port.name} {one.kind.value} from {vantage.value}",
                    iptables.seen(one, vantage),
                    ipvs.seen(two, vantage),
                    names,
                )


# --- generated clusters ------------------------------------------------------------------------------------------------------------------


def sides(objects: Sequence[Object], minor: int) -> tuple[Side, Side]:
    """The same objects, programmed in both modes."""
    plain, virtual = SmallNode(objects, minor), SmallIpvsNode(objects, minor)
    cluster = load([("objects.json", as_list(objects))])
    release, settings = virtual.settings.release(minor), virtual.settings
    found = []
    for mode in (ProxyMode.IPTABLES, ProxyMode.IPVS):
        expectation = expect(cluster, node=NODE, family=4, settings=settings, release=release, mode=mode)
        own = [one for one in OWN if ":" not in one]
        clients = choose_clients(
            4, pod_networks=["10.244.1.0/24"], node_addresses=own, pod_interface=None,
            avoid=[expectation.endpoint_addresses], avoid_networks=["198.51.100.0/24"],
        )  # fmt: skip
        if mode is ProxyMode.IPTABLES:
            evaluator = Evaluator(Ruleset(4, parse(plain.text(), "iptables-save").tables), Host(frozenset(own)))
        else:
            written = virtual.written(4)
            sets = Sets(ipset.parse(written.ipset(), "ipset").sets)
            listing = ipvsadm.parse(written.listing(), "ipvsadm").listings[0]
            rules = Ruleset(4, parse(written.iptables(), "iptables-save").tables, sets=sets)
            host = Host(frozenset([*own, *written.dummy]), frozenset(own))
            evaluator = IpvsEvaluator(rules, host, VirtualTable(listing, 4))
            clients = _from_vips(clients)
        found.append(Side(evaluator, clients, expectation, own[0]))
    return found[0], found[1]


def _from_vips(clients: Clients) -> Clients:
    return replace(clients, asks_from_vip=True)


ENDPOINTS = st.lists(
    st.tuples(st.sampled_from(["10.244.1.", "10.244.2."]), st.integers(5, 9), st.sampled_from(["ready", "unready", "leaving"])),
    max_size=5,
    unique_by=lambda one: one[:2],
)


@st.composite
def clusters(draw: st.DrawFn) -> list[Object]:
    """A few services with every feature."""
    objects: list[Object] = [*NODES, *KUBERNETES]
    for number in range(draw(st.integers(1, 4))):
        conditions: dict[str, dict[str, bool]] = {
            "ready": {},
            "unready": {"ready": False, "serving": False},
            "leaving": {"ready": False, "terminating": True},
        }
        endpoints = [endpoint(f"{net}{last}", None, **conditions[state]) for net, last, state in draw(ENDPOINTS)]
        kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]))
        spec: dict[str, object] = {"type": kind, "internalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"]))}
        port: dict[str, object] = {
            "name": "p", "port": draw(st.sampled_from([80, 53])), "targetPort": 8080, "protocol": draw(st.sampled_from(["TCP", "UDP"])),
        }  # fmt: skip
        if kind != "ClusterIP":
            spec["externalTrafficPolicy"] = draw(st.sampled_from(["Cluster", "Local"]))
            port["nodePort"] = 30080 + number
        if draw(st.booleans()):
            spec["sessionAffinity"] = "ClientIP"
        if draw(st.booleans()):
            spec["externalIPs"] = [f"203.0.113.{40 + number}"]
        ingress = [f"203.0.113.{60 + number}"] if kind == "LoadBalancer" else []
        if kind == "LoadBalancer" and draw(st.booleans()):
            spec["loadBalancerSourceRanges"] = draw(
                st.sampled_from([["198.51.100.0/24"], ["0.0.0.0/1", "128.0.0.0/1"], ["192.0.2.0/24"]])
            )
        objects += service(f"d/s{number}", f"10.96.0.{20 + number}", endpoints, ports=[port], ingress=ingress, **spec)  # type: ignore[arg-type]
    return objects


@given(objects=clusters(), minor=st.sampled_from([25, 27, 30, 36]))
def test_generated_clusters_are_forwarded_alike(objects: list[Object], minor: int) -> None:
    for question, one, other, names in judged(*sides(objects, minor)):
        if 26 <= minor <= 29 and FrontendKind.EXTERNAL_IP.value in question and other.verdict == "reject":
            names.append(REFUSED)
        assert alike(one, other) or names, f"1.{minor} {question}: iptables {one}, IPVS {other}"


def test_each_difference_is_one() -> None:
    """What the data says that the modes do differently, they do."""
    remote = [endpoint("10.244.2.5")]
    both = [endpoint("10.244.1.5"), *remote]
    ports = [{"name": "p", "port": 80, "targetPort": 8080, "nodePort": 30080}]
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports, "ingress": ["203.0.113.60"]}
    guarded = {
        "type": "LoadBalancer",
        "ports": ports,
        "ingress": ["203.0.113.60"],
        "loadBalancerSourceRanges": ["198.51.100.0/24"],
    }
    met: set[str] = set()
    for endpoints, spec in (
        (remote, local),
        (both, local),
        (both, guarded),
        (both, {**guarded, "loadBalancerSourceRanges": ["203.0.113.60/32"]}),
        ([], guarded),
        ([], {"externalIPs": ["203.0.113.40"]}),
    ):
        objects = [*NODES, *KUBERNETES, *service("d/s", "10.96.0.20", endpoints, **spec)]
        for _question, one, other, names in judged(*sides(objects, 36)):
            if not alike(one, other):
                met.update(names[:1] if len(names) > 1 else names)
    assert met == {one.name for one in DIFFERENCES}


# --- captured nodes ----------------------------------------------------------------------------------------------------------------------


def captured(folder: Path) -> Side:
    """IPv4 of a captured node."""
    given = resolve(combine([read_settings(content(folder / name).encode(), name) for name in ("kube-proxy.args", "meta.json")]))
    assert given.minor is not None
    assert given.hostname_override is not None
    cluster = load([("objects.json", content(folder / "objects.json").encode())])
    mode = ProxyMode(json.loads((folder / "meta.json").read_text())["mode"])
    release = given.release(given.minor)
    expectation = expect(cluster, node=given.hostname_override, family=4, settings=given, release=release, mode=mode)
    own = [one for one in json.loads((folder / "meta.json").read_text())["node_ips"] if ":" not in one]
    node = cluster.nodes[given.hostname_override]
    networks = [one for one in node.spec.pod_cidrs if ":" not in one]
    ranges = {one for port in expectation.service_ports for one in port.source_ranges}
    clients = choose_clients(
        4,
        pod_networks=networks,
        node_addresses=own,
        pod_interface=None,
        avoid=[expectation.endpoint_addresses],
        avoid_networks=ranges,
    )
    tables = parse(content(folder / "iptables-save.txt"), "iptables-save").tables
    if mode is ProxyMode.IPTABLES:
        return Side(Evaluator(Ruleset(4, tables), Host(frozenset(own))), clients, expectation, own[0])
    held = [one.address for _, one in ip_addr.parse(content(folder / "ip-addr-kube-ipvs0.json"), "ip").addresses()]
    listing = ipvsadm.parse(content(folder / "ipvsadm-save.txt"), "ipvsadm").listings[0]
    rules = Ruleset(4, tables, sets=Sets(ipset.parse(content(folder / "ipset.txt"), "ipset").sets))
    host = Host(frozenset([*own, *held]), frozenset(own))
    return Side(IpvsEvaluator(rules, host, VirtualTable(listing, 4)), _from_vips(clients), expectation, own[0])


def shape(side: Side, seen: Seen) -> tuple[object, ...]:
    """What can be compared between clusters whose pods have other addresses: how many endpoints get which share, and how many are local."""
    local = {one.text for port in side.expectation.service_ports for one in port.candidates.endpoints if one.is_local}
    return seen.verdict, sorted((share, text in local) for text, share in seen.backends.items()), seen.affinity, seen.masquerade


@pytest.mark.parametrize("minor", ["1.30", "1.36"])
def test_captured_clusters_are_forwarded_alike(minor: str, capture_folders: list[Path]) -> None:
    folders = {one.name: one for one in capture_folders}
    if not {f"features-{minor}-iptables", f"features-{minor}-ipvs"} <= folders.keys():
        pytest.skip(f"no captures of {minor} in both modes")
    iptables, ipvs = (captured(folders[f"features-{minor}-{mode}"]) for mode in ("iptables", "ipvs"))
    compared = 0
    for question, one, other, names in judged(iptables, ipvs):
        compared += not names
        assert names or shape(iptables, one) == shape(ipvs, other), f"{question}: iptables {one}, IPVS {other}"
    assert compared > 250
