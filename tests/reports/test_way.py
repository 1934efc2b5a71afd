"""The way of a connection: what is drawn, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.reports.samples import MISSING, STALE

from ruleaudit.findings import Finding, Location, Severity
from ruleaudit.forwarding import Frontend, FrontendKind
from ruleaudit.reports.cited import cited, names
from ruleaudit.reports.way import way

NODE_PORT = Frontend(FrontendKind.NODE_PORT, None, 30080, "TCP", 4)
CLUSTER_IP = Frontend(FrontendKind.CLUSTER_IP, "10.96.1.1", 80, "TCP", 4)
ONE, TWO, OTHER = "10.244.1.12:8080", "10.244.2.12:8080", "10.9.9.9:80"


def found(
    code: str, expected: str, observed: str, *lines: str, endpoint: str | None = None, frontend: Frontend | None = None
) -> Finding:
    """A finding of demo/web:http with its evidence, each line as "NUMBER TEXT" of a file of rules, or of ipvsadm where it is none."""
    locations = []
    for line in lines:
        number, _, text = line.partition(" ")
        locations.append(
            Location(
                "rules" if text.startswith((":", "-A KUBE", "-A PRE", "-A OUT", "-A IN", "-A FOR", "-A SITE")) else "ipvs",
                int(number),
                text,
            )
        )
    return Finding(
        code, "test", Severity.ERROR, "test", service="demo/web", port="http", frontend=frontend, endpoint=endpoint,
        expected=expected, observed=observed, locations=tuple(locations),
    )  # fmt: skip


def told(finding: Finding) -> tuple[list[str], list[str]]:
    """Stations (without the client) and ends as "title" or "title!mark"; a station that nothing is seen to lead to as "?title"."""
    shown = way(finding)
    if shown is None:
        return [], []
    stations, ends = (
        [f"{'' if box.reached else '?'}{box.title}{box.mark and f'!{box.mark}'}" for box in each]
        for each in (shown.stations, shown.ends)
    )
    assert stations[0] in ("client", finding.endpoint)
    return stations[1:], ends


HOOK = '354 -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
OUTPUT = '355 -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
FILTER = '33 -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
FORWARD = '29 -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
DISPATCH = "887 -A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-W"
MASQ = "1132 -A KUBE-SVC-W ! -s 10.244.0.0/16 -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ"
MARK = "458 -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"
SPREAD_ONE = (
    f'1133 -A KUBE-SVC-W -m comment --comment "demo/web:http -> {ONE}" -m statistic --mode random --probability 0.5 -j KUBE-SEP-1'
)
LEAF_ONE = f"765 -A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination {ONE}"
SPREAD_TWO = f'1134 -A KUBE-SVC-W -m comment --comment "demo/web:http -> {TWO}" -j KUBE-SEP-2'
LEAF_TWO = f"795 -A KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination {TWO}"
WHOLE = (HOOK, DISPATCH, SPREAD_ONE, LEAF_ONE, SPREAD_TWO, LEAF_TWO)
BOTH = f"to {ONE}, {TWO}"
NODE_PORT_WAY = (
    OUTPUT,
    "922 -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
    "498 -A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-W",
    "361 -A KUBE-EXT-W -j KUBE-MARK-MASQ",
    MARK,
    "362 -A KUBE-EXT-W -j KUBE-SVC-W",
)


@pytest.mark.parametrize(
    ("finding", "stations", "ends"),
    [
        pytest.param(
            STALE, ["demo/np:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-4IIC"],
            ["10.244.99.99:8080!✕ not expected", "10.244.1.23:8080!✕ gets nothing", "10.244.2.25:8080!as expected"],
            id="an endpoint that is not expected",
        ),
        pytest.param(
            MISSING, ["[fd00:10:96::5]:80/TCP"], ["untranslated!✕", "[fd00:10:244:1::38]:8080!✕ gets nothing"], id="no rule at all"
        ),
        pytest.param(
            found("RA101", BOTH, "no rule of KUBE-SERVICES or KUBE-NODEPORTS names its frontends", "225 :KUBE-SERVICES - [0:0]"),
            ["demo/web:http", "KUBE-SERVICES!✕ here"], [f"{ONE}!✕ gets nothing", f"{TWO}!✕ gets nothing"],
            id="a Service without rules: the chain that lacks them",
        ),
        pytest.param(
            found("RA102", f"to {ONE}", "untranslated", HOOK, FORWARD, OUTPUT, FILTER, "281 :KUBE-SERVICES - [0:0]", frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "PREROUTING", "KUBE-SERVICES!✕ here"], ["untranslated!✕", f"{ONE}!✕ gets nothing"],
            id="nothing leads on from the chain that a rule leads to",
        ),
        pytest.param(
            found("RA106", BOTH, f"to {ONE}", *WHOLE[:4], endpoint=TWO),
            ["demo/web:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W"], [f"{TWO}!✕ gets nothing", f"{ONE}!as expected"],
            id="an endpoint that is left out",
        ),
        pytest.param(
            found("RA208", BOTH, "refused", *NODE_PORT_WAY, "31 -A OUTPUT -j KUBE-FIREWALL", FILTER, frontend=NODE_PORT),
            ["node port 30080/TCP", "OUTPUT", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXT-W", "KUBE-SVC-W!✕ here"],
            ["refused!✕", f"{ONE}!✕ gets nothing", f"{TWO}!✕ gets nothing"],
            id="an empty chain of the Service behind a chain that also marks",
        ),
        pytest.param(
            found("RA208", BOTH, "refused", *NODE_PORT_WAY, frontend=NODE_PORT),
            ["node port 30080/TCP", "OUTPUT", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXT-W", "KUBE-SVC-W"],
            ["refused!✕", f"{ONE}!✕ gets nothing", f"{TWO}!✕ gets nothing"],
            id="the evidence ends where the chain begins: whether it leads on is not known",
        ),
        pytest.param(
            found("RA309", BOTH, "KUBE-SVC-W is empty", HOOK, DISPATCH, FORWARD, OUTPUT, MARK),
            ["demo/web:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W!✕ here"], [f"{ONE}!✕ gets nothing", f"{TWO}!✕ gets nothing"],
            id="a chain that is said to be empty",
        ),
        pytest.param(
            found("RA107", "rejected", BOTH, *WHOLE, frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W"],
            ["rejected!✕ expected", f"{ONE}!✕ not expected", f"{TWO}!✕ not expected"],
            id="forwarded instead of refused",
        ),
        pytest.param(
            found("RA202", "its frontends: 10.96.3.9:80/TCP", "10.96.1.1:80/TCP", DISPATCH, frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "KUBE-SERVICES!✕ here", "KUBE-SVC-W"], [], id="a rule that should not be there",
        ),
        pytest.param(
            found("RA208", "no refusing rule", "REJECT in filter KUBE-SERVICES",
                  "38 -A KUBE-SERVICES -d 10.96.1.1/32 -j REJECT", frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "KUBE-SERVICES!✕ here"], [], id="a rule that refuses and should not",
        ),
        pytest.param(
            found("RA304", "ClientIP affinity for 60 s", "none", *WHOLE),
            ["demo/web:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W!✕ affinity: none"], [ONE, TWO],
            id="affinity is the affair of the Service's chain",
        ),
        pytest.param(
            found("RA305", f"externalTrafficPolicy: Local; {BOTH}",
                  f"as for externalTrafficPolicy: Cluster; {BOTH}", *NODE_PORT_WAY, SPREAD_ONE, LEAF_ONE),
            ["demo/web:http", "OUTPUT", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXT-W!✕ here", "KUBE-SVC-W"],
            [f"{ONE}!as expected", f"{TWO}!as expected"], id="the chain that chooses the Service's chain has the policy",
        ),
        pytest.param(
            found("RA306", "only 192.0.2.0/24", "rules name no range", *WHOLE[:4], frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP!✕ rules name no range", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W"], [ONE], id="let in against the ranges",
        ),
        pytest.param(
            found("RA401", "masqueraded from outside clients", "the source address is kept", *WHOLE[:4]),
            ["demo/web:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W", "KUBE-SEP-1"], ["the source address is kept!✕"],
            id="no masquerade: none of the chains on the way is at fault",
        ),
        pytest.param(
            found("RA405", "the source address is kept", "masqueraded", HOOK, DISPATCH, MASQ, MARK, SPREAD_ONE, LEAF_ONE),
            ["demo/web:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W", "KUBE-SEP-1"], ["masqueraded!✕"],
            id="a mark is a side step",
        ),
        pytest.param(
            found("RA403", "a rule of KUBE-SEP-1 that marks packets from 10.244.1.12", "no such rule", LEAF_ONE, endpoint=ONE),
            ["demo/web:http", "?KUBE-SEP-1!✕ here"], [], id="an endpoint that reaches itself",
        ),
        pytest.param(
            found("RA601", BOTH, "untranslated", "301 -A PREROUTING -d 10.96.1.1/32 -j ACCEPT", FORWARD, frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "PREROUTING!✕ here"], ["untranslated!✕", f"{ONE}!✕ gets nothing", f"{TWO}!✕ gets nothing"],
            id="a foreign rule lets the traffic pass by",
        ),
        pytest.param(
            found("RA603", f"to {ONE}", f"to {OTHER}", f"9 -A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination {OTHER}", FORWARD,
                  endpoint=OTHER, frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "PREROUTING!✕ here"], [f"{OTHER}!✕ not expected", f"{ONE}!✕ gets nothing"], id="a foreign rule takes the traffic",
        ),
        pytest.param(
            found("RA602", f"to {ONE}", "refused after translation", "28 -A SITE -d 10.0.0.0/8 -j DROP",
                  *WHOLE[:4], "27 -A FORWARD -j SITE", endpoint=ONE),
            ["demo/web:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W", "FORWARD", "SITE!✕ here"],
            ["refused after translation!✕", f"{ONE}!✕ gets nothing"], id="refused after translation",
        ),
        pytest.param(
            found("RA601", f"to {ONE}", "refused", "2 -A PREROUTING -p tcp -j DROP", *WHOLE[:4]),
            ["demo/web:http", "PREROUTING!✕ here", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-W"], ["refused!✕", f"{ONE}!✕ gets nothing"],
            id="refused before translation",
        ),
        pytest.param(
            found("RA107", "rejected", "to " + ", ".join(f"10.0.0.{n}:80" for n in range(12))),
            ["demo/web:http"], ["rejected!✕ expected", *(f"10.0.0.{n}:80!✕ not expected" for n in range(7)), "and 5 more endpoints"],
            id="many endpoints",
        ),
    ],
)  # fmt: skip
def test_the_way_through_chains(finding: Finding, stations: list[str], ends: list[str]) -> None:
    assert told(finding) == (stations, ends)


SERVER = "223 TCP  10.96.1.1:80 rr"
REAL_ONE = f"224   -> {ONE}             Masq    1      0          0         "
REAL_TWO = f"226   -> {TWO}             Masq    0      3          0         "
IPVS_RULES = (
    HOOK,
    "69 -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
    "70 -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
)


@pytest.mark.parametrize(
    ("finding", "stations", "ends"),
    [
        pytest.param(
            found("RA106", BOTH, f"to {ONE}", *IPVS_RULES, SERVER, REAL_ONE, endpoint=TWO),
            ["demo/web:http", "10.96.1.1:80 rr"], [f"{TWO}!✕ gets nothing", f"{ONE}!as expected"], id="a real server is missing",
        ),
        pytest.param(
            found("RA206", f"to {ONE}", f"to {ONE}, {OTHER}", "9 -A -t 10.96.1.1:80 -s rr -p 600 -M 255.255.255.255",
                  f"11 -a -t 10.96.1.1:80 -r {OTHER} -m -w 1", endpoint=OTHER),
            ["demo/web:http", "10.96.1.1:80 rr -p 600 -M 255.255.255.255"], [f"{OTHER}!✕ not expected", f"{ONE}!as expected"],
            id="as ipvsadm --save prints it",
        ),
        pytest.param(
            found("RA208", BOTH, "refused", *IPVS_RULES, SERVER, "12 -A INPUT -j KUBE-IPVS-FILTER", OUTPUT, MARK),
            ["demo/web:http", "10.96.1.1:80 rr!✕ here"], ["refused!✕", f"{ONE}!✕ gets nothing", f"{TWO}!✕ gets nothing"],
            id="a virtual server without real servers",
        ),
        pytest.param(
            found("RA208", f"to {ONE}", "refused", *IPVS_RULES[:2], "12 -A INPUT -j KUBE-IPVS-FILTER",
                  "25 -A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT"),
            ["demo/web:http", "INPUT", "KUBE-IPVS-FILTER!✕ here"], ["refused!✕", f"{ONE}!✕ gets nothing"], id="a rule refuses",
        ),
        pytest.param(
            found("RA106", f"to {ONE}", "refused", *IPVS_RULES[:2], endpoint=ONE),
            ["demo/web:http"], ["refused!✕", f"{ONE}!✕ gets nothing"], id="rules of IPVS mode lead nowhere by themselves",
        ),
        pytest.param(
            found("RA101", "a virtual server for 10.96.1.1:80/TCP", "none", "1 IP Virtual Server version 1.2.1 (size=4096)"),
            ["demo/web:http"], ["no virtual server!✕ here"], id="no virtual server",
        ),
        pytest.param(
            found("RA202", "at 10.96.1.1 only port 8088/TCP", f"virtual server TCP 10.96.1.1:80, to {ONE}", SERVER, frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "10.96.1.1:80 rr!✕ not expected"], [ONE], id="a virtual server that should not be there",
        ),
        pytest.param(
            replace(found("RA203", "no such virtual server", f"TCP 10.0.0.1:30080, TCP 10.0.0.2:30080, to {ONE}",
                          "7 TCP  10.0.0.1:30080 rr", "92 TCP  10.0.0.2:30080 rr"), service=None, port=None),
            ["10.0.0.1:30080 rr!✕ not expected"], [ONE], id="of no Service, at several addresses",
        ),
        pytest.param(
            found("RA304", "no session affinity", "ClientIP for 600 s", *IPVS_RULES, f"{SERVER} persistent 600", REAL_ONE),
            ["demo/web:http", "10.96.1.1:80 rr persistent 600!✕ affinity: ClientIP for 600 s"], [ONE], id="affinity",
        ),
        pytest.param(
            found("RA110", "10.96.1.1,tcp:80 in set KUBE-CLUSTER-IP", "no such entry", "1 create KUBE-CLUSTER-IP hash:ip,port"),
            ["demo/web:http", "KUBE-CLUSTER-IP!✕ here"], [], id="an entry of a set",
        ),
        pytest.param(
            found("RA403", "the entry 10.244.1.12,tcp:8080,10.244.1.12 in set KUBE-LOOP-BACK", "no such entry", endpoint=ONE),
            ["demo/web:http", "KUBE-LOOP-BACK!✕ here"], [], id="the set for endpoints that reach themselves",
        ),
        pytest.param(
            found("RA111", "10.96.1.1 on kube-ipvs0", "no such address", frontend=CLUSTER_IP),
            ["10.96.1.1:80/TCP", "kube-ipvs0!✕ here"], [], id="the address of the interface",
        ),
    ],
)  # fmt: skip
def test_the_way_through_virtual_servers(finding: Finding, stations: list[str], ends: list[str]) -> None:
    assert told(finding) == (stations, ends)


@pytest.mark.parametrize(
    "finding",
    [
        pytest.param(Finding("RA505", "stopped", Severity.ERROR, "stopped", expected="changes", observed="28 differences"), id="the node"),
        pytest.param(found("RA701", "a pod with app=web", "no pod has app=web"), id="objects alone"),
        pytest.param(found("RA704", "Service demo/gone", "no such Service"), id="an Ingress"),
        pytest.param(
            Finding("RA209", "orphan", Severity.INFO, "nothing jumps to KUBE-SVC-W", locations=(Location("d", 1132, MASQ.partition(" ")[2]),)),
            id="a chain to which no connection comes",
        ),
        pytest.param(found("RA307", "", "-A KUBE-SERVICES -j KUBE-SVC-W", DISPATCH), id="a rule that stands there twice"),
        pytest.param(found("RA310", "the mark of what is dropped, at the end", "none", "1 :KUBE-FW-W - [0:0]"), id="how a rule is written"),
        pytest.param(found("RA109", "32031 in set KUBE-HEALTH-CHECK-NODE-PORT, which KUBE-NODE-PORT accepts", "none"), id="a health check"),
        pytest.param(found("RA110", "32031 in set KUBE-HEALTH-CHECK-NODE-PORT", "no such entry"), id="the set of health checks"),
    ],
)  # fmt: skip
def test_what_says_nothing_of_a_connection_is_not_drawn(finding: Finding) -> None:
    assert way(finding) is None


def test_rules_that_lead_in_a_circle_end() -> None:
    loop = ("1 -A KUBE-SVC-A -j KUBE-SVC-B", "2 -A KUBE-SVC-B -j KUBE-SVC-A")
    assert told(found("RA106", f"to {ONE}", "untranslated", *loop))[0][:2] == ["demo/web:http", "?KUBE-SVC-B"]


def test_lines_of_another_file_lead_nowhere_here() -> None:
    finding = found("RA106", f"to {ONE}", f"to {ONE}", HOOK, DISPATCH, SPREAD_ONE, LEAF_ONE)
    hook, *rest = finding.locations
    assert told(replace(finding, locations=(replace(hook, file="IPv6"), *rest)))[0] == [
        "demo/web:http",
        "KUBE-SERVICES",
        "KUBE-SVC-W!✕ here",
    ]


def test_the_notes_name_the_lines() -> None:
    shown = way(STALE)
    assert shown is not None
    assert [box.note for box in shown.stations[2:]] == [
        "line 354: -j KUBE-SERVICES",
        "line 894: -d 10.96.1.8/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-4IIC",
        "line 937: -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-J3QW",
    ]
    assert shown.ends[0].note == "line 689: KUBE-SEP-J3QW"


def test_the_notes_of_virtual_servers_name_their_lines_and_weights() -> None:
    shown = way(found("RA303", BOTH, f"to {ONE}", REAL_TWO, *IPVS_RULES, SERVER, REAL_ONE, endpoint=TWO))
    assert shown is not None
    assert shown.stations[-1].note == "line 223: virtual server"
    assert [box.note for box in shown.ends] == ["line 226: real server of weight 0", "line 224: real server of weight 1"]


def test_the_frontends_virtual_server_is_drawn_and_others_are_counted() -> None:
    lines = ("7 TCP  10.0.0.1:30080 rr", f"8   -> {ONE}  Masq 5 0 0", SERVER, REAL_ONE)
    shown = way(found("RA106", BOTH, f"to {ONE}", *lines, endpoint=TWO, frontend=CLUSTER_IP))
    assert shown is not None
    assert (shown.stations[-1].title, shown.stations[-1].note) == (
        "10.96.1.1:80 rr",
        "line 223: virtual server, one of 2 cited",
    )
    assert shown.ends[-1].note == "line 224: real server of weight 1"


def test_a_real_server_belongs_to_the_virtual_server_above_it() -> None:
    lines = (REAL_TWO, SERVER, "7 TCP  10.0.0.1:30080 rr", f"8   -> {ONE}  Masq 5 0 0")
    assert [(one.address, one.of) for one in cited(found("RA106", "", "", *lines)).real] == [
        (TWO, "10.96.1.1:80"),
        (ONE, "10.0.0.1:30080"),
    ]


@pytest.mark.parametrize(
    ("text", "endpoint", "expected"),
    [
        ("-j DNAT --to-destination 10.0.0.1:80", "10.0.0.1:80", True),
        ("-j DNAT --to-destination 10.0.0.1:8080", "10.0.0.1:80", False),
        ("-j DNAT --to-destination 110.0.0.1:80", "10.0.0.1:80", False),
        ("-j DNAT --to-destination [fd00::1]:80", "[fd00::1]:80", True),
        ("-j DNAT", None, False),
    ],
)
def test_a_line_names_an_endpoint(text: str, endpoint: str | None, expected: bool) -> None:
    assert names(text, endpoint) is expected
