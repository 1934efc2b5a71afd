"""Every code that `check` gives: a small healthy node, one fault, and the finding that names it. The healthy nodes are the clean cases.

A case says which codes must appear as errors and warnings: those and no others, so that one cause stays one finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
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

import ruleaudit
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet

    from ruleaudit.findings import Finding, Report

SOURCES = Path(ruleaudit.__file__).parent
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
    "shop/balanced",
    "10.96.0.23",
    type="LoadBalancer",
    ingress=["203.0.113.5"],
    ports=NODE_PORT,
    externalTrafficPolicy="Local",
    healthCheckNodePort=32000,
)
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


def moved_first(text: str, pattern: str) -> str:
    """Move a rule before all others of its chain."""
    found = re.search(f"^{pattern}.*\n", text, re.MULTILINE)
    assert found
    chain = found.group().split()[1]
    rest = text.replace(found.group(), "", 1)
    return rest.replace(f"-A {chain} ", f"{found.group()}-A {chain} ", 1)


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
            '-A KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 '
            "-j REJECT --reject-with icmp-port-unreachable",
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
        "RA308-a-mark-behind-what-it-marks",
        # The node is admitted, so its own packets, which come from the load-balancer IP, have a rule of their own.
        [
            *BASE,
            *service(
                "shop/own",
                "10.96.0.27",
                type="LoadBalancer",
                ingress=["203.0.113.6"],
                loadBalancerSourceRanges=["192.0.2.0/24"],
            ),
        ],
        lambda text: moved_first(text, "-A KUBE-FW-[A-Z0-9]{16} -s 203.0.113.6/32 "),
        minor=22,
        severity=Severity.WARNING,
        expected=[("RA308", "shop/own")],
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
    case(
        "RA310-the-accept-rule-of-masqueraded-packets-is-gone",
        BASE,
        without("-A KUBE-FORWARD .*--mark 0x4000/0x4000"),
        expected=[("RA310", None)],
    ),
    case(
        "RA310-one-mark-more",
        BASE,
        added("nat", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x1/0x1"),
        expected=[("RA310", None)],
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
            '-A KUBE-XLB-AAAAAAAAAAAAAAAA -m comment --comment "masquerade LOCAL traffic for shop/old:http LB IP" '
            "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
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
        follows="RA503",
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


GIVEN_ELSEWHERE = {
    "RA004",
    "RA006",
    "RA007",
    "RA008",
    "RA011",
    "RA012",
    "RA013",
    "RA110",
    "RA111",
    "RA210",
    "RA501",
    "RA502",
    "RA505",
    "RA701",
    "RA702",
    "RA704",
    "RA801",
    "RA802",
    "RA803",
}
"""Codes that take more than one edited dump; their tests are below, those of RA701 and RA704 in test_objects_oddities,
those of RA110, RA111 and RA210 in test_ipvs_codes, those of RA007 and RA008 in test_partial_inputs."""

NOT_GIVEN_YET: dict[str, str] = {}


def test_every_code_has_a_case_or_a_reason() -> None:
    tried = {str(one.id)[:5] for one in FAULTS}
    assert tried | GIVEN_ELSEWHERE | set(NOT_GIVEN_YET) == set(CATALOGUE)
    assert not (tried | GIVEN_ELSEWHERE) & set(NOT_GIVEN_YET)
    sources = "\n".join(path.read_text() for part in ("checks", "audit", "lint") for path in (SOURCES / part).glob("*.py"))
    given = set(re.findall(r'"(RA\d{3})"', sources))
    assert given - set(CATALOGUE) == set()
    assert set(CATALOGUE) - given == set(NOT_GIVEN_YET)


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


# --- codes that take more than one edited dump -------------------------------------------------------------------------------------------


NAT_ONLY = "*nat" + SmallNode(BASE).text().partition("*nat")[2]
FILTER_ONLY = SmallNode(BASE).text().partition("COMMIT\n")[0] + "COMMIT\n"
LEGACY = "# Generated by iptables-save v1.8.9 on Mon Nov 23 05:00:00 2026\n"
DATED = "2026-11-25T05:00:00Z"


def dated(objects: Sequence[Object], time: str) -> list[Object]:
    """Objects that changed at a time."""
    return [{**one, "metadata": {**one["metadata"], "creationTimestamp": time}} for one in objects]  # type: ignore[dict-item]  # a mapping


@pytest.mark.parametrize(
    ("dumps", "objects", "said"),
    [
        pytest.param({"nat.txt": NAT_ONLY}, BASE, ["filter table of IPv4 is not in the dump"], id="nat-only"),
        pytest.param({"filter.txt": FILTER_ONLY}, BASE, ["nat table of IPv4 is not in the dump"], id="filter-only"),
        pytest.param({"a.txt": SmallNode(BASE).text()}, [], ["no objects were given"], id="no-objects"),
        pytest.param({"a.txt": SmallNode(BASE).text()}, NODES, ["hold no Service"], id="no-services"),
        pytest.param({}, BASE, ["no dump of the node's rules was given"], id="no-dump"),
        pytest.param(
            {"a.txt": SmallNode(BASE).text()},
            [*BASE, *service("shop/six", "fd00:10:96::6", [], family=6)],
            ["no IPv6 table was given"],
            id="no-ipv6",
        ),
        pytest.param(
            {"a.txt": SmallNode([*BASE, *PORT]).text(), "b.txt": SmallNode(BASE).text()},
            BASE,
            ["is given twice and differs"],
            id="twice-and-different",
        ),
        pytest.param({"a.txt": SmallNode(BASE).text(), "b.txt": SmallNode(BASE).text()}, BASE, [], id="twice-and-equal"),
        pytest.param(
            {"a.txt": SmallNode(BASE).text(), "b.txt": re.sub("^-A", "[12:345] -A", SmallNode(BASE).text(), flags=re.MULTILINE)},
            BASE,
            [],
            id="twice-but-for-counters",
        ),
    ],
)
def test_what_is_not_checked_is_said(dumps: dict[str, str], objects: Sequence[Object], said: Sequence[str]) -> None:
    report = SmallNode(BASE).report(objects=objects, dumps=dumps)
    notes = [one.message for one in report.findings if one.code == "RA004"]
    assert serious(report) == []
    assert len(notes) >= len(said)
    for part in said:
        assert any(part in note for note in notes), notes
    if not said:
        assert notes == []


def test_objects_that_are_much_younger_than_the_dump() -> None:
    """RA006 is information: the header's time has no zone."""
    report = SmallNode(BASE).report(objects=dated(BASE, DATED))
    assert fault(report, "RA006").severity is Severity.INFO
    assert serious(report) == []
    assert not any(one.code == "RA006" for one in SmallNode(BASE).report(objects=dated(BASE, "2026-11-23T12:00:00Z")).findings)


@pytest.mark.parametrize("kubelet", [False, True], ids=["kube-proxy-twice", "kubelets-leftovers"])
def test_rules_in_both_backends(kubelet: bool) -> None:
    """RA502, where both hold chains of kube-proxy or kubelet."""
    nft = SmallNode(BASE).text()
    legacy = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-MARK-DROP - [0:0]\nCOMMIT\n"
    legacy = f"{LEGACY}{legacy}" if kubelet else SmallNode([*BASE, *PORT]).text().replace(" (nf_tables)", "")
    report = SmallNode(BASE).report(dumps={"nft.txt": nft, "legacy.txt": legacy})
    assert {code for code, _ in serious(report)} == {"RA502"}
    assert {location.file for location in fault(report, "RA502").locations} == {"nft.txt", "legacy.txt"}


def test_another_backend_without_kube_proxy_is_no_fault() -> None:
    legacy = f"{LEGACY}*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\nCOMMIT\n"
    for dumps in ({"a": SmallNode(BASE).text(), "b": legacy}, {"b": legacy, "a": SmallNode(BASE).text()}):
        assert serious(SmallNode(BASE).report(dumps=dumps)) == []


def test_a_kube_proxy_that_stopped() -> None:
    """RA505 leads, and what a missed change explains follows it, with the time of the first change that is not programmed."""
    old = dated([*BASE, *MANY], "2026-11-22T00:00:00Z")
    moved = [
        one
        for number in range(8)
        for one in service(f"many/s{number}", f"10.96.1.{number}", [endpoint(f"10.244.2.{number + 110}")])
    ]
    new = [*dated(BASE, "2026-11-22T00:00:00Z"), *dated(moved, "2026-11-23T04:00:00Z")]
    report = SmallNode(old).report(objects=new)
    leader = report.findings[0]
    assert (leader.code, leader.service) == ("RA505", None)
    assert "since about 2026-11-23T04:00:00Z" in leader.message
    others = [one for one in report.findings if one.code in ("RA106", "RA206")]
    assert {(one.code, one.service) for one in others} == {
        (code, f"many/s{number}") for code in ("RA106", "RA206") for number in range(8)
    }
    assert {one.cause for one in others} == {leader.fingerprint}
    assert serious(SmallNode(old).report()) == []


def test_one_service_behind_is_no_stopped_kube_proxy() -> None:
    report = SmallNode(BASE).report(objects=web([LOCAL, endpoint("10.244.2.6")]))
    assert {code for code, _ in serious(report)} == {"RA106", "RA206"}


def test_slices_that_disagree_with_pods() -> None:
    """RA702 is information in an audit: the objects' own oddities are not the node's faults."""

    def pod(name: str, address: str) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"nodeName": "node-a", "containers": []},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        }

    def named(address: str, name: str) -> Object:
        return {**endpoint(address), "targetRef": {"kind": "Pod", "namespace": "shop", "name": name}}

    objects = web([named("10.244.1.5", "web-1"), named("10.244.1.6", "web-2")], selector={"app": "web"})
    sound = [*objects, pod("web-1", "10.244.1.5"), pod("web-2", "10.244.1.6")]
    moved = [*objects, pod("web-1", "10.244.1.5"), pod("web-2", "10.244.1.7")]
    gone = [*objects, pod("web-1", "10.244.1.5")]
    found = [[one for one in SmallNode(one).report().findings if one.code == "RA702"] for one in (sound, moved, gone)]
    assert [len(one) for one in found] == [0, 1, 1]
    assert all(one.severity is Severity.INFO and one.service == "shop/web" for group in found for one in group)
    assert "10.244.1.7" in found[1][0].message
    assert "does not exist" in found[2][0].message


def test_localhost_without_its_guard() -> None:
    """RA802: kube-proxy turns route_localnet on for node ports on localhost; the guard is not there."""
    node = SmallNode([*BASE, *PORT])
    report = node.report(without("-A KUBE-FIREWALL"))
    assert fault(report, "RA802").severity is Severity.WARNING
    assert not any(one.code == "RA802" for one in node.report().findings)
