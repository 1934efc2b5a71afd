"""Every code that `check` gives: a small healthy node, one fault, and the finding that names it. The healthy nodes are the clean cases.

A case says which codes must appear as errors and warnings: those and no others, so that one cause stays one finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
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
    serious,
    service,
    without,
)

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet

    from ruleaudit.findings import Finding, Report

NODE_PORT = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]
PORT = service("shop/port", "10.96.0.21", type="NodePort", ports=NODE_PORT)
LOCAL_PORT = service("shop/port", "10.96.0.21", type="NodePort", ports=NODE_PORT, externalTrafficPolicy="Local")
BALANCED = service("shop/balanced", "10.96.0.23", type="LoadBalancer", ingress=["203.0.113.5"], ports=NODE_PORT)
GUARDED = service(
    "shop/balanced",
    "10.96.0.23",
    type="LoadBalancer",
    ingress=["203.0.113.5"],
    loadBalancerSourceRanges=["198.51.100.0/24"],
    ports=NODE_PORT,
)
EXTERNAL = service("shop/external", "10.96.0.26", externalIPs=["203.0.113.6"])
STICKY = service(
    "shop/sticky", "10.96.0.24", sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}}
)
ELSEWHERE = service("shop/elsewhere", "10.96.0.28", [endpoint("10.244.2.9")])
EMPTY = service("shop/empty", "10.96.0.25", [])
HEALTH = service(
    "shop/balanced", "10.96.0.23", type="LoadBalancer", ingress=["203.0.113.5"], ports=NODE_PORT, externalTrafficPolicy="Local", healthCheckNodePort=32000
)  # fmt: skip
MANY = [
    one for number in range(8) for one in service(f"many/s{number}", f"10.96.1.{number}", [endpoint(f"10.244.2.{number + 10}")])
]


@dataclass(frozen=True)
class Fault:
    """A healthy node, what is done to its dump or its objects, and the errors and warnings that this must give: (code, service).

    `follows`: those of this code name the finding as their cause. `also`: codes that the same fault may give beside.
    """

    code: str
    given: Sequence[Object]
    edit: Edit = str
    objects: Sequence[Object] | None = None
    expected: Sequence[tuple[str, str | None]] = ()
    endpoint: str | None = None
    severity: Severity | None = None
    minor: int = 36
    dumps: dict[str, str] | None = None
    follows: str | None = None
    also: frozenset[str] = field(default=frozenset())


def case(name: str, given: Sequence[Object], edit: Edit = str, **values: object) -> ParameterSet:
    """A fault; its name begins with its code."""
    return pytest.param(Fault(name[:5], given, edit, **values), id=name)  # type: ignore[arg-type]  # by name


def web(endpoints: Sequence[Object] | None = (LOCAL, REMOTE), **values: object) -> list[Object]:
    return [*NODES, *KUBERNETES, *service("shop/web", "10.96.0.20", endpoints, **values)]  # type: ignore[arg-type]  # as service takes them


def line_of(text: str, part: str) -> str:
    return next(line for line in text.split("\n") if part in line and "KUBE-SERVICES" in line) + "\n"


def moved_last(text: str, pattern: str) -> str:
    """Move a rule behind the last of its table."""
    found = re.search(f"^.*{pattern}.*\n", text, re.MULTILINE)
    assert found
    return added("nat", found.group().strip())(text.replace(found.group(), "", 1))


def swapped(text: str, first: str, second: str) -> str:
    """Let the cluster IP of the first service lead into the chain of the second."""
    mine, other = (line_of(text, f"{name}:http cluster IP") for name in (first, second))
    return text.replace(mine, mine.rsplit(" ", 1)[0] + " " + other.rsplit(" ", 1)[1], 1)


WEB_SVC = r"KUBE-SVC-[A-Z0-9]{16}"

FAULTS = [
    case(
        "RA001-a-line-that-is-none",
        BASE,
        added("nat", "-A KUBE-SERVICES --no-such-option 1 -j ACCEPT"),
        expected=[("RA001", None)],
    ),
    case("RA002-a-table-without-commit", BASE, lambda text: text[: text.rindex("COMMIT")], expected=[("RA002", None)]),
    case(
        "RA003-a-match-that-nobody-models-drops",
        BASE,
        added("filter", "-A FORWARD -m u32 --u32 0x0=0x1 -j DROP", first=True),
        expected=[("RA003", None)],
    ),
    case(
        "RA003-a-target-that-nobody-models",
        BASE,
        added("filter", "-A FORWARD -j NFQUEUE --queue-num 0", first=True),
        expected=[("RA003", None)],
    ),
    case(
        "RA005-no-rules",
        BASE,
        dumps={"iptables-save.txt": "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"},
        expected=[("RA005", None)],
    ),
    case("RA101-a-service-without-rules", [*NODES, *KUBERNETES], objects=BASE, expected=[("RA101", "shop/web")]),
    case(
        "RA102-no-cluster-ip",
        [*BASE, *PORT],
        without("shop/port:http cluster IP.* -j KUBE-SVC"),
        expected=[("RA102", "shop/port")],
    ),
    case("RA103-no-node-port", [*BASE, *PORT], without("-A KUBE-NODEPORTS .*shop/port:http"), expected=[("RA103", "shop/port")]),
    case(
        "RA104-no-external-ip",
        [*BASE, *EXTERNAL],
        without("shop/external:http external IP"),
        expected=[("RA104", "shop/external")],
    ),
    case(
        "RA105-no-load-balancer-ip",
        [*BASE, *BALANCED],
        without("shop/balanced:http loadbalancer IP"),
        expected=[("RA105", "shop/balanced")],
    ),
    case(
        "RA106-an-endpoint-more",
        web([LOCAL, REMOTE]),
        objects=web([LOCAL, REMOTE, endpoint("10.244.2.6")]),
        expected=[("RA106", "shop/web")],
        endpoint="10.244.2.6:8080",
    ),
    case(
        "RA107-nobody-refuses", [*BASE, *EMPTY], without("shop/empty:http has no endpoints"), expected=[("RA107", "shop/empty")]
    ),
    case("RA108-prerouting", BASE, without("-A PREROUTING .*KUBE-SERVICES"), expected=[("RA108", None)]),
    case("RA108-output", BASE, without("-A OUTPUT -m comment.*KUBE-SERVICES"), expected=[("RA108", None)]),
    case("RA108-postrouting", BASE, without("-A POSTROUTING"), expected=[("RA108", None)]),
    case("RA108-node-ports", [*BASE, *PORT], without("-j KUBE-NODEPORTS$"), expected=[("RA108", None)]),
    case(
        "RA108-forward-matters-little",
        BASE,
        without("-A FORWARD .*-j KUBE-FORWARD"),
        severity=Severity.WARNING,
        expected=[("RA108", None)],
    ),
    case("RA108-narrowed", BASE, changed("-A PREROUTING -m", "-A PREROUTING -i eth0 -m"), expected=[("RA108", None)]),
    case(
        "RA109-no-health-check-port",
        [*BASE, *HEALTH],
        without("health check node port"),
        severity=Severity.WARNING,
        expected=[("RA109", "shop/balanced")],
    ),
    case("RA201-a-service-that-is-gone", BASE, objects=[*NODES, *KUBERNETES], expected=[("RA201", "shop/web")]),
    case(
        "RA202-another-cluster-ip",
        BASE,
        objects=[*NODES, *KUBERNETES, *service("shop/web", "10.96.0.99")],
        expected=[("RA101", "shop/web"), ("RA202", "shop/web")],
    ),
    case(
        "RA203-a-node-port-that-is-gone",
        [*BASE, *PORT],
        objects=[*BASE, *service("shop/port", "10.96.0.21")],
        expected=[("RA203", "shop/port")],
    ),
    case(
        "RA204-an-external-ip-that-is-gone",
        [*BASE, *EXTERNAL],
        objects=[*BASE, *service("shop/external", "10.96.0.26")],
        expected=[("RA204", "shop/external")],
    ),
    case(
        "RA205-a-load-balancer-ip-that-is-gone",
        [*BASE, *BALANCED],
        objects=[*BASE, *service("shop/balanced", "10.96.0.23", type="LoadBalancer", ports=NODE_PORT)],
        expected=[("RA205", "shop/balanced")],
    ),
    case(
        "RA206-an-endpoint-that-is-gone",
        web([LOCAL, REMOTE, endpoint("10.244.2.6")]),
        objects=BASE,
        expected=[("RA206", "shop/web")],
        endpoint="10.244.2.6:8080",
    ),
    case(
        "RA207-an-endpoint-that-is-not-ready",
        web([LOCAL, REMOTE]),
        objects=web([LOCAL, endpoint("10.244.2.5", ready=False, serving=False)]),
        expected=[("RA207", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA207-an-endpoint-that-ends",
        web([LOCAL, REMOTE]),
        objects=web([LOCAL, endpoint("10.244.2.5", ready=False, terminating=True)]),
        expected=[("RA207", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA208-refused-although-there-are-endpoints",
        web([]),
        objects=BASE,
        expected=[("RA208", "shop/web"), ("RA106", "shop/web")],
        follows="RA106",
    ),
    case(
        "RA208-a-refusal-that-is-never-reached",
        BASE,
        added(
            "filter",
            '-A KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
        ),
        severity=Severity.WARNING,
        expected=[("RA208", "shop/web")],
    ),
    case(
        "RA209-an-orphan",
        BASE,
        lambda text: text.replace("*nat\n", "*nat\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n"),
        severity=Severity.INFO,
    ),
    case(
        "RA301-the-chain-of-another-service",
        [*BASE, *ELSEWHERE],
        lambda text: swapped(text, "shop/web", "shop/elsewhere"),
        expected=[("RA301", "shop/web")],
    ),
    case(
        "RA302-another-port",
        BASE,
        changed("--to-destination 10\\.244\\.1\\.5:8080", "--to-destination 10.244.1.5:8081"),
        expected=[("RA302", "shop/web")],
        endpoint="10.244.1.5:8081",
    ),
    case(
        "RA303-uneven",
        BASE,
        changed("--probability 0\\.50000000000", "--probability 0.90000000000"),
        expected=[("RA303", "shop/web")],
    ),
    case(
        "RA304-another-timeout",
        [*BASE, *STICKY],
        changed("--seconds 600", "--seconds 60", 0),
        expected=[("RA304", "shop/sticky")],
    ),
    case(
        "RA304-not-asked-for",
        [*BASE, *STICKY],
        objects=[*BASE, *service("shop/sticky", "10.96.0.24")],
        expected=[("RA304", "shop/sticky")],
    ),
    case(
        "RA304-absent",
        [*BASE, *service("shop/sticky", "10.96.0.24")],
        objects=[*BASE, *STICKY],
        expected=[("RA304", "shop/sticky")],
    ),
    case("RA305-external-traffic-policy", [*BASE, *PORT], objects=[*BASE, *LOCAL_PORT], expected=[("RA305", "shop/port")]),
    case("RA305-internal-traffic-policy", BASE, objects=web(internalTrafficPolicy="Local"), expected=[("RA305", "shop/web")]),
    case("RA306-a-range-that-is-gone", [*BASE, *GUARDED], objects=[*BASE, *BALANCED], expected=[("RA306", "shop/balanced")]),
    case("RA306-no-range", [*BASE, *BALANCED], objects=[*BASE, *GUARDED], expected=[("RA306", "shop/balanced")]),
    case(
        "RA306-a-wider-range",
        [*BASE, *GUARDED],
        changed("-s 198\\.51\\.100\\.0/24 ", "-s 198.51.0.0/16 "),
        expected=[("RA306", "shop/balanced")],
    ),
    case(
        "RA307-a-rule-twice",
        BASE,
        lambda text: text.replace(line_of(text, "shop/web:http cluster IP"), line_of(text, "shop/web:http cluster IP") * 2, 1),
        severity=Severity.INFO,
    ),
    case(
        "RA308-a-rule-behind-the-last",
        [*BASE, *PORT],
        lambda text: moved_last(text, "shop/web:http cluster IP.* -j KUBE-SVC"),
        severity=Severity.WARNING,
        expected=[("RA308", None)],
    ),
    case(
        "RA309-an-empty-chain",
        BASE,
        without(f"-A {WEB_SVC} .*shop/web:http"),
        expected=[("RA309", "shop/web")],
        also=frozenset({"RA209"}),
    ),
    case(
        "RA309-an-empty-dispatch",
        [*NODES, *KUBERNETES, *MANY],
        without("-A KUBE-SERVICES .* cluster IP.* -j KUBE-SVC"),
        expected=[("RA309", None)],
        also=frozenset({"RA209"}),
    ),
    case("RA401-no-mark", BASE, without(f"-A {WEB_SVC} ! -s .*shop/web"), expected=[("RA401", "shop/web")]),
    case("RA402-no-masquerade", BASE, without("-A KUBE-POSTROUTING .*MASQUERADE"), expected=[("RA402", None)]),
    case(
        "RA402-another-mark", BASE, changed("--set-xmark 0x4000/0x4000", "--set-xmark 0x8000/0x8000"), expected=[("RA402", None)]
    ),
    case(
        "RA402-accepted-before",
        BASE,
        added("nat", "-A POSTROUTING -d 10.244.0.0/16 -j ACCEPT", first=True),
        expected=[("RA402", None)],
    ),
    case(
        "RA403-no-hairpin",
        BASE,
        without("-A KUBE-SEP-\\w+ -s 10\\.244\\.1\\.5/32"),
        expected=[("RA403", "shop/web")],
        endpoint="10.244.1.5:8080",
    ),
    case(
        "RA404-another-pod-cidr",
        BASE,
        objects=[node_object("node-a", "192.0.2.10", "10.200.1.0/24"), *BASE[1:]],
        expected=[("RA404", None)],
        severity=Severity.WARNING,
    ),
    case(
        "RA405-everybody-is-masqueraded",
        BASE,
        changed(f"(-A {WEB_SVC} )! -s 10\\.244\\.0\\.0/16 (.*shop/web)", "\\1\\2"),
        expected=[("RA405", "shop/web")],
    ),
    case(
        "RA503-chains-of-an-older-release",
        BASE,
        added(
            "nat",
            '-A KUBE-XLB-AAAAAAAAAAAAAAAA -m comment --comment "masquerade LOCAL traffic for shop/old:http LB IP" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ',
        ),
        severity=Severity.WARNING,
        expected=[("RA503", None)],
    ),
    case(
        "RA504-leftovers-that-hold-a-chain",
        BASE,
        both(
            added("nat", "-A KUBE-XLB-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA"),
            added("nat", "-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.2.77:8080"),
        ),
        expected=[("RA503", None), ("RA504", None)],
    ),
    case(
        "RA601-accepted-before-translation",
        BASE,
        added("nat", "-A PREROUTING -d 10.96.0.0/16 -j ACCEPT", first=True),
        expected=[("RA601", "default/kubernetes"), ("RA601", "shop/web")],
    ),
    case("RA602-a-forward-policy", BASE, changed(":FORWARD ACCEPT", ":FORWARD DROP"), expected=[("RA602", "shop/web")]),
    case(
        "RA602-a-forward-rule",
        BASE,
        added("filter", "-A FORWARD -d 10.244.2.5/32 -j DROP", first=True),
        expected=[("RA602", "shop/web")],
        endpoint="10.244.2.5:8080",
    ),
    case(
        "RA603-a-host-port",
        [*BASE, *PORT],
        added("nat", "-A PREROUTING -p tcp -m tcp --dport 30080 -j DNAT --to-destination 10.244.1.77:80", first=True),
        expected=[("RA603", "shop/port")],
        endpoint="10.244.1.77:80",
    ),
    case(
        "RA604-notrack",
        BASE,
        lambda text: (
            "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.20/32 -j NOTRACK\nCOMMIT\n" + text
        ),
        severity=Severity.WARNING,
        expected=[("RA604", "shop/web")],
    ),
    case("RA703-one-frontend-twice", [*BASE, *service("shop/twin", "10.96.0.20")], expected=[("RA703", "shop/web")]),
]


def fault(report: Report, code: str) -> Finding:
    return next(one for one in report.findings if one.code == code)


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_and_its_finding(case: Fault) -> None:
    report = SmallNode(case.given, case.minor).report(case.edit, objects=case.objects, dumps=case.dumps)
    found = [one for one in serious(report) if one[0] not in case.also]
    assert sorted(dict.fromkeys(found), key=str) == sorted(case.expected, key=str), [one.message for one in report.findings]
    one = fault(report, case.code)
    assert one.severity is (case.severity or CATALOGUE[case.code].severity)
    assert one.endpoint == case.endpoint
    assert one.name == CATALOGUE[case.code].name
    assert one.certainty is (Certainty.POSSIBLE if case.code == "RA003" else Certainty.DEFINITE)
    assert one.node == "node-a"
    assert {other.cause for other in report.findings if other.code == case.follows} == (
        {one.fingerprint} if case.follows else set()
    )
    assert one.message
    assert one.hint
    assert one.locations or one.objects
    dump = case.edit(SmallNode(case.given, case.minor).text()).split("\n") if case.dumps is None else []
    for location in one.locations:
        if dump and location.line and location.file == "iptables-save.txt":
            assert dump[location.line - 1].rstrip() == location.text.rstrip()


@pytest.mark.parametrize("case", FAULTS)
def test_without_the_fault_there_is_no_finding(case: Fault) -> None:
    if case.code == "RA703":
        return  # its fault is in the objects that the rules were written for
    report = SmallNode(case.given, case.minor).report()
    assert [one.message for one in report.findings if one.code == case.code] == []
    assert serious(report) == []
