"""What is told of one damage, exactly: every finding with its service and a part of its message, and nothing else.

A finding stands here as `CODE severity service: part of its message`, with `<` before it where it names another one as its cause. RA004
(what was not given) and orphans (RA209) are left out unless a case is about them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from tests.checks.test_codes import (
    BALANCED,
    ELSEWHERE,
    EMPTY,
    GUARDED,
    HEALTH,
    LOCAL_PORT,
    NODE_PORT,
    PORT,
    STICKY,
    swapped,
    web,
)
from tests.small_node import (
    BASE,
    KUBERNETES,
    LOCAL,
    NODES,
    REMOTE,
    Edit,
    Object,
    SmallNode,
    added,
    both,
    changed,
    endpoint,
    node_object,
    service,
    slice_of,
    twice,
    without,
)

from ruleaudit.audit import audit_inputs
from ruleaudit.checks.objects import slice_disagreements
from ruleaudit.checks.observer import address_inside
from ruleaudit.checks.stopped import stopped
from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Certainty, Finding, Severity
from ruleaudit.sources import InputKind, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _pytest.mark import ParameterSet


@dataclass(frozen=True)
class Case:
    """A healthy node, an edit of its dump, other objects where they are not those that the rules were written for, and what is told."""

    given: Sequence[Object]
    edit: Edit
    told: Sequence[str]
    objects: Sequence[Object] | None = None
    minor: int = 36
    families: tuple[int, ...] = (4,)
    unseen: frozenset[str] = field(default=frozenset({"RA004", "RA209"}))


def case(name: str, given: Sequence[Object], edit: Edit, *told: str, **more: object) -> ParameterSet:
    return pytest.param(Case(given, edit, told, **more), id=name)  # type: ignore[arg-type]  # by name


def hinted(one: Object, *zones: str) -> Object:
    return {**one, "hints": {"forZones": [{"name": zone} for zone in zones]}}


def endpoints_of(name: str, ready: Sequence[str], unready: Sequence[str] = (), port: str = "http", number: int = 8080) -> Object:
    namespace, _, short = name.partition("/")
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"namespace": namespace, "name": short},
        "subsets": [
            {
                "addresses": [{"ip": one} for one in ready],
                "notReadyAddresses": [{"ip": one} for one in unready],
                "ports": [{"name": port, "port": number}],
            }
        ],
    }


def standing_in(objects: Sequence[Object], *endpoints: Object) -> list[Object]:
    """The same without EndpointSlices, and Endpoints instead."""
    kubernetes = endpoints_of("default/kubernetes", ["192.0.2.10"], port="https", number=6443)
    return [*(one for one in objects if one["kind"] != "EndpointSlice"), kubernetes, *endpoints]


def table(name: str, *rules: str) -> Edit:
    """Put a table before the others."""
    chains = dict.fromkeys(("PREROUTING", "FORWARD", "OUTPUT") if name != "raw" else ("PREROUTING", "OUTPUT"))
    return lambda text: "\n".join([f"*{name}", *(f":{one} ACCEPT [0:0]" for one in chains), *rules, "COMMIT", text])


def pod(
    name: str,
    address: str,
    phase: str = "Running",
    *,
    deleted: str | None = None,
    status: Mapping[str, object] | None = None,
    **spec: object,
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "x", "name": name, **({"deletionTimestamp": deleted} if deleted else {})},
        "spec": {"nodeName": "node-a", "containers": [], **spec},
        "status": status if status is not None else {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]},
    }


def refusal(text: str) -> str:
    return (
        f'-A KUBE-SERVICES -d {text}/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 '
        "-j REJECT --reject-with icmp-port-unreachable"
    )


WEB_EP = endpoints_of("shop/web", ["10.244.1.5", "10.244.2.5"])
SECOND = service("shop/web", "10.96.0.20", ipFamilies=["IPv6", "IPv4"], clusterIPs=["fd00::1", "10.96.0.20"])
EIGHT = service("m/s0", "10.96.7.0", externalIPs=[f"203.0.113.{number}" for number in range(8)])
SIX = service("shop/six", "fd00:10:96::6", [endpoint("fd00:10:244:1::5", "node-a")], family=6)
DNS: list[Object] = [
    {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
]
TWO_PROTOCOLS = service("shop/dns", "10.96.0.40", externalIPs=["203.0.113.9"], ports=DNS)
NO_IPS = {"phase": "Running"}
THREE = [hinted(LOCAL, "zone-a"), hinted(REMOTE, "zone-b"), hinted(endpoint("10.244.2.6"), "zone-a")]


def remote_port(policy: str) -> list[Object]:
    return service("shop/port", "10.96.0.21", [REMOTE], type="NodePort", ports=NODE_PORT, externalTrafficPolicy=policy)


def guarded(*ranges: str, externalTrafficPolicy: str = "Cluster") -> list[Object]:  # noqa: N803  # as the API has it
    return service(
        "shop/balanced",
        "10.96.0.23",
        type="LoadBalancer",
        ingress=["203.0.113.5"],
        loadBalancerSourceRanges=list(ranges or ["198.51.100.0/24"]),
        ports=NODE_PORT,
        externalTrafficPolicy=externalTrafficPolicy,
    )


ALONE = [
    case("nothing", [*BASE, *PORT, *EMPTY, *STICKY], str),
    case(
        "a-jump-to-nowhere",
        BASE,
        changed("(shop/web.* -j )KUBE-SEP-\\w+", "\\1KUBE-SEP-AAAAAAAAAAAAAAAA"),
        "RA309 error: (shop/web:http) leads to KUBE-SEP-AAAAAAAAAAAAAAAA, which is not declared",
    ),
    case(
        "an-empty-chain",
        BASE,
        without("-A KUBE-SEP-.*10.244.1.5"),
        "RA309 error: (shop/web:http) leads to KUBE-SEP-34ZZ2QFGO32YYXXO, which is empty",
    ),
    case(
        "a-chain-that-is-not-kube-proxys-leads-nowhere",
        BASE,
        added("nat", "-A CNI -j KUBE-SEP-AAAAAAAAAAAAAAAA"),
    ),
    case(
        "uneven",
        BASE,
        changed("--probability 0\\.50000000000", "--probability 0.90000000000"),
        "RA303 error: (shop/web:http) does not share connections evenly: 10.244.1.5:8080 90.0%, 10.244.2.5:8080 10.0%",
    ),
    case("as-even-as-printed", BASE, changed("--probability 0\\.50000000000", "--probability 0.50009000000")),
    case(
        "falls-through",
        BASE,
        without("shop/web:http -> 10.244.2.5"),
        "RA303 error: (shop/web:http) does not share connections evenly: 10.244.1.5:8080 50.0%, 50.0% to nobody",
    ),
    case(
        "not-the-hash",
        BASE,
        changed("--to-destination 10\\.244\\.1\\.5:8080", "--to-destination 10.244.1.5:8081"),
        "RA206 warning: KUBE-SEP-34ZZ2QFGO32YYXXO of shop/web:http leads to 10.244.1.5:8081, for which its name is not the hash",
    ),
    case(
        "not-the-hash-but-of-what",
        BASE,
        changed('"shop/web:http" (-m tcp -j DNAT --to-destination 10\\.244\\.1\\.5:)8080', '"something" \\g<1>8081'),
    ),
    case(
        "a-chain-that-translates-nothing",
        BASE,
        changed("-j DNAT --to-destination 10\\.244\\.1\\.5:8080", "-j ACCEPT"),
        "RA310 warning: a rule of nat KUBE-SEP-34ZZ2QFGO32YYXXO is not",
    ),
    case(
        "refused-and-served",
        BASE,
        added("filter", refusal("10.96.0.20")),
        "RA208 warning: 10.96.0.20 80/TCP (shop/web:http) is refused as having no endpoints and yet sent to KUBE-SVC-",
    ),
    case("refused-and-not-served", BASE, added("filter", refusal("10.96.0.21"))),
    case("dropped-and-served", BASE, added("filter", refusal("10.96.0.20").partition("REJECT")[0] + "DROP")),
    case(
        "node-port-refused-and-served",
        [*BASE, *PORT],
        added(
            "filter",
            '-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "shop/port:http has no endpoints" -m addrtype --dst-type LOCAL '
            "-m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable",
        ),
        "RA208 warning: node port 30080/TCP (shop/port:http) is refused as having no endpoints and yet sent to KUBE-EXT-",
    ),
]

CASES = [
    # stale frontends
    case(
        "a-rule-without-a-name",
        BASE,
        added("nat", "-A KUBE-SERVICES -d 10.96.9.9/32 -p tcp -m tcp --dport 80 -j ACCEPT", first=True),
        "RA201 error: an unnamed service: rules still forward 10.96.9.9:80/TCP, but there is no such Service",
    ),
    case(
        "of-a-service-that-is-passed-over",
        BASE,
        str,
        "RA201 error shop/web: rules still forward 10.96.0.20:80/TCP, but kube-proxy passes the Service over (it is of type ExternalName)",
        objects=web(type="ExternalName"),
    ),
    case(
        "of-a-port-that-is-gone",
        BASE,
        str,
        "RA201 error shop/web: but the Service has no such port",
        "RA101 error shop/web: shop/web:web is not programmed",
        objects=web(ports=[{"name": "web", "port": 81, "targetPort": 8080}]),
    ),
    case(
        "a-refusal-of-a-service-that-is-gone",
        [*BASE, *EMPTY],
        str,
        "RA201 error shop/empty: shop/empty:http: rules refuse 10.96.0.25:80/TCP, but there is no such Service",
        objects=BASE,
    ),
    case(
        "of-ipv6",
        [*NODES, *KUBERNETES, *SIX],
        str,
        "RA201 error shop/six: rules still forward [fd00:10:96::6]:80/TCP, but there is no such Service",
        objects=[*NODES, *KUBERNETES],
        families=(6,),
    ),
    case(
        "eight-of-one",
        [*BASE, *EIGHT],
        str,
        "RA204 error m/s0: rules still forward external IP 203.0.113.0:80/TCP, 203.0.113.1:80/TCP, 203.0.113.2:80/TCP, 203.0.113.3:80/TCP,",
        objects=[*BASE, *service("m/s0", "10.96.7.0")],
    ),
    case(
        "a-refusal-of-an-external-ip",
        [*BASE, *service("shop/e", "10.96.0.26", [], externalIPs=["203.0.113.6"])],
        str,
        "RA204 error shop/e: rules refuse address 203.0.113.6:80/TCP",
        objects=[*BASE, *service("shop/e", "10.96.0.26", [])],
    ),
    case(
        "a-refusal-of-a-load-balancer-ip",
        [*BASE, *service("shop/e", "10.96.0.26", [], type="LoadBalancer", ingress=["203.0.113.6", "203.0.113.7"])],
        str,
        "RA205 error shop/e: rules refuse address 203.0.113.6:80/TCP",
        objects=[*BASE, *service("shop/e", "10.96.0.26", [], type="LoadBalancer", ingress=["203.0.113.7"])],
    ),
    case(
        "a-refusal-of-a-cluster-ip",
        [*BASE, *EMPTY],
        str,
        "RA202 error shop/empty: rules refuse address 10.96.0.25:80/TCP",
        "RA107 error shop/empty: traffic to 10.96.0.99:80/TCP passes instead of being rejected",
        objects=[*BASE, *service("shop/empty", "10.96.0.99", [])],
    ),
    # a service that must be refused
    case(
        "a-stale-endpoint-whose-packets-are-dropped",
        [*BASE, *service("shop/x", "10.96.0.30", [endpoint("10.244.2.7")])],
        added("filter", "-A FORWARD -d 10.244.2.7/32 -j DROP", "-A OUTPUT -d 10.244.2.7/32 -j DROP", first=True),
        "RA206 error shop/x: shop/x:http sends all of new connections to 10.244.2.7:8080",
        "<RA107 error shop/x: traffic to 10.96.0.30:80/TCP is forwarded instead of being rejected",
        objects=[*BASE, *service("shop/x", "10.96.0.30", [])],
    ),
    case(
        "refused-by-others",
        [*BASE, *EMPTY],
        added("filter", "-A FORWARD -d 10.96.0.25/32 -j DROP", "-A OUTPUT -d 10.96.0.25/32 -j DROP", first=True),
    ),
    case(
        "refused-by-kube-proxy-in-another-way",
        [*BASE, *EMPTY],
        changed("(shop/empty.* -j )REJECT --reject-with icmp-port-unreachable", "\\1DROP"),
        "RA107 error shop/empty: is refused in another way instead of being rejected",
    ),
    case(
        "pods-accepted-before",
        [*BASE, *EMPTY],
        added("filter", "-A FORWARD -s 10.244.0.0/16 -j ACCEPT", first=True),
        "RA601 info: other rules of filter FORWARD accept traffic of shop/empty before",
    ),
    case(
        "the-node-accepted-before",
        [*BASE, *EMPTY],
        added("filter", "-A OUTPUT -j ACCEPT", first=True),
        "RA601 info: other rules of filter OUTPUT accept traffic of shop/empty before",
    ),
    case(
        "accepted-before-and-not-refused-behind",
        [*BASE, *EMPTY],
        both(added("filter", "-A FORWARD -j ACCEPT", first=True), without("shop/empty:http has no")),
        "RA107 error shop/empty: passes instead of being rejected",
    ),
    case(
        "no-local-endpoint-any-more",
        [*BASE, *HEALTH],
        str,
        "RA206 error shop/balanced: shop/balanced:http sends all of new connections to 10.244.1.5:8080, an endpoint of shop/web",
        "<RA107 error shop/balanced: has none on this node, but traffic to 203.0.113.5:80/TCP is forwarded instead of being dropped",
        "<RA107 error shop/balanced: traffic to node port 30080/TCP is forwarded instead of being dropped",
        objects=[
            *BASE,
            *service(
                "shop/balanced",
                "10.96.0.23",
                [endpoint("10.244.2.5")],
                type="LoadBalancer",
                ingress=["203.0.113.5"],
                ports=NODE_PORT,
                externalTrafficPolicy="Local",
                healthCheckNodePort=32000,
            ),
        ],
    ),
    # objects that stand for others
    case("endpoints-stand-for-slices", BASE, str, objects=standing_in(BASE, WEB_EP)),
    case(
        "endpoints-that-know-less-prove-nothing", BASE, str, objects=standing_in(BASE, endpoints_of("shop/web", ["10.244.1.5"]))
    ),
    case("endpoints-that-know-more-prove-nothing", web([LOCAL]), str, objects=standing_in(BASE, WEB_EP)),
    case(
        "endpoints-that-are-not-ready",
        BASE,
        str,
        "RA207 error shop/web: shop/web:http sends 50% of new connections to 10.244.2.5:8080, which is not ready",
        objects=standing_in(BASE, endpoints_of("shop/web", ["10.244.1.5"], ["10.244.2.5"])),
    ),
    case(
        "endpoints-and-a-missing-mark",
        BASE,
        without("-A KUBE-SVC-.*shop/web:http cluster IP"),
        "RA401 error shop/web: does not masquerade connections from the node itself and outside clients",
        objects=standing_in(BASE, WEB_EP),
    ),
    case(
        "endpoints-and-no-rules",
        BASE,
        without("-A KUBE-SERVICES.*shop/web:http cluster IP"),
        "RA101 error shop/web: is not programmed",
        objects=standing_in(BASE, WEB_EP),
    ),
    case(
        "no-endpoints-and-no-rules-may-be-right",
        BASE,
        without("-A KUBE-SERVICES.*shop/web:http cluster IP"),
        objects=standing_in(BASE),
    ),
    case(
        "endpoints-of-the-other-family-prove-nothing",
        BASE,
        without("-A KUBE-SERVICES.*shop/web:http cluster IP"),
        objects=standing_in([*NODES, *KUBERNETES, *SECOND], WEB_EP),
    ),
    case(
        "endpoints-and-what-is-lost",
        BASE,
        added("filter", "-A FORWARD -d 10.244.2.5/32 -j DROP", first=True),
        "RA602 error shop/web: to 10.244.2.5:8080",
        objects=standing_in(BASE, WEB_EP),
    ),
    case(
        "endpoints-and-source-ranges",
        [*BASE, *GUARDED],
        changed("-s 198\\.51\\.100\\.0/24 ", "-s 198.51.0.0/16 "),
        "RA306 error shop/balanced: lets in clients in 198.51.0.0/16 at",
        objects=standing_in([*BASE, *GUARDED], WEB_EP, endpoints_of("shop/balanced", ["10.244.1.5", "10.244.2.5"])),
    ),
    # other software
    case(
        "half-of-an-endpoints-packets-dropped",
        BASE,
        added("filter", "-A FORWARD -d 10.244.2.5/32 -m statistic --mode random --probability 0.5 -j DROP", first=True),
        "RA602 error shop/web: a rule of filter FORWARD that is not kube-proxy's drops forwarded traffic of shop/web:http from pods and ou",
    ),
    case(
        "taken-and-stale-as-well",
        BASE,
        added(
            "nat",
            "-A PREROUTING -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m statistic --mode random --probability 0.5 "
            "-j DNAT --to-destination 10.244.7.7:80",
            first=True,
        ),
        "RA206 error shop/web: shop/web:http sends 50% of new connections to 10.244.2.5:8080, no endpoint of any Service",
        "RA603 error shop/web: a rule of nat PREROUTING that is not kube-proxy's takes traffic of shop/web:http from pods to 10.244.7.7:80",
        objects=web([LOCAL]),
    ),
    case(
        "dropped-in-mangle",
        BASE,
        table("mangle", "-A PREROUTING -d 10.96.0.20/32 -j DROP"),
        "RA601 error shop/web: a rule of mangle PREROUTING that is not kube-proxy's decides about traffic of shop/web:http from pods and o",
    ),
    case(
        "dropped-in-mangle-behind",
        BASE,
        table("mangle", "-A FORWARD -d 10.244.2.5/32 -j DROP"),
        "RA601 error shop/web: a rule of mangle FORWARD that is not kube-proxy's decides about traffic of shop/web:http from pods and outs",
    ),
    case(
        "a-policy-that-nobody-can-decide",
        BASE,
        added("filter", "-A FORWARD -j cali-FORWARD", "-A cali-FORWARD -m set --match-set x src -j DROP", first=True),
        "RA003 info: whether a rule of filter cali-FORWARD applies cannot be decided, and traffic of shop/web:http",
    ),
    case(
        "nodelocal-dns",
        BASE,
        table("raw", '-A PREROUTING -d 10.96.0.20/32 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK'),
        "RA604 info shop/web: keeps out of connection tracking",
    ),
    case(
        "half-untracked",
        BASE,
        table("raw", "-A PREROUTING -d 10.96.0.20/32 -m statistic --mode random --probability 0.5 -j NOTRACK"),
        "RA604 warning shop/web: a rule of raw PREROUTING that is not kube-proxy's keeps out",
    ),
    case(
        "six-services-at-once",
        [*BASE, *(one for n in range(5) for one in service(f"m/s{n}", f"10.96.7.{n}"))],
        added("filter", "-A FORWARD -d 10.244.2.5/32 -j DROP", first=True),
        "RA602 error: drops forwarded traffic of 6 service ports (shop/web:http, m/s0:http, m/s1:http and 3 more) from pods and outside cl",
    ),
    case(
        "five-services-one-by-one",
        [*BASE, *(one for n in range(4) for one in service(f"m/s{n}", f"10.96.7.{n}"))],
        added("filter", "-A FORWARD -d 10.244.2.5/32 -j DROP", first=True),
        *(f"RA602 error {name}: drops forwarded traffic of {name}:http" for name in ("shop/web", "m/s0", "m/s1", "m/s2", "m/s3")),
    ),
    # backends, shares, policies
    case(
        "a-balance-that-leaves-something",
        BASE,
        changed('(shop/web:http -> 10.244.2.5:8080" )', "\\1-m statistic --mode random --probability 0.5 "),
        "RA309 error shop/web: leads to no endpoint, so 25% of new connections to 10.96.0.20:80/TCP pass untranslated",
        "<RA303 error shop/web: does not share connections evenly: the rest passes untranslated",
    ),
    case(
        "a-missing-rule",
        BASE,
        without("shop/web:http -> 10.244.2.5"),
        "RA106 error shop/web: shop/web:http sends nothing to 10.244.2.5:8080, which is ready; 50% of new connections pass untranslated",
    ),
    case(
        "an-empty-service-chain",
        BASE,
        without("-A KUBE-SVC-.*shop/web:http"),
        "RA309 error shop/web: is empty, so all of new connections to 10.96.0.20:80/TCP pass untranslated",
    ),
    case(
        "an-empty-endpoint-chain",
        BASE,
        without("-A KUBE-SEP-.*10.244.2.5"),
        "RA309 error shop/web: is empty, so 50% of new connections",
        "<RA106 error shop/web: sends nothing to 10.244.2.5:8080",
    ),
    case(
        "into-another-services-chain-and-no-endpoints",
        [*BASE, *ELSEWHERE],
        lambda text: swapped(text, "shop/web", "shop/elsewhere"),
        "RA301 error shop/web: leads into KUBE-SVC-B62DEERMBJOTSXEQ, the chain of shop/elsewhere:http",
        objects=[*web([]), *ELSEWHERE],
    ),
    case(
        "another-port-that-nobody-serves",
        BASE,
        changed("--to-destination 10\\.244\\.1\\.5:8080", "--to-destination 10.244.1.5:9090"),
        "RA302 error shop/web: sends 50% of new connections to 10.244.1.5:9090: this endpoint serves port 8080, not 9090",
    ),
    case(
        "an-endpoint-that-ends-and-serves-no-more",
        BASE,
        str,
        "RA207 error shop/web: 10.244.2.5:8080, which is terminating and not serving",
        objects=web([LOCAL, endpoint("10.244.2.5", ready=False, serving=False, terminating=True)]),
    ),
    case(
        "hints-that-are-new",
        BASE,
        str,
        "RA305 error shop/web: is programmed for other topology hints",
        objects=web([hinted(LOCAL, "zone-a"), hinted(REMOTE, "zone-b")]),
    ),
    case(
        "hints-of-the-other-zone",
        web([hinted(endpoint("10.244.2.7"), "zone-a"), hinted(endpoint("10.244.2.6"), "zone-b")]),
        str,
        "RA305 error shop/web: is programmed for other topology hints",
        objects=web([hinted(endpoint("10.244.2.7"), "zone-b"), hinted(endpoint("10.244.2.6"), "zone-a")]),
    ),
    case(
        "refused-after-translation-by-kube-proxys-chain",
        BASE,
        added("filter", "-A KUBE-FORWARD -d 10.244.2.5/32 -j DROP", first=True),
        "RA601 error shop/web: connections from pods and outside clients are refused after their translation",
    ),
    case(
        "two-ports-on-one-frontend",
        [*BASE, *service("shop/twin", "10.96.0.20")],
        without("-A KUBE-SERVICES.*10.96.0.20"),
        "RA101 error shop/twin: is not programmed",
        "RA101 error shop/web: is not programmed",
        "RA703 error shop/web: 10.96.0.20:80/TCP is claimed by shop/web:http, shop/twin:http",
    ),
    case(
        "localhost-alone",
        [*BASE, *PORT],
        added("nat", "-A KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp -m tcp --dport 30080 -j RETURN", first=True),
        "RA103 error shop/port: node port 30080/TCP is not programmed for the node itself at 127.0.0.1",
    ),
    # affinity
    case(
        "clients-are-not-remembered",
        [*BASE, *STICKY],
        changed("-m recent --set --name KUBE-SEP-\\w+ --mask 255.255.255.255 --rsource ", ""),
        "RA304 error shop/sticky: incomplete (10.244.1.5:8080 does not remember its clients; list KUBE-SEP-CSG66FJTRICECHWG is asked but n",
    ),
    case(
        "two-timeouts",
        [*BASE, *STICKY],
        changed(" --seconds 600", " --seconds 60"),
        "RA304 error shop/sticky: incomplete (timeouts differ: 60, 600)",
    ),
    case(
        "no-timeout",
        [*BASE, *STICKY],
        changed(" --seconds 600", "", 0),
        "RA304 error shop/sticky: incomplete (no timeout)",
        "RA310 warning shop/sticky: is not as kube-proxy writes it",
        "RA310 warning shop/sticky: is not as kube-proxy writes it",
    ),
    case(
        "asked-in-another-way",
        [*BASE, *STICKY],
        changed("--rcheck", "--update", 0),
        "RA304 error shop/sticky: incomplete (list KUBE-SEP-CSG66FJTRICECHWG: --update is there; list KUBE-SEP-U476HGWZ6FYTEOGU: --update",
        "RA310 warning shop/sticky: is not as kube-proxy writes it",
        "RA310 warning shop/sticky: is not as kube-proxy writes it",
    ),
    case(
        "sent-to-the-other",
        [*BASE, *STICKY],
        changed(
            "(--rcheck --seconds 600 --reap --name KUBE-SEP-CSG66FJTRICECHWG .* -j )KUBE-SEP-CSG66FJTRICECHWG",
            "\\1KUBE-SEP-U476HGWZ6FYTEOGU",
        ),
        "RA304 error shop/sticky: incomplete (clients remembered for 10.244.1.5:8080 are sent to 10.244.2.5:8080)",
    ),
    case(
        "remembered-and-not-asked",
        [*BASE, *STICKY],
        without("--rcheck .*-j KUBE-SEP-CSG66FJTRICECHWG"),
        "RA304 error shop/sticky: incomplete (clients of 10.244.1.5:8080 are remembered but not sent back to it)",
    ),
    # masquerade
    case(
        "a-remote-hairpin",
        BASE,
        without("-A KUBE-SEP-\\w+ -s 10\\.244\\.2\\.5/32"),
        "RA403 warning shop/web: 10.244.2.5:8080 is not masqueraded when it reaches itself",
    ),
    case(
        "a-hairpin-rule-of-another-form",
        BASE,
        changed("(-A KUBE-SEP-\\w+ )-s 10\\.244\\.2\\.5/32", "\\1-s 10.244.2.0/24"),
        "RA310 warning: is not as kube-proxy writes it",
    ),
    case(
        "a-hairpin-rule-for-all",
        BASE,
        changed("(-A KUBE-SEP-\\w+ )-s 10\\.244\\.2\\.5/32 ", "\\1"),
        "RA405 error shop/web: masquerades connections from pods that keep their source address",
    ),
    case(
        "nothing-marks",
        BASE,
        without("-A KUBE-MARK-MASQ"),
        "RA402 error: KUBE-MARK-MASQ is empty: service traffic that needs a new source address keeps its own in IPv4 (2 service ports)",
    ),
    case("nothing-masquerades", BASE, without("-A KUBE-POSTROUTING"), "RA402 error: KUBE-POSTROUTING is empty"),
    case(
        "the-chain-that-marks-is-gone",
        BASE,
        both(without("^:KUBE-MARK-MASQ"), without("-A KUBE-MARK-MASQ")),
        "RA402 error: KUBE-MARK-MASQ is not declared",
        "RA309 warning: jumps to KUBE-MARK-MASQ, which is not declared",
        "RA309 warning: jumps to KUBE-MARK-MASQ, which is not declared",
    ),
    case(
        "the-chain-that-masquerades-is-gone",
        BASE,
        both(without("^:KUBE-POSTROUTING"), without("KUBE-POSTROUTING")),
        "RA108 error: nat POSTROUTING -> KUBE-POSTROUTING is missing in IPv4: no service's traffic changes by it now",
        "RA402 error: KUBE-POSTROUTING is not declared",
    ),
    case(
        "everything-is-masqueraded",
        BASE,
        without("-A KUBE-POSTROUTING .*RETURN"),
        "RA402 error: KUBE-POSTROUTING masquerades what does not carry the mark 0x4000/0x4000: connections that should keep their source a",
    ),
    case(
        "masqueraded-perhaps",
        BASE,
        changed("(-A KUBE-POSTROUTING .*)-j MASQ", "\\1-m limit --limit 1/sec -j MASQ"),
        "RA402 error?: packets marked for masquerade leave POSTROUTING before KUBE-POSTROUTING: 1 service port",
    ),
    case(
        "accepted-before-masquerade",
        BASE,
        added("nat", "-A POSTROUTING -j CNI", "-A CNI -d 10.244.0.0/16 -j ACCEPT", first=True),
        "RA402 error: packets marked for masquerade leave POSTROUTING before KUBE-POSTROUTING: 1 service port in IPv4, first shop/web:http",
    ),
    # hooks
    case(
        "a-hook-of-refusals",
        [*BASE, *EMPTY],
        without("-A FORWARD .*-j KUBE-SERVICES"),
        "RA108 error: filter FORWARD -> KUBE-SERVICES is missing in IPv4: 1 frontend of 3 behaves otherwise for pods and outside clients",
    ),
    case(
        "three-hooks",
        [*BASE, *EMPTY, *PORT],
        both(without("-A PREROUTING .*KUBE-SERVICES"), without("-A OUTPUT .*kubernetes service portals")),
        "RA108 error: filter OUTPUT -> KUBE-SERVICES is missing in IPv4: 1 frontend of 5 behaves otherwise for the node itself",
        "RA108 error: nat OUTPUT -> KUBE-SERVICES is missing in IPv4: 4 frontends of 5 behave otherwise for the node itself",
        "RA108 error: nat PREROUTING -> KUBE-SERVICES is missing in IPv4: 4 frontends of 5 behave otherwise for pods and outside clients",
    ),
    case(
        "no-node-ports-but-none-is-needed",
        BASE,
        without("-A KUBE-SERVICES .*-j KUBE-NODEPORTS$"),
        "RA108 warning: nat KUBE-SERVICES does not jump to KUBE-NODEPORTS; no Service has a node port",
    ),
    case(
        "hooks-of-a-chain-that-is-gone",
        BASE,
        without("KUBE-PROXY-FIREWALL"),
        *(f"RA108 warning: filter {one} -> KUBE-PROXY-FIREWALL is missing in IPv4" for one in ("FORWARD", "INPUT", "OUTPUT")),
    ),
    case(
        "nothing-is-dispatched",
        BASE,
        without("-A KUBE-SERVICES.*cluster IP"),
        "RA309 error: nat KUBE-SERVICES dispatches to no service in IPv4: 2 service ports with endpoints cannot be reached",
    ),
    case(
        "nothing-is-dispatched-nor-node-ports",
        [*BASE, *PORT],
        without("-A KUBE-SERVICES"),
        "RA309 error: nat KUBE-SERVICES dispatches to no service in IPv4: 3 service ports with endpoints cannot be reached",
    ),
    case(
        "node-ports-alone-are-dispatched",
        [*BASE, *PORT],
        without("-A KUBE-SERVICES.*cluster IP"),
        "RA505 error: 3 services are behind",
        "<RA101 error default/kubernetes: is not programmed",
        "<RA101 error shop/web: is not programmed",
        "<RA102 error shop/port: cluster IP 10.96.0.21:80/TCP is not programmed",
    ),
    case(
        "the-only-services-rules",
        [*NODES, *PORT],
        without("-A KUBE-SERVICES"),
        "RA108 error: nat KUBE-SERVICES does not jump to KUBE-NODEPORTS: the IPv4 node port of shop/port:http cannot be reached",
        "RA102 error shop/port: cluster IP 10.96.0.21:80/TCP is not programmed",
    ),
    # local pods
    case(
        "pods-outside",
        BASE,
        str,
        "RA404 warning: the rules take 10.244.0.0/16 for local pods' addresses, but pod x/a at 10.200.1.1 and 1 more lie outside of it",
        objects=[
            *BASE,
            pod("a", "10.200.1.1"),
            pod("b", "10.200.1.2", "Pending"),
            pod("c", "10.200.1.3", hostNetwork=True),
            pod("d", "10.200.1.4", "Succeeded"),
            pod("e", "bad"),
            pod("f", "10.244.1.8"),
            pod("g", "fd00::1"),
            pod("h", "10.200.1.5", nodeName="node-b"),
            pod("i", "10.200.1.6", deleted="2026-11-23T05:00:00Z"),
            pod("j", "", status=NO_IPS),
        ],
    ),
    case(
        "one-pod-outside",
        BASE,
        str,
        "RA404 warning: but pod x/a at 10.200.1.1 lies outside of it",
        objects=[*BASE, pod("a", "", status={"phase": "Running", "podIP": "10.200.1.1"})],
    ),
    case(
        "a-pod-cidr-outside",
        BASE,
        str,
        "RA404 warning: but pod CIDR 10.200.1.0/24 lies outside of it",
        objects=[node_object("node-a", "192.0.2.10", "10.200.1.0/24"), *BASE[1:], pod("a", "10.201.1.1")],
    ),
    # leftovers
    case("a-jump-of-a-dead-chain", BASE, added("nat", "-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA")),
    case(
        "a-rule-twice-in-filter",
        [*BASE, *EMPTY],
        twice("shop/empty:http has no endpoints"),
        "RA307 info shop/empty: filter KUBE-SERVICES holds the same rule twice",
    ),
    case(
        "a-rule-twice-but-for-its-counters",
        BASE,
        lambda text: re.sub("^(-A KUBE-SERVICES .*shop/web.*)$", "[1:2] \\1\n[3:4] \\1", text, flags=re.MULTILINE),
        "RA307 info shop/web: nat KUBE-SERVICES holds the same rule twice",
    ),
    case("a-rule-twice-in-another-chain", BASE, added("nat", "-A CNI -j RETURN", "-A CNI -j RETURN")),
    case("a-hook-twice", BASE, twice("-A PREROUTING .*KUBE-SERVICES"), "RA307 info: nat PREROUTING holds the same rule twice"),
    case(
        "an-orphan",
        BASE,
        added("nat", "-A KUBE-SVC-AAAAAAAAAAAAAAAA -j RETURN"),
        "RA209 info: nothing jumps to KUBE-SVC-AAAAAAAAAAAAAAAA",
        "RA310 warning: nat KUBE-SVC-AAAAAAAAAAAAAAAA is not",
        unseen=frozenset(),
    ),
    case(
        "25-orphans",
        BASE,
        added(
            "nat",
            *(f"-A KUBE-SVC-{'A' * 15}{chr(65 + n)} -m comment --comment a/b -j KUBE-SEP-34ZZ2QFGO32YYXXO" for n in range(25)),
        ),
        *("RA209 info: (a/b)" for _ in range(25)),
        unseen=frozenset(),
    ),
    case(
        "26-orphans",
        BASE,
        added("nat", *(f"-A KUBE-SVC-{'A' * 15}{chr(65 + n)} -j KUBE-SEP-34ZZ2QFGO32YYXXO" for n in range(26))),
        "RA209 info: 26 service chains are not referenced by any rule, first KUBE-SVC-AAAAAAAAAAAAAAAA",
        unseen=frozenset(),
    ),
    case(
        "empty-xlb-chains-stay",
        BASE,
        lambda text: text.replace("*nat\n", "*nat\n:KUBE-XLB-AAAAAAAAAAAAAAAA - [0:0]\n"),
        minor=22,
        unseen=frozenset(),
    ),
    case(
        "xlb-chains-do-not",
        BASE,
        added("nat", "-A KUBE-XLB-AAAAAAAAAAAAAAAA -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"),
        "RA209 info: nothing jumps to KUBE-XLB-AAAAAAAAAAAAAAAA",
        "RA310 warning: KUBE-XLB-AAAAAAAAAAAAAAAA lacks rules",
        minor=22,
        unseen=frozenset(),
    ),
    case(
        "endpoint-chains-stay-in-1.22",
        BASE,
        lambda text: text.replace("*nat\n", "*nat\n:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n"),
        minor=22,
        unseen=frozenset(),
    ),
    case(
        "endpoint-chains-do-not-stay-in-1.20",
        BASE,
        lambda text: text.replace("*nat\n", "*nat\n:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n"),
        "RA209 info: nothing jumps to KUBE-SEP-AAAAAAAAAAAAAAAA, and it is empty",
        minor=20,
        unseen=frozenset(),
    ),
    case(
        "chains-of-a-newer-release",
        BASE,
        added("nat", "-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-SVC-67NZLRHBNDSAWJRO"),
        "RA503 warning: 1 KUBE-EXT- chains of a kube-proxy 1.24 or newer are left in IPv4, and 1 service chains are still jumped to by them",
        "RA310 warning: a rule of nat KUBE-EXT-AAAAAAAAAAAAAAAA is not",
        minor=22,
    ),
    # evidence, names, policies
    case(
        "accepted-in-nat-and-not-refused",
        [*BASE, *EMPTY],
        both(without("shop/empty:http has no"), added("nat", "-A PREROUTING -d 10.96.0.25/32 -j ACCEPT", first=True)),
        "RA107 error shop/empty: traffic to 10.96.0.25:80/TCP passes instead of being rejected",
    ),
    case(
        "a-chain-names-its-service-itself",
        BASE,
        added(
            "nat",
            '-A KUBE-SERVICES -d 10.96.9.9/32 -p tcp -m comment --comment "x/y:z cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA',
            '-A KUBE-SVC-AAAAAAAAAAAAAAAA -m comment --comment "k/l:m -> 10.244.1.5:8080" -j KUBE-SEP-34ZZ2QFGO32YYXXO',
            first=True,
        ),
        "RA201 error k/l: k/l:m: rules still forward 10.96.9.9:80/TCP",
    ),
    case(
        "a-refusal-of-a-frontend-that-two-claim",
        [*BASE, *service("shop/twin", "10.96.0.20")],
        added("filter", refusal("10.96.0.20")),
        "RA703 error shop/web: is claimed by",
    ),
    case(
        "guarded-and-another-policy",
        [*BASE, *GUARDED],
        str,
        "RA305 error shop/balanced: is programmed for externalTrafficPolicy Cluster, the Service asks for Local",
        objects=[*BASE, *guarded(externalTrafficPolicy="Local")],
    ),
    case(
        "a-destination-that-is-not-named",
        BASE,
        changed("-j DNAT --to-destination 10\\.244\\.1\\.5:8080", "-j DNAT --random"),
        "RA206 error shop/web: sends 50% of new connections to 10.96.0.20:80",
    ),
    case(
        "a-rule-that-never-holds",
        BASE,
        changed("--probability 0\\.50000000000", "--probability 0.00000000000"),
        "RA303 error shop/web: never reaches 10.244.1.5:8080: its rules are there, but no packet can reach them",
    ),
    case(
        "a-rule-that-always-holds",
        BASE,
        changed("--probability 0\\.50000000000", "--probability 1.00000000000"),
        "RA303 error shop/web: never reaches 10.244.2.5:8080: its rules are there",
    ),
    case(
        "the-other-zones-endpoint",
        web([REMOTE]),
        str,
        "RA305 error shop/web: is programmed for other topology hints",
        objects=web(THREE),
    ),
    case(
        "the-other-nodes-endpoints",
        web([REMOTE, endpoint("10.244.2.6")]),
        str,
        "RA305 error shop/web: is programmed for other topology hints",
        objects=web(
            [hinted(LOCAL, "zone-a", "zone-b"), hinted(REMOTE, "zone-b", "zone-a"), hinted(endpoint("10.244.2.6"), "zone-a")]
        ),
    ),
    case(
        "an-endpoint-that-no-hint-singles-out",
        web([endpoint("10.244.2.6")]),
        str,
        "RA106 error shop/web: sends nothing to 10.244.1.5:8080",
        "RA106 error shop/web: sends nothing to 10.244.2.5:8080",
        objects=web([hinted(one, "zone-a") for one in (LOCAL, REMOTE, endpoint("10.244.2.6"))]),
    ),
    case(
        "not-to-be-used-and-affinity",
        web([LOCAL, REMOTE], sessionAffinity="ClientIP"),
        str,
        "RA304 error shop/web: is ClientIP for 10800 s, the Service asks for no session affinity",
        "RA305 error shop/web: sends 50% of new connections to 10.244.2.5:8080: ready, but not to be used",
        objects=web([hinted(LOCAL, "zone-a"), hinted(REMOTE, "zone-b")]),
    ),
    case(
        "a-chain-that-is-filled-and-not-declared",
        BASE,
        both(without("^:KUBE-FORWARD"), without("-A KUBE-FORWARD .*RELATED")),
        "RA002 error: chain KUBE-FORWARD",
    ),
    case(
        "a-client-of-a-range-refused-by-others",
        [*BASE, *GUARDED],
        added("filter", "-A FORWARD -s 198.51.100.0/24 -j REJECT", first=True),
        "RA602 error shop/balanced: drops forwarded traffic of shop/balanced:http from outside clients",
    ),
    case(
        "a-narrower-range-1.22",
        [*BASE, *GUARDED],
        changed("(-A KUBE-FW.*)-s 198.51.100.0/24", "\\1-s 198.51.100.0/28"),
        "RA306 error shop/balanced: refuses clients in 198.51.100.0/24 at",
        minor=22,
    ),
    case("a-range-of-everything", [*BASE, *guarded("0.0.0.0/0")], str, minor=33),
    case(
        "one-of-the-ready-ones-here-and-one-elsewhere",
        web([LOCAL, REMOTE]),
        str,
        "RA305 error shop/web: sends 50% of new connections to 10.244.2.5:8080: ready, but not to be used",
        objects=web([LOCAL, REMOTE, endpoint("10.244.2.6")], internalTrafficPolicy="Local"),
    ),
    case(
        "a-hook-that-others-make-up-for",
        [*BASE, *EMPTY],
        both(without("-A FORWARD .*-j KUBE-SERVICES"), added("filter", "-A FORWARD -d 10.96.0.25/32 -j REJECT")),
        "RA108 warning: filter FORWARD -> KUBE-SERVICES is missing in IPv4: no service's traffic changes by it now",
    ),
    case(
        "clients-that-are-remembered-and-dropped",
        [*NODES, *KUBERNETES, *STICKY],
        added("filter", "-A FORWARD -d 10.244.2.5/32 -j DROP", first=True),
        "RA602 error shop/sticky: to 10.244.2.5:8080",
    ),
    case(
        "a-hook-whose-loss-may-be-right-for-some",
        [
            *NODES,
            *KUBERNETES,
            *service("shop/port", "10.96.0.21", [REMOTE], type="NodePort", ports=NODE_PORT, externalTrafficPolicy="Local"),
        ],
        both(
            without("-A PREROUTING .*KUBE-SERVICES"),
            added(
                "filter",
                "-A INPUT -j KUBE-FIREWALL",
                "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP",
                "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
            ),
        ),
        "RA108 error: nat PREROUTING -> KUBE-SERVICES is missing in IPv4: 3 frontends of 3 behave otherwise for pods and outside clients",
        minor=22,
    ),
    case(
        "taken-everywhere-and-stale-as-well",
        BASE,
        added(
            "nat",
            *(
                f"-A {chain} -d 10.96.0.20/32 -p tcp -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.244.7.7:80"
                for chain in ("PREROUTING", "OUTPUT")
            ),
            first=True,
        ),
        "RA206 error shop/web: shop/web:http sends 25% of new connections to 10.244.2.5:8080",
        "RA401 error shop/web: does not masquerade connections from the node itself and outside clients",
        "RA603 error shop/web: a rule of nat OUTPUT that is not kube-proxy's takes traffic of shop/web:http from the node itself to 10.244.7.7:80",
        "RA603 error shop/web: a rule of nat PREROUTING that is not kube-proxy's takes traffic of shop/web:http from pods and outside",
        objects=web([LOCAL]),
    ),
    case(
        "taken-everywhere",
        BASE,
        added(
            "nat",
            *(f"-A {chain} -d 10.96.0.20/32 -p tcp -j DNAT --to-destination 10.244.7.7:80" for chain in ("PREROUTING", "OUTPUT")),
            first=True,
        ),
        "RA603 error shop/web: a rule of nat OUTPUT that",
        "RA603 error shop/web: a rule of nat PREROUTING that",
    ),
    case(
        "dropped-and-stale-as-well",
        BASE,
        added("filter", "-A FORWARD -d 10.244.1.5/32 -j DROP", "-A OUTPUT -d 10.244.1.5/32 -j DROP", first=True),
        "RA206 error shop/web: shop/web:http sends 50% of new connections to 10.244.2.5:8080",
        "RA602 error shop/web: a rule of filter FORWARD",
        "RA602 error shop/web: a rule of filter OUTPUT",
        objects=web([LOCAL]),
    ),
    case(
        "a-policy-in-mangle-that-nobody-can-decide",
        BASE,
        table(
            "mangle",
            ":cali-PREROUTING - [0:0]",
            "-A PREROUTING -j cali-PREROUTING",
            "-A cali-PREROUTING -m set --match-set x src -j DROP",
        ),
        "RA003 warning: whether a rule of mangle cali-PREROUTING applies cannot be decided",
    ),
    case(
        "leftovers-that-lead-to-what-is-needed",
        BASE,
        added("nat", "-A KUBE-XLB-AAAAAAAAAAAAAAAA -j KUBE-SEP-34ZZ2QFGO32YYXXO"),
        "RA503 warning: 1 KUBE-XLB- chains of a kube-proxy 1.23 or older are left in IPv4, and 1 service chains are still jumped to by them",
    ),
    case(
        "one-address-of-two-protocols",
        [*BASE, *TWO_PROTOCOLS],
        str,
        "RA204 error shop/dns: shop/dns:dns: rules still forward external IP 203.0.113.9:53/UDP, which",
        "RA102 error shop/other: shop/other:dns-tcp: cluster IP 10.96.0.41:53/TCP is not programmed",
        objects=[
            *BASE,
            *service("shop/dns", "10.96.0.40", ports=DNS),
            *service("shop/other", "10.96.0.41", externalIPs=["203.0.113.9"], ports=DNS[1:]),
        ],
    ),
    case(
        "a-hairpin-rule-turned-round",
        BASE,
        changed("(-A KUBE-SEP-\\w+ )-s 10\\.244\\.2\\.5/32", "\\1! -s 10.244.2.5/32"),
        "RA403 warning shop/web: 10.244.2.5:8080 is not masqueraded when it reaches itself",
        "RA405 error shop/web: masquerades connections from pods",
    ),
    case(
        "another-policy-under-which-nothing-is-here",
        [*BASE, *remote_port("Cluster")],
        str,
        "RA305 error shop/port: is programmed for externalTrafficPolicy Cluster, the Service asks for Local",
        "<RA107 error shop/port: has none on this node, but traffic to node port 30080/TCP is forwarded instead of being dropped",
        objects=[*BASE, *remote_port("Local")],
    ),
    case(
        "internal-policy-local-no-more",
        web(internalTrafficPolicy="Local"),
        str,
        "RA305 error shop/web: is programmed for internalTrafficPolicy Local, the Service asks for Cluster",
        objects=BASE,
    ),
    case(
        "a-refusal-beside-a-missing-endpoint",
        BASE,
        both(added("filter", refusal("10.96.0.20")), without("shop/web:http -> 10.244.2.5")),
        "RA106 error shop/web: sends nothing to 10.244.2.5:8080",
        "RA208 error shop/web: refuses connections from pods and the node itself although it has usable endpoints",
    ),
    case(
        "a-rule-twice-the-second-time-behind-the-node-ports",
        BASE,
        lambda text: added("nat", re.search("^-A KUBE-SERVICES .*shop/web:http cluster IP.*$", text, re.MULTILINE)[0])(text),  # type: ignore[index]  # it is there
        "RA307 info shop/web: nat KUBE-SERVICES holds the same rule twice",
    ),
    # source ranges
    case(
        "a-firewall-without-its-drop",
        [*BASE, *GUARDED],
        without("-A KUBE-PROXY-FIREWALL -d 203"),
        "RA306 error shop/balanced: lets in clients of no allowed range, at 203.0.113.5 itself at 203.0.113.5:80/TCP",
    ),
    case(
        "a-narrower-range",
        [*BASE, *GUARDED],
        changed("-s 198\\.51\\.100\\.0/24 ", "-s 198.51.100.0/28 "),
        "RA306 error shop/balanced: refuses clients in 198.51.100.0/24 at",
    ),
    case(
        "a-firewall-that-nothing-meets",
        [*BASE, *BALANCED],
        added("filter", "-A KUBE-PROXY-FIREWALL -d 203.0.113.5/32 -p tcp -m tcp --dport 80 -j DROP"),
    ),
    case(
        "a-policy-and-not-a-part",
        [*BASE, *PORT],
        str,
        "RA305 error shop/port: is programmed for externalTrafficPolicy Cluster, the Service asks for Local",
        objects=[*BASE, *LOCAL_PORT],
    ),
]


def written(one: Finding) -> str:
    """A finding without its message."""
    doubt = "?" if one.certainty is Certainty.POSSIBLE and one.severity is Severity.ERROR else ""
    name = f" {one.service}" if one.service else ""
    return f"{'<' if one.cause else ''}{one.code} {one.severity.value}{name}{doubt}"


def agree(findings: Sequence[Finding], told: Sequence[str]) -> None:
    shown = [f"{written(one)}: {one.message}" for one in findings]
    left = list(shown)
    for line in told:
        head, _, part = line.partition(": ")
        found = next((one for one in left if one.partition(": ")[0] == head and part in one.partition(": ")[2]), None)
        assert found is not None, (line, shown)
        left.remove(found)
    assert left == []


@pytest.mark.parametrize("given", CASES)
def test_what_is_told(given: Case) -> None:
    node = SmallNode(given.given, given.minor, families=given.families)
    assert [one.code for one in node.report().findings if one.code not in ("RA004", "RA703")] == []
    report = node.report(given.edit, objects=given.objects)
    told = [one for one in report.findings if one.code not in given.unseen]
    agree(told, given.told)
    for one in told:
        assert one.locations or one.code in NO_RULES or "is not declared" in one.message or "lacks what" in one.message, (
            one.message
        )
        if one.service and (namespaced := tuple(one.service.split("/"))):
            known = [(other.namespace, other.name) for other in one.objects if other.kind == "Service"]
            assert namespaced in known or "no such Service" in one.message or one.code == "RA307"


NO_RULES = {"RA505", "RA703"}
"""What cites no rule."""


@pytest.mark.parametrize("given", ALONE)
def test_what_is_told_without_objects(given: Case) -> None:
    report = SmallNode(given.given, given.minor).report(given.edit, objects=[])
    agree([one for one in report.findings if one.code not in given.unseen], given.told)


def test_evidence_is_cited_from_the_dump_where_the_node_was_mended_as_well() -> None:
    """A service's finding names the rules of the dump, though it was judged with a lost jump put back and the mark's chain as it should be."""
    node = SmallNode([*BASE, *PORT, *ELSEWHERE])
    edit = both(
        without("-A KUBE-SERVICES .*-j KUBE-NODEPORTS$"),
        without("-A KUBE-MARK-MASQ"),
        lambda text: swapped(text, "shop/web", "shop/elsewhere"),
    )
    wrong = next(one for one in node.report(edit).findings if one.code == "RA301")
    cited = [one.text for one in wrong.locations]
    assert any("shop/web:http cluster IP" in text and text.startswith("-A KUBE-SERVICES") for text in cited)
    assert all(text.startswith(("-A ", ":KUBE-MARK-MASQ")) for text in cited)
    lines = edit(node.text()).split("\n")
    assert all(lines[(one.line or 0) - 1] == one.text for one in wrong.locations)


@pytest.mark.parametrize(
    ("prefix", "avoid", "address"),
    [
        ("192.0.2.0/24", [], "192.0.2.1"),
        ("192.0.2.8/31", [], "192.0.2.8"),
        ("192.0.2.8/32", [], "192.0.2.8"),
        ("192.0.2.0/24", ["192.0.2.0/31"], "192.0.2.255"),
        ("192.0.2.0/24", ["192.0.2.0/25"], "192.0.2.255"),
        ("192.0.2.0/24", ["192.0.2.0/25", "192.0.2.128/25"], "192.0.2.0"),
        ("192.0.2.0/24", ["192.0.2.0/31", "192.0.2.255/32", "192.0.2.127/32"], "192.0.2.2"),
        ("192.0.2.0/24", ["192.0.2.0/26", "192.0.2.127/32", "192.0.2.192/26"], "192.0.2.64"),
        ("192.0.2.0/24", ["192.0.2.0/25", "192.0.2.192/26"], "192.0.2.128"),
        ("fd00::/64", [], "fd00::1"),
    ],
)
def test_a_client_of_a_prefix(prefix: str, avoid: list[str], address: str) -> None:
    assert address_inside(prefix, avoid) == address


BRIDGE = (
    "--hostname-override=node-a",
    "--proxy-mode=iptables",
    "--detect-local-mode=BridgeInterface",
    "--pod-bridge-interface=cni0",
)


def test_local_pods_told_by_a_bridge() -> None:
    node = SmallNode([*BASE, *LOCAL_PORT], arguments=BRIDGE)
    agree(node.report().findings, [])
    other = "RA405 error shop/web: masquerades connections from pods that keep their source address"
    agree(node.report(changed("! -i cni0( .*shop/web)", "! -i cni1\\1")).findings, [other])


def test_local_pods_by_a_mask_that_is_no_prefix() -> None:
    """What the rules take for local pods cannot be held against the Node's pod CIDRs then, and is not."""
    node = SmallNode([*NODES, *KUBERNETES, *service("shop/web", "10.96.0.20", [REMOTE])])
    report = node.report(changed("! -s 10\\.244\\.0\\.0/16", "! -s 10.0.1.0/255.0.255.0", 0), told=False)
    assert {one.code for one in report.findings} & {"RA404", "RA310"} == set()


def test_up_to_1_19_kubelet_may_not_know_the_guard_of_localhost() -> None:
    dump = added("filter", "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP")(SmallNode(BASE, 20).text())
    for minor, told in ((20, True), (19, False)):
        report = SmallNode(BASE, minor).report(dumps={"iptables-save.txt": dump})
        assert ("RA802" in {one.code for one in report.findings}) is told


def test_without_a_node_what_hangs_on_it_is_passed_over_and_nothing_else() -> None:
    here = [hinted(endpoint("10.244.1.7"), "zone-a"), hinted(endpoint("10.244.2.5"), "zone-a")]
    objects = [*BASE, *LOCAL_PORT, *service("shop/hinted", "10.96.0.33", here)]
    dump = without("shop/(web|port|hinted):http -> 10.244.2.5")(SmallNode(objects).text())
    held = json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}).encode()
    sources = [
        Source("a.txt", InputKind.IPTABLES_SAVE, dump, b"", given=True),
        Source("o.json", InputKind.OBJECTS, "", held, given=True),
    ]
    report = audit_inputs(sources)
    assert [(one.code, one.service) for one in report.findings if one.severity is Severity.ERROR] == [("RA106", "shop/web")]
    assert any("2 service ports of IPv4 depend on which node this is" in one.message for one in report.findings)


def test_what_lies_outside_is_named_and_the_rules_that_say_so() -> None:
    for more, objects in (
        ([pod("a", "10.200.1.1")], BASE),
        ([], [node_object("node-a", "192.0.2.10", "10.200.1.0/24"), *BASE[1:]]),
    ):
        found = next(one for one in SmallNode(BASE).report(objects=[*objects, *more]).findings if one.code == "RA404")
        assert [(one.kind, one.name) for one in found.objects] == ([("Pod", "a")] if more else [("Node", "node-a")])
        assert [one.text.rsplit(" ", 1)[1] for one in found.locations] == ["KUBE-MARK-MASQ", "KUBE-MARK-MASQ"]


def test_a_firewall_that_refuses_admitted_clients() -> None:
    """Where nat does not translate, the firewall's drop is met by everybody."""
    drop = "-A KUBE-PROXY-FIREWALL -d 203.0.113.5/32 -p tcp -m tcp --dport 80 -j DROP"
    report = SmallNode([*BASE, *BALANCED]).report(both(without("-A KUBE-SERVICES .*loadbalancer IP"), added("filter", drop)))
    found = next(one for one in report.findings if one.code == "RA306")
    assert "refuses admitted clients at 203.0.113.5:80/TCP by its source-range firewall" in found.message
    assert any(one.text == drop for one in found.locations)


# --- RA702 -------------------------------------------------------------------------------------------------------------------------------


def named(address: str, name: str | None, kind: str = "Pod", namespace: str | None = "x", *, ready: bool = True) -> Object:
    reference = {"kind": kind, **({"namespace": namespace} if namespace else {}), **({"name": name} if name else {})}
    return {**endpoint(address, ready=ready), "targetRef": reference}


SELECTED = {"selector": {"app": "web"}}


@pytest.mark.parametrize(
    ("endpoints", "pods", "spec", "told"),
    [
        pytest.param([named("10.0.0.1", "a")], [pod("a", "10.0.0.1")], SELECTED, None, id="agree"),
        pytest.param(
            [named("10.0.0.1", "a")],
            [pod("a", "10.0.0.2")],
            SELECTED,
            "gives 10.0.0.1 for pod x/a, which has 10.0.0.2",
            id="another-address",
        ),
        pytest.param(
            [named("10.0.0.1", "b")],
            [pod("a", "10.0.0.1")],
            SELECTED,
            "names pod x/b at 10.0.0.1, which does not exist",
            id="no-such-pod",
        ),
        pytest.param(
            [named("10.0.0.1", "a", namespace=None)], [pod("a", "10.0.0.1")], SELECTED, None, id="in-the-namespace-of-the-slice"
        ),
        pytest.param(
            [named("10.0.0.1", None)], [pod("a", "10.0.0.1")], SELECTED, "names pod x/ at 10.0.0.1", id="without-a-name"
        ),
        pytest.param([named("10.0.0.1", "a")], [pod("a", "10.0.0.2")], {}, None, id="no-selector"),
        pytest.param([named("10.0.0.1", "a", kind="Node")], [pod("a", "10.0.0.2")], SELECTED, None, id="no-pod-is-meant"),
        pytest.param([endpoint("10.0.0.1")], [pod("a", "10.0.0.2")], SELECTED, None, id="nothing-is-meant"),
        pytest.param([named("10.0.0.1", "a", ready=False)], [pod("a", "10.0.0.2")], SELECTED, None, id="not-ready"),
        pytest.param(
            [{**named("10.0.0.1", "a"), "conditions": None}],
            [pod("a", "10.0.0.2")],
            SELECTED,
            "which has 10.0.0.2",
            id="no-conditions",
        ),
        pytest.param([{**named("10.0.0.1", "a"), "addresses": []}], [pod("a", "10.0.0.2")], SELECTED, None, id="no-address"),
        pytest.param([named("10.0.0.1", "a")], [pod("a", "", status=NO_IPS)], SELECTED, None, id="a-pod-without-address"),
        pytest.param([named("10.0.0.1", "a")], [], SELECTED, None, id="no-pods-given"),
        pytest.param(
            [named("10.0.0.1", "b"), named("10.0.0.1", "a")],
            [pod("a", "10.0.0.2")],
            SELECTED,
            "does not exist",
            id="the-second-as-well",
        ),
    ],
)
def test_slices_against_pods(endpoints: list[Object], pods: list[Object], spec: Mapping[str, object], told: str | None) -> None:
    objects = [*service("x/web", "10.96.0.1", endpoints, **spec), *pods, slice_of("x/gone", endpoints)]  # type: ignore[arg-type]  # by name
    cluster = load([("o.json", json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}).encode())])
    found = list(slice_disagreements(cluster))
    assert bool(found) is (told is not None)
    if told is not None:
        where, message, reference, address = found[0]
        assert (where, reference.kind, reference.namespace, reference.name, address) == (
            "x/web",
            "EndpointSlice",
            "x",
            "web-1",
            "10.0.0.1",
        )
        assert told in message
        assert len(found) == len(endpoints)


# --- RA505 -------------------------------------------------------------------------------------------------------------------------------

OLD, CHANGED, NEW = "2026-11-22T00:00:00Z", "2026-11-23T04:00:00Z", "2026-11-23T05:00:00Z"


def behind(code: str, name: str, severity: Severity = Severity.ERROR, **values: object) -> Finding:
    return Finding(code, "name", severity, f"{code} of {name}", service=name or None, **values)  # type: ignore[arg-type]  # by name


def known(times: Mapping[str, str | None]) -> Cluster:
    """Services and when they changed."""
    objects = [
        {**one, "metadata": {**one["metadata"], "creationTimestamp": time}}  # type: ignore[dict-item]  # a mapping
        for name, time in times.items()
        for one in service(name, "10.96.3.1")
    ]
    return load([("objects.json", json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}).encode())])


def test_the_last_of_a_services_times_is_when_it_changed() -> None:
    """A Service that is old and whose slice was just changed has changed now."""
    change = {"creationTimestamp": OLD, "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": NEW}}
    objects = [
        {**one, "metadata": {**one["metadata"], **change}}  # type: ignore[dict-item]  # a mapping
        for name in ("a/1", "a/2")
        for one in service(name, "10.96.3.1")
    ]
    cluster = load([("o.json", json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}).encode())])
    leader, _ = stopped(TWO, cluster)
    assert leader is not None
    assert f"since about {NEW}" in leader.message


TWO = [behind("RA106", "a/1"), behind("RA206", "a/2")]
FOUR = [behind(code, f"a/{number}") for number, code in enumerate(("RA106", "RA206", "RA106", "RA101"))]


@pytest.mark.parametrize(
    ("findings", "times", "since"),
    [
        pytest.param([], {}, None, id="nothing"),
        pytest.param(FOUR, {}, "", id="four-undated"),
        pytest.param(FOUR[:3], {}, "", id="three-undated"),
        pytest.param(TWO, {}, None, id="two-undated"),
        pytest.param(TWO, {"a/1": CHANGED, "a/2": NEW}, CHANGED, id="two-dated"),
        pytest.param(TWO, {"a/1": CHANGED, "a/2": NEW, "a/3": OLD}, CHANGED, id="two-younger-than-all-that-is-programmed"),
        pytest.param(TWO, {"a/1": CHANGED, "a/2": NEW, "a/3": CHANGED}, CHANGED, id="two-as-young"),
        pytest.param(TWO, {"a/1": OLD, "a/2": NEW, "a/3": CHANGED}, None, id="two-one-of-which-is-older"),
        pytest.param(TWO, {"a/1": None, "a/2": "yesterday", "a/3": CHANGED}, None, id="two-without-a-time-that-can-be-read"),
        pytest.param(TWO, {"a/1": "2026-11-23T04:00:00", "a/2": "2026-11-23T04:00:00"}, None, id="two-without-a-zone"),
        pytest.param(TWO[:1] * 3, {"a/1": CHANGED}, None, id="one-service-thrice"),
        pytest.param([behind("RA106", f"a/{n}") for n in range(5)], {}, None, id="five-of-one-kind"),
        pytest.param([behind("RA106", f"a/{n}") for n in range(6)], {}, "", id="six-of-one-kind"),
        pytest.param(
            [behind("RA106", f"a/{n}") for n in range(5)], {f"a/{n}": NEW for n in range(5)}, NEW, id="five-of-one-kind-dated"
        ),
        pytest.param([*FOUR, behind("RA108", "")], {}, None, id="a-hook-explains-it"),
        pytest.param([*FOUR, behind("RA108", "", Severity.WARNING)], {}, "", id="a-hook-that-changes-nothing-does-not"),
        pytest.param([*FOUR, behind("RA504", "")], {}, None, id="leftovers-explain-it"),
        pytest.param([*FOUR, behind("RA502", "")], {}, None, id="two-backends-explain-it"),
        pytest.param([*FOUR, behind("RA005", "")], {}, None, id="no-rules-explain-it"),
        pytest.param([*FOUR, behind("RA401", "a/1")], {}, None, id="one-of-them-is-damaged"),
        pytest.param([*FOUR, behind("RA401", "b/1")], {}, "", id="another-is-damaged"),
        pytest.param([*FOUR, behind("RA403", "a/1", Severity.WARNING)], {}, "", id="a-warning-is-no-damage"),
        pytest.param([behind("RA106", f"a/{n}", Severity.INFO) for n in range(6)], {}, None, id="information"),
        pytest.param([behind("RA106", f"a/{n}", cause="x") for n in range(6)], {}, None, id="what-has-a-cause"),
        pytest.param([behind("RA401", f"a/{n}") for n in range(6)], {}, None, id="what-no-missed-change-explains"),
        pytest.param([behind("RA106", "") for _ in range(6)], {}, None, id="of-no-service"),
    ],
)
def test_a_kube_proxy_that_stopped(findings: list[Finding], times: Mapping[str, str | None], since: str | None) -> None:
    leader, all_of_them = stopped(findings, known(times))
    assert (leader is None) is (since is None)
    if leader is None:
        assert all_of_them == findings
        return
    names = sorted({one.service for one in findings if one.service and one.code != "RA401" and one.severity is Severity.ERROR})
    assert leader.message.startswith(
        f"kube-proxy seems to have stopped applying changes{f' since about {since}' if since else ''}: {len(names)} services"
    )
    assert ("more)" in leader.message) is (len(names) > 5)
    assert (leader.code, leader.severity, leader.service, leader.cause, leader.locations) == (
        "RA505",
        Severity.ERROR,
        None,
        None,
        (),
    )
    caused = [one for one in all_of_them if one.cause == leader.fingerprint]
    assert [one.service for one in caused] == [one.service for one in findings if one.code in ("RA106", "RA206", "RA101")]
    assert len(all_of_them) == len(findings)
