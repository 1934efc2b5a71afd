"""Every code that `check` gives of a node in IPVS mode: a small healthy node, one fault, and the finding that names it; and what looks like a fault.

A case says which codes must appear as errors and warnings: those and no others, so that one cause stays one finding. What follows from the
fault names it as its cause.
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
    EXTERNAL,
    GUARDED,
    HEALTH,
    LOCAL_PORT,
    NODE_PORT,
    PORT,
    STICKY,
    web,
)
from tests.small_ipvs_node import IPVS_ARGUMENTS, OWN, SmallIpvsNode, ip_addr
from tests.small_node import (
    BASE,
    KUBERNETES,
    LOCAL,
    NODES,
    REMOTE,
    Edit,
    Object,
    added,
    changed,
    endpoint,
    node_object,
    serious,
    service,
    without,
)

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _pytest.mark import ParameterSet

    from ruleaudit.findings import Report

SERVERS, SETS, RULES, ADDRESSES = "ipvsadm-save.txt", "ipset.txt", "iptables-save.txt", "ip-addr.json"
PORT_AT = r"(192\.0\.2\.10|10\.244\.1\.1|172\.17\.0\.1):30080 "


@dataclass(frozen=True)
class Fault:
    """A healthy node, what is done to its dumps or its objects, and the errors and warnings that this must give: (code, service).

    `follows`: the codes of those that name the finding as their cause. `line`: a part of a line that it must cite.
    """

    code: str
    given: Sequence[Object]
    edits: Mapping[str, Edit] = field(default_factory=dict)
    objects: Sequence[Object] | None = None
    expected: Sequence[tuple[str, str | None]] = ()
    service: str | None = None
    endpoint: str | None = None
    severity: Severity | None = None
    minor: int = 36
    arguments: Sequence[str] = IPVS_ARGUMENTS
    follows: frozenset[str] = frozenset()
    line: str = ""


def case(name: str, given: Sequence[Object], edits: Mapping[str, Edit] | None = None, **values: object) -> ParameterSet:
    """A fault; its name begins with its code."""
    return pytest.param(Fault(name[:5], given, edits or {}, **values), id=name)  # type: ignore[arg-type]  # by name


def appended(*lines: str) -> Edit:
    """Write lines at the end."""
    return lambda text: text + "".join(line + "\n" for line in lines)


def without_server(where: str) -> Edit:
    """Take out a virtual server and its real servers."""
    return without(f"^-[Aa] (-t|-u|--sctp-service) {where}")


def entry_gone(entry: str) -> Edit:
    return without(f"^add {re.escape(entry)}$")


def notracked(text: str) -> str:
    return "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.20/32 -j NOTRACK\nCOMMIT\n" + text


def held(*, without: str = "", more: str = "") -> Edit:
    """Take an address from kube-ipvs0, or add one."""

    def edit(text: str) -> str:
        addresses = [one["local"] for one in json.loads(text)[0]["addr_info"]]
        return ip_addr({"kube-ipvs0": [*(one for one in addresses if one != without), *([more] if more else [])]})

    return edit


EMPTY_TABLE = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
"""
ONE_MORE = endpoint("10.244.2.6")
WEB = r"10\.96\.0\.20:80 "
FAULTS: list[ParameterSet] = [
    case(
        "RA005-no-virtual-server",
        BASE,
        {SERVERS: lambda _text: EMPTY_TABLE},
        expected=[("RA005", None)],
        follows=frozenset({"RA101"}),
    ),
    case(
        "RA101-a-service-more",
        [*NODES, *KUBERNETES],
        objects=BASE,
        expected=[("RA101", "shop/web")],
        follows=frozenset({"RA110", "RA111", "RA403"}),
    ),
    case("RA101-its-virtual-server-is-gone", BASE, {SERVERS: without_server(WEB)}, expected=[("RA101", "shop/web")]),
    case(
        "RA102-no-cluster-ip", [*BASE, *PORT], {SERVERS: without_server(r"10\.96\.0\.21:80 ")}, expected=[("RA102", "shop/port")]
    ),
    case("RA103-no-node-port", [*BASE, *PORT], {SERVERS: without_server(PORT_AT)}, expected=[("RA103", "shop/port")]),
    case(
        "RA103-no-node-port-at-the-nodes-address",
        [*BASE, *PORT],
        {SERVERS: without_server(r"192\.0\.2\.10:30080 ")},
        expected=[("RA103", "shop/port")],
    ),
    case(
        "RA104-no-external-ip",
        [*BASE, *EXTERNAL],
        {SERVERS: without_server(r"203\.0\.113\.6:80 ")},
        expected=[("RA104", "shop/external")],
    ),
    case(
        "RA105-no-load-balancer-ip",
        [*BASE, *BALANCED],
        {SERVERS: without_server(r"203\.0\.113\.5:80 ")},
        expected=[("RA105", "shop/balanced")],
    ),
    case(
        "RA106-an-endpoint-more",
        BASE,
        objects=web([LOCAL, REMOTE, ONE_MORE]),
        expected=[("RA106", "shop/web")],
        endpoint="10.244.2.6:8080",
    ),
    case(
        "RA305-the-only-remote-real-server-is-gone",
        BASE,
        {SERVERS: without(f"^-a -t {WEB}-r 10.244.2.5")},
        expected=[("RA305", "shop/web")],
    ),
    case(
        "RA106-a-real-server-is-gone",
        web([LOCAL, REMOTE, ONE_MORE]),
        {SERVERS: without(f"^-a -t {WEB}-r 10.244.2.5")},
        expected=[("RA106", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA208-no-real-server",
        BASE,
        {SERVERS: without(f"^-a -t {WEB}")},
        expected=[("RA208", "shop/web")],
        follows=frozenset({"RA106"}),
    ),
    case(
        "RA303-weight-zero",
        BASE,
        {SERVERS: changed(f"(^-a -t {WEB}-r 10.244.2.5.*-w )1", r"\g<1>0")},
        expected=[("RA303", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA303-not-by-masquerading",
        BASE,
        {SERVERS: changed(f"(^-a -t {WEB}-r 10.244.2.5.*)-m", r"\g<1>-g")},
        expected=[("RA303", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case("RA108-prerouting", BASE, {RULES: without("-A PREROUTING")}, expected=[("RA108", None)]),
    case("RA108-output", BASE, {RULES: without("-A OUTPUT.*-j KUBE-SERVICES")}, expected=[("RA108", None)]),
    case("RA108-postrouting", BASE, {RULES: without("-A POSTROUTING")}, expected=[("RA108", None)]),
    case("RA108-firewall", [*BASE, *GUARDED], {RULES: without("-A INPUT.*-j KUBE-PROXY-FIREWALL")}, expected=[("RA108", None)]),
    case(
        "RA108-out-filter", [*BASE, *GUARDED], {RULES: without("-A OUTPUT.*-j KUBE-IPVS-OUT-FILTER")}, expected=[("RA108", None)]
    ),
    case(
        "RA108-ipvs-filter",
        BASE,
        {RULES: without("-A INPUT.*-j KUBE-IPVS-FILTER")},
        expected=[("RA108", None)],
        severity=Severity.WARNING,
    ),
    case(
        "RA108-health-checks",
        [*BASE, *HEALTH],
        {RULES: without("-A INPUT.*-j KUBE-NODE-PORT")},
        expected=[("RA108", None)],
        severity=Severity.WARNING,
    ),
    case(
        "RA108-forward",
        BASE,
        {RULES: without("-A FORWARD.*-j KUBE-FORWARD")},
        expected=[("RA108", None)],
        severity=Severity.WARNING,
    ),
    case(
        "RA401-node-ports-are-not-led-to",
        [*BASE, *PORT],
        {RULES: without("-A KUBE-SERVICES .*-j KUBE-NODE-PORT$")},
        expected=[("RA310", None)],
        follows=frozenset({"RA401"}),
    ),
    case(
        "RA109-no-entry",
        [*BASE, *HEALTH],
        {SETS: entry_gone("KUBE-HEALTH-CHECK-NODE-PORT 32000")},
        expected=[("RA110", "shop/balanced")],
        follows=frozenset({"RA109"}),
    ),
    case(
        "RA109-no-rule",
        [*BASE, *HEALTH],
        {RULES: without("-A KUBE-NODE-PORT -m comment.*health check")},
        expected=[("RA310", None)],
        follows=frozenset({"RA109"}),
    ),
    case(
        "RA110-cluster-ip",
        BASE,
        {SETS: entry_gone("KUBE-CLUSTER-IP 10.96.0.20,tcp:80")},
        expected=[("RA110", "shop/web")],
        follows=frozenset({"RA106", "RA208", "RA401"}),
    ),
    case(
        "RA110-cluster-ip-1.25",
        BASE,
        {SETS: entry_gone("KUBE-CLUSTER-IP 10.96.0.20,tcp:80")},
        minor=25,
        expected=[("RA110", "shop/web")],
        follows=frozenset({"RA401"}),
    ),
    case("RA110-ipvs-ips", BASE, {SETS: entry_gone("KUBE-IPVS-IPS 10.96.0.20")}, expected=[("RA110", "shop/web")]),
    case(
        "RA110-node-port",
        [*BASE, *PORT],
        {SETS: entry_gone("KUBE-NODE-PORT-TCP 30080")},
        expected=[("RA110", "shop/port")],
        follows=frozenset({"RA401"}),
    ),
    case(
        "RA110-node-port-local",
        [*BASE, *LOCAL_PORT],
        {SETS: entry_gone("KUBE-NODE-PORT-LOCAL-TCP 30080")},
        expected=[("RA110", "shop/port")],
        follows=frozenset({"RA405"}),
    ),
    case(
        "RA110-external-ip",
        [*BASE, *EXTERNAL],
        {SETS: entry_gone("KUBE-EXTERNAL-IP 203.0.113.6,tcp:80")},
        expected=[("RA110", "shop/external")],
        follows=frozenset({"RA106", "RA208", "RA401"}),
    ),
    case(
        "RA110-load-balancer",
        [*BASE, *BALANCED],
        {SETS: entry_gone("KUBE-LOAD-BALANCER 203.0.113.5,tcp:80")},
        expected=[("RA110", "shop/balanced")],
        follows=frozenset({"RA106", "RA208", "RA401"}),
    ),
    case(
        "RA110-load-balancer-fw",
        [*BASE, *GUARDED],
        {SETS: entry_gone("KUBE-LOAD-BALANCER-FW 203.0.113.5,tcp:80")},
        expected=[("RA110", "shop/balanced")],
        follows=frozenset({"RA306"}),
    ),
    case(
        "RA110-load-balancer-range",
        [*BASE, *GUARDED],
        {SETS: entry_gone("KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.5,tcp:80,198.51.100.0/24")},
        expected=[("RA110", "shop/balanced")],
        follows=frozenset({"RA306"}),
    ),
    case("RA111-an-address", BASE, {ADDRESSES: held(without="10.96.0.20")}, expected=[("RA111", "shop/web")]),
    case(
        "RA111-an-external-address",
        [*BASE, *EXTERNAL],
        {ADDRESSES: held(without="203.0.113.6")},
        expected=[("RA111", "shop/external")],
    ),
    case(
        "RA110-a-loop-that-nothing-uses-yet",
        web([LOCAL, endpoint("10.244.1.6", ready=False, serving=False), REMOTE]),
        {SETS: entry_gone("KUBE-LOOP-BACK 10.244.1.6,tcp:8080,10.244.1.6")},
        expected=[("RA110", "shop/web")],
        severity=Severity.WARNING,
    ),
    case("RA201-gone", BASE, objects=[*NODES, *KUBERNETES], expected=[("RA201", None)], follows=frozenset({"RA210"})),
    case(
        "RA201-a-service-with-a-node-port", [*BASE, *PORT], objects=BASE, expected=[("RA201", None)], follows=frozenset({"RA210"})
    ),
    case(
        "RA202-another-port",
        BASE,
        objects=[
            *NODES,
            *KUBERNETES,
            *service("shop/web", "10.96.0.20", ports=[{"name": "http", "port": 81, "targetPort": 8080}]),
        ],
        expected=[("RA101", "shop/web"), ("RA202", "shop/web")],
        follows=frozenset({"RA110", "RA210"}),
    ),
    case(
        "RA202-beside",
        BASE,
        {SERVERS: appended("-A -t 10.96.0.20:81 -s rr", "-a -t 10.96.0.20:81 -r 10.244.1.5:8080 -m -w 1")},
        expected=[("RA202", "shop/web")],
    ),
    case(
        "RA203-beside",
        [*BASE, *PORT],
        {SERVERS: appended("-A -t 192.0.2.10:30081 -s rr", "-a -t 192.0.2.10:30081 -r 10.244.1.5:8080 -m -w 1")},
        expected=[("RA203", None)],
    ),
    case(
        "RA203-gone",
        [*BASE, *PORT],
        objects=[*BASE, *service("shop/port", "10.96.0.21")],
        expected=[("RA203", None)],
        follows=frozenset({"RA210"}),
    ),
    case(
        "RA204-beside",
        [*BASE, *EXTERNAL],
        {SERVERS: appended("-A -t 203.0.113.6:81 -s rr", "-a -t 203.0.113.6:81 -r 10.244.1.5:8080 -m -w 1")},
        expected=[("RA204", "shop/external")],
    ),
    case(
        "RA201-an-external-ip-that-is-gone",
        [*BASE, *EXTERNAL],
        objects=[*BASE, *service("shop/external", "10.96.0.26")],
        expected=[("RA201", None)],
        follows=frozenset({"RA210"}),
    ),
    case(
        "RA205-beside",
        [*BASE, *BALANCED],
        {SERVERS: appended("-A -t 203.0.113.5:81 -s rr", "-a -t 203.0.113.5:81 -r 10.244.1.5:8080 -m -w 1")},
        expected=[("RA205", "shop/balanced")],
    ),
    case(
        "RA201-a-load-balancer-ip-that-is-gone",
        [*BASE, *BALANCED],
        objects=[*BASE, *service("shop/balanced", "10.96.0.23", type="LoadBalancer", ports=NODE_PORT)],
        expected=[("RA201", None)],
        follows=frozenset({"RA210"}),
    ),
    case(
        "RA206-one-more",
        BASE,
        {SERVERS: changed(f"(^-a -t {WEB}-r )10.244.2.5(.*)", r"\g<0>\n\g<1>10.244.2.99\g<2>")},
        expected=[("RA206", "shop/web")],
        endpoint="10.244.2.99:8080",
    ),
    case(
        "RA206-of-nobody",
        [*BASE, *EMPTY],
        {SERVERS: appended("-a -t 10.96.0.25:80 -r 10.244.2.99:8080 -m -w 1")},
        expected=[("RA206", "shop/empty")],
        follows=frozenset({"RA107"}),
        endpoint="10.244.2.99:8080",
    ),
    case(
        "RA207-not-ready",
        BASE,
        objects=web([LOCAL, endpoint("10.244.2.5", ready=False, serving=False)]),
        expected=[("RA207", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA207-ends",
        BASE,
        objects=web([LOCAL, endpoint("10.244.2.5", ready=False, terminating=True)]),
        expected=[("RA207", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case("RA208-scaled", web([]), objects=BASE, expected=[("RA208", "shop/web")], follows=frozenset({"RA106", "RA403"})),
    case("RA210-cluster-ip", BASE, {SETS: appended("add KUBE-CLUSTER-IP 10.96.0.77,tcp:80")}, expected=[("RA210", None)]),
    case("RA210-ipvs-ips", BASE, {SETS: appended("add KUBE-IPVS-IPS 10.96.0.77")}, expected=[("RA210", None)]),
    case("RA210-node-port", BASE, {SETS: appended("add KUBE-NODE-PORT-TCP 30999")}, expected=[("RA210", None)]),
    case(
        "RA210-node-port-local",
        [*BASE, *PORT],
        {SETS: appended("add KUBE-NODE-PORT-LOCAL-TCP 30080")},
        expected=[("RA210", None)],
    ),
    case(
        "RA210-loop-back", BASE, {SETS: appended("add KUBE-LOOP-BACK 10.244.1.99,tcp:80,10.244.1.99")}, expected=[("RA210", None)]
    ),
    case(
        "RA210-loop-back-remote",
        BASE,
        {SETS: appended("add KUBE-LOOP-BACK 10.244.2.5,tcp:8080,10.244.2.5")},
        expected=[("RA210", None)],
    ),
    case("RA210-address", BASE, {ADDRESSES: held(more="10.96.0.77")}, expected=[("RA210", None)]),
    case(
        "RA206-an-endpoint-of-another-service",
        [*BASE, *ELSEWHERE],
        {SERVERS: changed(r"(^-a -t 10\.96\.0\.28:80 -r )10.244.2.9", r"\g<1>10.244.2.5")},
        expected=[("RA106", "shop/elsewhere"), ("RA206", "shop/elsewhere")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA302-another-port",
        BASE,
        {SERVERS: changed(f"(^-a -t {WEB}-r 10.244.2.5:)8080", r"\g<1>8081")},
        expected=[("RA302", "shop/web")],
        endpoint="10.244.2.5:8081",
    ),
    case(
        "RA303-weights",
        BASE,
        {SERVERS: changed(f"(^-a -t {WEB}-r 10.244.2.5.*-w )1", r"\g<1>2")},
        expected=[("RA303", "shop/web")],
    ),
    case("RA304-absent", [*BASE, *STICKY], {SERVERS: changed(" -p 600", "")}, expected=[("RA304", "shop/sticky")]),
    case("RA304-timeout", [*BASE, *STICKY], {SERVERS: changed(" -p 600", " -p 60")}, expected=[("RA304", "shop/sticky")]),
    case(
        "RA304-mask",
        [*BASE, *STICKY],
        {SERVERS: changed(" -p 600", " -p 600 -M 255.255.0.0")},
        expected=[("RA304", "shop/sticky")],
    ),
    case(
        "RA304-not-asked-for", BASE, {SERVERS: changed(f"(^-A -t {WEB}-s rr)", r"\g<1> -p 600")}, expected=[("RA304", "shop/web")]
    ),
    case(
        "RA305-external",
        [*BASE, *PORT],
        objects=[*BASE, *LOCAL_PORT],
        expected=[("RA305", "shop/port")],
        follows=frozenset({"RA110"}),
    ),
    case(
        "RA305-external-back",
        [*BASE, *LOCAL_PORT],
        objects=[*BASE, *PORT],
        expected=[("RA305", "shop/port")],
        follows=frozenset({"RA210"}),
    ),
    case("RA305-internal", BASE, objects=web(internalTrafficPolicy="Local"), expected=[("RA305", "shop/web")]),
    case(
        "RA306-no-range",
        [*BASE, *BALANCED],
        objects=[*BASE, *GUARDED],
        expected=[("RA306", "shop/balanced")],
        follows=frozenset({"RA110", "RA310"}),
    ),
    case(
        "RA306-gone",
        [*BASE, *GUARDED],
        objects=[*BASE, *BALANCED],
        expected=[("RA306", "shop/balanced")],
        follows=frozenset({"RA210", "RA310"}),
    ),
    case(
        "RA306-wider",
        [*BASE, *GUARDED],
        {SETS: changed("198.51.100.0/24", "198.51.0.0/16")},
        expected=[("RA306", "shop/balanced")],
        follows=frozenset({"RA110", "RA210"}),
    ),
    case(
        "RA306-one-more",
        [*BASE, *GUARDED],
        {SETS: appended("add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.5,tcp:80,203.0.113.128/25")},
        expected=[("RA306", "shop/balanced")],
        follows=frozenset({"RA210"}),
    ),
    case(
        "RA306-out-filter-gone",
        [*BASE, *GUARDED],
        {RULES: without("-A KUBE-IPVS-OUT-FILTER")},
        expected=[("RA306", "shop/balanced")],
        follows=frozenset({"RA310"}),
    ),
    case(
        "RA306-drop-gone",
        [*BASE, *GUARDED],
        {RULES: without("-A KUBE-SOURCE-RANGES-FIREWALL -j DROP")},
        expected=[("RA310", None)],
        follows=frozenset({"RA306"}),
    ),
    case(
        "RA401-no-rule",
        BASE,
        {RULES: without("-A KUBE-SERVICES ! -s")},
        expected=[("RA310", None)],
        follows=frozenset({"RA401"}),
    ),
    case(
        "RA401-node-port-rule",
        [*BASE, *PORT],
        {RULES: without("-A KUBE-NODE-PORT -p tcp")},
        expected=[("RA310", None)],
        follows=frozenset({"RA401"}),
    ),
    case("RA402-postrouting", BASE, {RULES: without("-A KUBE-POSTROUTING.*MASQUERADE --random")}, expected=[("RA402", None)]),
    case(
        "RA402-mark", BASE, {RULES: changed("--set-xmark 0x4000/0x4000", "--set-xmark 0x8000/0x8000")}, expected=[("RA402", None)]
    ),
    case(
        "RA403-no-entry",
        BASE,
        {SETS: entry_gone("KUBE-LOOP-BACK 10.244.1.5,tcp:8080,10.244.1.5")},
        expected=[("RA403", "shop/web")],
        endpoint="10.244.1.5:8080",
    ),
    case("RA403-no-rule", BASE, {RULES: without("-A KUBE-POSTROUTING.*LOOP-BACK")}, expected=[("RA403", None)]),
    case(
        "RA404-pod-cidr",
        BASE,
        objects=[node_object("node-a", "192.0.2.10", "10.200.1.0/24"), *BASE[1:]],
        expected=[("RA404", None)],
    ),
    case(
        "RA405-everybody",
        BASE,
        {RULES: changed("(-A KUBE-SERVICES )! -s 10.244.0.0/16 ", r"\g<1>")},
        expected=[("RA310", None)],
        follows=frozenset({"RA405"}),
    ),
    case(
        "RA401-accepted-before",
        BASE,
        {RULES: added("nat", "-A PREROUTING -d 10.96.0.0/16 -j ACCEPT", first=True)},
        expected=[("RA401", "default/kubernetes"), ("RA401", "shop/web")],
    ),
    case(
        "RA401-accepted-before-at-a-node-port",
        [*BASE, *PORT],
        {RULES: added("nat", "-A PREROUTING -p tcp -m tcp --dport 30080 -j ACCEPT", first=True)},
        expected=[("RA401", "shop/port")],
    ),
    case(
        "RA601-dropped-before-ipvs",
        BASE,
        {RULES: added("filter", "-A INPUT -d 10.96.0.20/32 -j DROP", first=True)},
        expected=[("RA601", "shop/web")],
    ),
    case(
        "RA601-input-policy",
        BASE,
        {RULES: changed(":INPUT ACCEPT", ":INPUT DROP")},
        expected=[("RA601", "default/kubernetes"), ("RA601", "shop/web")],
    ),
    case(
        "RA602-output-drop",
        BASE,
        {RULES: added("filter", "-A OUTPUT -d 10.244.2.5/32 -j DROP", first=True)},
        expected=[("RA602", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA603-host-port",
        [*BASE, *PORT],
        {RULES: added("nat", "-A PREROUTING -p tcp -m tcp --dport 30080 -j DNAT --to-destination 10.244.1.77:80", first=True)},
        expected=[("RA603", "shop/port")],
        endpoint="10.244.1.77:80",
    ),
    case("RA604-notrack", BASE, {RULES: notracked}, expected=[("RA604", "shop/web")]),
    case("RA703-twin", [*BASE, *service("shop/twin", "10.96.0.20")], expected=[("RA703", "shop/web")]),
]

# The line that proves it, where one line does.
LINES = {
    "RA005-no-virtual-server": "IP Virtual Server version",
    "RA101-a-service-more": "-A -t 10.96.0.1:443 -s rr",  # where the listing begins that lacks it
    "RA103-no-node-port": "-A -t 10.96.0.1:443 -s rr",
    "RA106-an-endpoint-more": "-A -t 10.96.0.20:80 -s rr",
    "RA106-a-real-server-is-gone": "-A -t 10.96.0.20:80 -s rr",
    "RA108-prerouting": ":PREROUTING ACCEPT",
    "RA109-no-rule": ":KUBE-NODE-PORT -",
    "RA110-cluster-ip": "create KUBE-CLUSTER-IP ",
    "RA110-ipvs-ips": "create KUBE-IPVS-IPS ",
    "RA111-an-address": "[",
    "RA201-gone": "-A -t 10.96.0.20:80 -s rr",
    "RA202-beside": "-A -t 10.96.0.20:81 -s rr",
    "RA203-beside": "-A -t 192.0.2.10:30081 -s rr",
    "RA206-one-more": "-a -t 10.96.0.20:80 -r 10.244.2.99:8080 -m -w 1",
    "RA207-not-ready": "-a -t 10.96.0.20:80 -r 10.244.2.5:8080 -m -w 1",
    "RA208-no-real-server": "-A -t 10.96.0.20:80 -s rr",
    "RA210-cluster-ip": "add KUBE-CLUSTER-IP 10.96.0.77,tcp:80",
    "RA210-node-port": "add KUBE-NODE-PORT-TCP 30999",
    "RA210-address": "10.96.0.77",
    "RA302-another-port": "-a -t 10.96.0.20:80 -r 10.244.2.5:8081 -m -w 1",
    "RA303-weight-zero": "-a -t 10.96.0.20:80 -r 10.244.2.5:8080 -m -w 0",
    "RA303-weights": "-a -t 10.96.0.20:80 -r 10.244.2.5:8080 -m -w 2",
    "RA304-timeout": "-A -t 10.96.0.24:80 -s rr -p 60",
    "RA305-internal": "-A -t 10.96.0.20:80 -s rr",
    "RA306-drop-gone": "-j KUBE-SOURCE-RANGES-FIREWALL",
    "RA401-accepted-before": "-A PREROUTING -d 10.96.0.0/16 -j ACCEPT",
    "RA402-mark": "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x8000/0x8000",
    "RA403-no-entry": "create KUBE-LOOP-BACK ",
    "RA403-no-rule": ":KUBE-POSTROUTING -",
    "RA601-dropped-before-ipvs": "-A INPUT -d 10.96.0.20/32 -j DROP",
    "RA602-output-drop": "-A OUTPUT -d 10.244.2.5/32 -j DROP",
    "RA603-host-port": "-A PREROUTING -p tcp -m tcp --dport 30080 -j DNAT",
    "RA604-notrack": "-A PREROUTING -d 10.96.0.20/32 -j NOTRACK",
}


def loud(report: Report) -> list[tuple[str, str | None]]:
    """The errors and warnings that follow from no other: code and service, each once."""
    return list(
        dict.fromkeys((one.code, one.service) for one in report.findings if one.severity is not Severity.INFO and not one.cause)
    )


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_and_its_finding(case: Fault, request: pytest.FixtureRequest) -> None:
    node = SmallIpvsNode(case.given, case.minor, case.arguments)
    report = node.report(case.edits, objects=case.objects)
    assert sorted(loud(report), key=str) == sorted(case.expected, key=str), [one.message for one in report.findings]
    following = [one for one in report.findings if one.cause is not None and one.severity is not Severity.INFO]
    assert {one.code for one in following} == case.follows
    leading = {one.fingerprint for one in report.findings if (one.code, one.service) in case.expected}
    assert {one.cause for one in following} <= leading
    one = next(one for one in report.findings if one.code == case.code)
    assert one.severity is (case.severity or CATALOGUE[case.code].severity)
    assert one.endpoint == case.endpoint
    assert one.name == CATALOGUE[case.code].name
    assert one.certainty is Certainty.DEFINITE
    assert one.node == "node-a"
    assert one.message
    assert one.hint
    assert one.locations or one.objects
    name = request.node.callspec.id
    if name in LINES:
        assert any(LINES[name] in where.text for where in one.locations), [where.text for where in one.locations]
    dumps = {name: case.edits.get(name, str)(text).split("\n") for name, text in node.parts().items()}
    for where in one.locations:
        if where.line:
            assert dumps[where.file][where.line - 1].rstrip() == where.text.rstrip()


@pytest.mark.parametrize("case", FAULTS)
def test_without_the_fault_there_is_no_finding(case: Fault) -> None:
    if case.code != "RA703":  # its fault is in the objects that the node was written for
        assert serious(SmallIpvsNode(case.given, case.minor, case.arguments).report()) == []


def test_every_case_is_tried() -> None:
    names = {str(one.id) for one in FAULTS}
    assert len(names) == len(FAULTS)
    assert set(LINES) <= names


# --- what looks like a fault and is right ------------------------------------------------------------------------------------------------


def with_arguments(*arguments: str) -> tuple[str, ...]:
    """kube-proxy's command line with others than it has."""
    return (*(one for one in IPVS_ARGUMENTS if one.split("=")[0] not in {other.split("=")[0] for other in arguments}), *arguments)


def port_of(protocol: str, number: int = 30090) -> list[Object]:
    return [{"name": "one", "port": 9999, "targetPort": 9999, "protocol": protocol, "nodePort": number}]


SCTP = service("shop/sctp", "10.96.0.31", type="NodePort", ports=port_of("SCTP"))
SCTP_LOCAL = service("shop/sctp", "10.96.0.31", type="NodePort", ports=port_of("SCTP"), externalTrafficPolicy="Local")
UDP = service("shop/udp", "10.96.0.32", type="NodePort", ports=port_of("UDP", 30091))
LOCAL_ELSEWHERE = service(
    "shop/port",
    "10.96.0.21",
    [REMOTE],
    type="NodePort",
    ports=NODE_PORT,
    externalTrafficPolicy="Local",
    externalIPs=["203.0.113.9"],
)
WEB6 = service(
    "shop/web6", "fd00:10:96::20", [endpoint("fd00:10:244:1::5", "node-a"), endpoint("fd00:10:244:2::5", "node-b")], family=6
)
TWIN = [
    *service("shop/first", "10.96.0.41", [endpoint("10.244.2.41")], externalIPs=["203.0.113.40"]),
    *service("shop/second", "10.96.0.42", [endpoint("10.244.2.42")], externalIPs=["203.0.113.40"]),
]
OPEN = service(
    "shop/balanced",
    "10.96.0.23",
    type="LoadBalancer",
    ingress=["203.0.113.5"],
    loadBalancerSourceRanges=["0.0.0.0/0"],
    ports=NODE_PORT,
)
ON_NODE = service("shop/on-node", "10.96.0.33", type="LoadBalancer", ingress=["192.0.2.10"])
DRAINED = r"\g<0>\n-a -t 10.96.0.20:80 -r 10.244.2.99:8080 -m -w 0"
FOREIGN = ("-A -t 203.0.113.200:80 -s wlc", "-a -t 203.0.113.200:80 -r 192.0.2.50:80 -m -w 5")


def clean(name: str, objects: Sequence[Object], edits: Mapping[str, Edit] | None = None, **values: object) -> ParameterSet:
    """A healthy node; `values` go to `SmallIpvsNode`, but those that `report` takes."""
    return pytest.param(objects, edits or {}, values, id=name)


def terse(text: str) -> str:
    """As `ipset list -t` prints the same sets."""
    created = [line.split() for line in text.split("\n") if line.startswith("create ")]
    return "\n".join(
        f"Name: {words[1]}\nType: {words[2]}\nRevision: 7\nHeader: {' '.join(words[3:])}\nSize in memory: 248\nReferences: 1\nNumber of entries: 3\n"
        for words in created
    )


CLEAN: list[ParameterSet] = [
    clean("node-ports-at-addresses-that-no-object-knows", [*BASE, *PORT], own=(*OWN, "172.31.0.7", "10.244.9.1")),
    clean("node-ports-at-addresses-that-ip-addr-knows", [*BASE, *PORT], given=(SERVERS, SETS, RULES, "ip-addr-all.json")),
    clean("empty-virtual-servers", [*BASE, *EMPTY]),
    clean("a-real-server-that-drains", BASE, {SERVERS: changed(f"^-A -t {WEB}.*$", DRAINED)}),
    clean(
        "a-draining-endpoint-that-ends",
        web([LOCAL, endpoint("10.244.2.5", ready=False, terminating=True)]),
        {SERVERS: changed(f"^-A -t {WEB}.*$", r"\g<0>\n-a -t 10.96.0.20:80 -r 10.244.2.5:8080 -m -w 0")},
    ),
    clean("remote-endpoints-under-local", [*BASE, *LOCAL_ELSEWHERE]),
    clean("remote-endpoints-under-internal-local", web([REMOTE], internalTrafficPolicy="Local")),
    clean("no-endpoints-under-local-1.23", [*BASE, *LOCAL_ELSEWHERE], minor=23),
    clean(
        "excluded-addresses",
        BASE,
        {SERVERS: appended(*FOREIGN)},
        arguments=with_arguments("--ipvs-exclude-cidrs=203.0.113.128/25"),
    ),
    clean("a-firewall-mark", BASE, {SERVERS: appended("-A -f 7 -s wlc", "-a -f 7 -r 192.0.2.50:0 -g -w 1")}),
    clean(
        "virtual-servers-that-route",
        BASE,
        {SERVERS: appended("-A -t 203.0.113.200:80 -s wlc", "-a -t 203.0.113.200:80 -r 192.0.2.50:80 -g -w 1")},
    ),
    clean(
        "virtual-servers-that-tunnel",
        BASE,
        {SERVERS: appended("-A -t 203.0.113.200:80 -s wlc", "-a -t 203.0.113.200:80 -r 192.0.2.50:80 -i -w 1")},
    ),
    clean("another-scheduler", BASE, {SERVERS: changed("-s rr", "-s lc", 0)}, arguments=with_arguments("--ipvs-scheduler=lc")),
    clean("strict-arp", BASE, arguments=with_arguments("--ipvs-strict-arp=true")),
    clean(
        "routes-beside",
        BASE,
        more={"ip-rule-local.txt": "local 10.96.0.20 dev kube-ipvs0 proto kernel scope host src 10.96.0.20 \n"},
    ),
    clean("sctp", [*BASE, *SCTP, *UDP]),
    clean("sctp-local", [*BASE, *SCTP_LOCAL]),
    clean("sctp-local-1.22", [*BASE, *SCTP_LOCAL], minor=22),
    clean(
        "sctp-printed-as-udp",
        [*BASE, *SCTP],
        {"ipvsadm.txt": changed("^SCTP", "UDP ", 0)},
        given=("ipvsadm.txt", SETS, RULES, ADDRESSES),
    ),
    clean("ipv6-alone", [*NODES, *WEB6], families=(6,)),
    clean("dual-stack", [*BASE, *WEB6, *PORT], families=(4, 6)),
    clean("ipv6-objects-on-a-node-of-ipv4", [*BASE, *WEB6]),
    clean("the-node-is-not-named", [*BASE, *PORT, *STICKY], told=False, node="", given=(SERVERS, SETS, RULES, ADDRESSES)),
    clean("no-node-object", [*BASE[2:], *PORT, *LOCAL_PORT[:0]]),
    clean("no-node-object-and-source-ranges", [*KUBERNETES, *GUARDED]),
    clean("node-port-addresses", [*BASE, *PORT], arguments=with_arguments("--nodeport-addresses=192.0.2.0/24")),
    clean("node-port-addresses-of-a-bridge", [*BASE, *PORT], arguments=with_arguments("--nodeport-addresses=172.17.0.0/16")),
    clean("node-port-addresses-that-nobody-told", [*BASE, *PORT], own=("192.0.2.10",), told=False),
    clean(
        "node-port-addresses-that-the-node-does-not-have",
        [*BASE, *PORT],
        arguments=with_arguments("--nodeport-addresses=198.51.100.0/24"),
    ),
    clean("primary-node-port-addresses", [*BASE, *PORT], arguments=with_arguments("--nodeport-addresses=primary")),
    clean("masquerade-all", [*BASE, *PORT, *EXTERNAL], arguments=with_arguments("--masquerade-all=true")),
    clean("no-local-detection", [*BASE, *PORT], arguments=with_arguments("--cluster-cidr=")),
    clean(
        "local-by-interface-prefix",
        BASE,
        arguments=with_arguments("--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"),
    ),
    clean(
        "local-by-bridge", BASE, arguments=with_arguments("--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0")
    ),
    clean("local-by-node-cidr", BASE, arguments=with_arguments("--detect-local-mode=NodeCIDR")),
    clean("another-masquerade-bit", [*BASE, *PORT], arguments=with_arguments("--iptables-masquerade-bit=16")),
    clean("a-load-balancer-at-the-nodes-address", [*BASE, *ON_NODE]),
    clean("a-load-balancer-at-the-nodes-address-1.25", [*BASE, *ON_NODE], minor=25),
    clean(
        "a-load-balancer-at-the-nodes-address-with-ip-addr", [*BASE, *ON_NODE], given=(SERVERS, SETS, RULES, "ip-addr-all.json")
    ),
    clean(
        "external-ips-under-local-1.28",
        [
            *BASE,
            *service(
                "shop/port",
                "10.96.0.21",
                type="NodePort",
                ports=NODE_PORT,
                externalTrafficPolicy="Local",
                externalIPs=["203.0.113.9"],
            ),
        ],
        minor=28,
    ),
    clean("every-source-1.33", [*BASE, *OPEN], minor=33),
    clean("every-source-1.34", [*BASE, *OPEN], minor=34),
    clean("every-source-1.24", [*BASE, *OPEN], minor=24),
    clean(
        "source-ranges-that-hold-the-node",
        [
            *BASE,
            *service(
                "shop/balanced",
                "10.96.0.23",
                type="LoadBalancer",
                ingress=["203.0.113.5"],
                loadBalancerSourceRanges=["192.0.2.0/24"],
                ports=NODE_PORT,
            ),
        ],
    ),
    clean("an-unready-local-endpoint-loops-back", web([LOCAL, endpoint("10.244.1.6", ready=False, serving=False), REMOTE])),
    clean("forwarding-is-dropped-by-policy", BASE, {RULES: changed(":FORWARD ACCEPT", ":FORWARD DROP")}),
    clean(
        "one-set-of-all",
        BASE,
        {SETS: lambda text: "".join(line + "\n" for line in text.split("\n") if "KUBE-CLUSTER-IP" in line)},
    ),
    clean("sets-without-their-entries", BASE, {SETS: terse}),
    clean(
        "other-sets",
        BASE,
        {SETS: appended("create cali40s:abc hash:net family inet hashsize 1024 maxelem 65536", "add cali40s:abc 10.0.0.0/8")},
    ),
    clean(
        "headless-and-external-names",
        [
            *BASE,
            *service("shop/headless", "None"),
            *service("shop/elsewhere", "", None, type="ExternalName", externalName="example.com"),
        ],
    ),
]


@pytest.mark.parametrize(("objects", "edits", "values"), CLEAN)
def test_what_looks_like_a_fault_and_is_right(
    objects: Sequence[Object], edits: Mapping[str, Edit], values: dict[str, object]
) -> None:
    asked = {name: values[name] for name in ("given", "more", "told", "node") if name in values}
    node = SmallIpvsNode(objects, **{name: value for name, value in values.items() if name not in asked})  # type: ignore[arg-type]  # by name
    report = node.report(edits, **asked)  # type: ignore[arg-type]  # by name
    assert [(one.code, one.service, one.message) for one in report.findings if one.severity is not Severity.INFO] == []


@pytest.mark.parametrize("last", ["shop/first", "shop/second"])
def test_either_of_two_services_may_have_an_address_and_port(last: str) -> None:
    """The later one to be written has the virtual server (KPR 11.1): that is the objects' conflict, and no stale endpoint."""
    order = TWIN if last == "shop/second" else [*TWIN[2:], *TWIN[:2]]
    report = SmallIpvsNode([*BASE, *order]).report(objects=[*BASE, *TWIN])
    assert {one.code for one in report.findings if one.severity is not Severity.INFO} == {"RA703"}


def test_large_sets() -> None:
    many = [
        one
        for number in range(600)
        for one in service(
            f"many/s{number}", f"10.97.{number // 200}.{number % 200 + 1}", [endpoint(f"10.244.1.{number % 200 + 20}")]
        )
    ]
    assert serious(SmallIpvsNode([*NODES, *KUBERNETES, *many]).report()) == []


def test_a_rule_of_all_services_leads_what_follows_from_it() -> None:
    """Neither is kube-proxy said to have stopped, nor a service to be written for another policy; what is wrong besides stays a finding."""
    given = [*BASE, *PORT, *EXTERNAL, *STICKY]
    no_return = without("-A KUBE-IPVS-FILTER .*KUBE-CLUSTER-IP")
    report = SmallIpvsNode(given).report({RULES: no_return})
    assert loud(report) == [("RA310", None)]
    leader = next(one for one in report.findings if one.code == "RA310")
    assert leader.severity is Severity.ERROR
    following = [one for one in report.findings if one.cause == leader.fingerprint]
    assert {one.code for one in following} == {"RA106", "RA208"}
    assert len({one.service for one in following}) == 5
    report = SmallIpvsNode(given).report({RULES: no_return, SERVERS: without(f"^-a -t {WEB}-r 10.244.2.5")})
    assert sorted(loud(report), key=str) == [("RA305", "shop/web"), ("RA310", None)]
    report = SmallIpvsNode(given).report({RULES: no_return, SETS: entry_gone("KUBE-NODE-PORT-TCP 30080")})
    assert sorted(loud(report), key=str) == [("RA110", "shop/port"), ("RA310", None)]


def test_a_missing_rule_is_no_other_traffic_policy() -> None:
    given = [*BASE, *service("shop/own", "10.96.0.29", [LOCAL], type="NodePort", ports=NODE_PORT)]
    for gone in ("-A KUBE-SERVICES .*-j KUBE-NODE-PORT$", "-A KUBE-NODE-PORT -p tcp .*KUBE-MARK-MASQ"):
        report = SmallIpvsNode(given).report({RULES: without(gone)})
        assert loud(report) == [("RA310", None)]
        assert {one.code for one in report.findings if one.cause is not None} == {"RA401"}


def test_a_missing_entry_is_no_other_traffic_policy() -> None:
    given = [*BASE, *service("shop/own", "10.96.0.29", [LOCAL], type="NodePort", ports=NODE_PORT)]
    report = SmallIpvsNode(given).report({SETS: entry_gone("KUBE-NODE-PORT-TCP 30080")})
    assert loud(report) == [("RA110", "shop/own")]
    assert {one.code for one in report.findings if one.cause is not None} == {"RA401"}


def test_each_of_two_rules_leads_what_follows_from_it() -> None:
    report = SmallIpvsNode([*BASE, *PORT]).report(
        {RULES: lambda text: without("-A KUBE-SERVICES ! -s")(without("-A KUBE-NODE-PORT -p tcp")(text))}
    )
    assert loud(report) == [("RA310", None)]
    leaders = {one.fingerprint for one in report.findings if one.code == "RA310" and one.severity is Severity.ERROR}
    assert len(leaders) == 2
    assert {one.cause for one in report.findings if one.cause is not None} <= leaders


def test_of_two_altered_rules_of_one_chain_each_leads_its_own() -> None:
    def edit(text: str) -> str:
        return re.sub(
            r"(-A KUBE-SERVICES (! -s \S+ )?-m comment .*(KUBE-CLUSTER-IP|KUBE-EXTERNAL-IP) dst,dst -j )KUBE-MARK-MASQ",
            r"\1RETURN",
            text,
        )

    report = SmallIpvsNode([*BASE, *EXTERNAL]).report({RULES: edit})
    assert {code for code, service in loud(report) if service is None} == {"RA310"}
    leaders = [one for one in report.findings if one.code == "RA310" and one.severity is Severity.ERROR]
    assert len(leaders) == 2
    (of_all,) = [one for one in leaders if "KUBE-CLUSTER-IP" in one.observed]
    assert {"default/kubernetes", "shop/web"} <= {one.service for one in report.findings if one.cause == of_all.fingerprint}


def test_one_finding_for_sets_or_a_device_that_hold_nothing() -> None:
    many = [one for number in range(30) for one in service(f"many/s{number}", f"10.97.0.{number + 1}", [endpoint("10.244.1.20")])]
    node = SmallIpvsNode([*NODES, *KUBERNETES, *many])
    flushed = node.report({SETS: without("^add ")})
    assert loud(flushed) == [("RA110", None)]
    assert {"RA110", "RA401", "RA403"} <= {one.code for one in flushed.findings if one.cause is not None}
    bare = node.report({ADDRESSES: lambda _text: ip_addr({"kube-ipvs0": []})})
    assert loud(bare) == [("RA111", None)]
    assert len([one for one in bare.findings if one.code == "RA111" and one.cause is not None]) == 31


def test_a_real_server_says_why_it_gets_nothing() -> None:
    for before, after, said in (
        ("-w 1", "-w 0", "it has weight 0"),
        ("-m ", "-g ", "is not reached by masquerading, but by Route"),
    ):
        edit = changed(f"(^-a -t {WEB}-r 10.244.2.5.*){before}", rf"\g<1>{after}")
        report = SmallIpvsNode(BASE).report({SERVERS: edit})
        (found,) = [one for one in report.findings if one.code == "RA303"]
        assert said in found.message
        assert " or " not in found.message
        assert "probabilities" not in found.hint
        assert "weight 1" in found.hint


def test_the_advice_about_node_ports_is_that_of_the_mode() -> None:
    report = SmallIpvsNode([*BASE, *PORT]).report({SERVERS: without_server(PORT_AT)})
    (found,) = [one for one in report.findings if one.code == "RA103"]
    assert "KUBE-NODEPORTS" not in found.hint
    assert "--nodeport-addresses" in found.hint


def test_one_finding_for_what_most_service_ports_lack() -> None:
    many = [one for number in range(30) for one in service(f"many/s{number}", f"10.97.0.{number + 1}", [endpoint("10.244.2.20")])]
    report = SmallIpvsNode([*NODES, *KUBERNETES]).report(objects=[*NODES, *KUBERNETES, *many])
    assert {code for code, service in loud(report) if service is None} <= {"RA101", "RA505"}
    assert [service for _code, service in loud(report) if service is not None] == []


def test_every_virtual_server_on_a_scheduler_that_was_not_asked_for() -> None:
    """An --ipvs-scheduler that is not given means rr, so that no majority decides."""
    report = SmallIpvsNode(BASE).report({SERVERS: changed("-s rr", "-s lc", 0)})
    assert {code for code, _service in loud(report)} == {"RA310"}
    assert {service for _code, service in loud(report)} == {"default/kubernetes", "shop/web"}


def test_chains_of_the_iptables_mode_that_nothing_jumps_to() -> None:
    """What a change of the mode leaves on a node that was not restarted: said, and no fault (KPR 21.8)."""
    left = ":KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n"
    rules = (
        "-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA\n"
        "-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.2.20:8080\n"
    )

    def leftover(text: str) -> str:
        before, table, after = text.partition("*nat\n")
        chains, commit, rest = after.partition("COMMIT\n")
        return before + table + left + chains + rules + commit + rest

    report = SmallIpvsNode(BASE).report({RULES: leftover})
    assert loud(report) == []
    found = [one for one in report.findings if one.code == "RA503"]
    assert [(one.severity, one.message) for one in found] == [
        (Severity.INFO, "2 chains of the iptables mode are left in IPv4; no packet comes to them")
    ]
