"""The fixed chains of IPVS mode: healthy nodes are silent, and each change to a rule shows or decides nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from tests.kubeproxy.test_expect import ALL_KINDS, HERE, NODES, RANGES, service, slice_of
from tests.kubeproxy.test_expect_ipvs import content, expectation_of, expectations, healthy
from tests.kubeproxy.test_expected_sets import held_sets

from ruleaudit.checks.context import FamilyAudit
from ruleaudit.checks.written_ipvs import Conditions, node_refusals, written_chains, written_ipvs
from ruleaudit.cluster import load
from ruleaudit.dataplane.packet import Host
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.dataplane.sets import Sets
from ruleaudit.dataplane.vantage import choose_clients
from ruleaudit.findings import Severity
from ruleaudit.formats.ipset import parse as parse_sets
from ruleaudit.formats.iptables_save import parse
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.signs import IPVS_CHAINS, IPVS_HOOKS, Signs, hook_present, ipvs_release_bounds, read_ipvs_signs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.kubeproxy.test_expect import Object

    from ruleaudit.kubeproxy.expect import Expectation
    from ruleaudit.kubeproxy.settings import Detection

FILES = {4: "iptables-save.txt", 6: "ip6tables-save.txt"}


def audit_of(folder: Path, expectation: Expectation) -> FamilyAudit:
    family = expectation.family
    dump = parse(content(folder / FILES[family]), FILES[family])
    rules = Ruleset(family, dump.tables)
    clients = choose_clients(family, pod_networks=(), node_addresses=(), pod_interface=None, avoid=(), avoid_networks=())
    signs = read_ipvs_signs(rules)
    assert signs.mark is not None
    return FamilyAudit(
        family=family,
        cluster=load([("objects.json", content(folder / "objects.json").encode())]),
        tables=dump.tables,
        rules=rules,
        repaired=rules,
        host=Host(frozenset()),
        signs=signs,
        settings=expectation.settings,
        expectation=expectation,
        clients=clients,
        mark=signs.mark,
        node=expectation.node,
        node_object=None,
        node_port_addresses=(),
        missing_hooks=(),
    )


def empty_sets(folder: Path) -> dict[str, bool]:
    return {name: not entries for name, (_type, entries) in held_sets(content(folder / "ipset.txt")).items()}


def changed(audit: FamilyAudit, lines: list[str]) -> FamilyAudit:
    dump = parse("\n".join(lines) + "\n", FILES[audit.family])
    rules = Ruleset(audit.family, dump.tables)
    return replace(audit, tables=dump.tables, rules=rules, repaired=rules)


def test_healthy_nodes_are_silent(capture_folders: list[Path]) -> None:
    for folder in healthy(capture_folders):
        empty = empty_sets(folder)
        for expectation, _addresses in expectations(folder):
            audit = audit_of(folder, expectation)
            where = (folder.name, audit.family)
            for known in (empty, {}, dict.fromkeys(empty)):
                assert list(written_ipvs(audit, empty=known)) == [], where
            nobody_knows = replace(audit, settings=replace(audit.settings, minor=None, given=frozenset()))
            assert list(written_ipvs(nobody_knows, empty=empty)) == [], where
            detected = replace(expectation, local_detection="unset")
            assert list(written_ipvs(replace(nobody_knows, expectation=detected), empty=empty)) == [], where


def test_signs_of_healthy_nodes(capture_folders: list[Path]) -> None:
    for folder in healthy(capture_folders):
        for expectation, _addresses in expectations(folder):
            audit = audit_of(folder, expectation)
            minor = expectation.release.minor
            bounds = {20: (16, 20), 30: (30, 36), 36: (30, 36)}[minor]
            assert (audit.signs.oldest, audit.signs.newest) == bounds == ipvs_release_bounds(audit.rules)[:2], folder.name
            detection = expectation.local_detection
            assert isinstance(detection, LocalDetection)
            assert audit.signs == Signs(
                True, *bounds, ("-s", detection.value), True, False, 0x4000, None, None, audit.signs.reasons
            )
            for hook in IPVS_HOOKS:
                assert hook_present(audit.rules, hook) is (hook.since <= minor), (folder.name, str(hook))
            assert {
                (table, chain) for table in ("nat", "filter") for chain in audit.rules.chains(table) if chain.startswith("KUBE-")
            } <= IPVS_CHAINS, folder.name


def targets(conditions: Conditions, table: str, chain: str, asked: str = "") -> list[str]:
    """The targets of a chain's rules for which `asked` holds, in order; a rule that is not surely written in parentheses."""
    found = written_chains(conditions).get((table, chain))
    if found is None:
        return ["no chain"]
    return [
        target if rule.always_from <= conditions.oldest and conditions.newest <= rule.always_until else f"({target})"
        for rule in found.rules
        if asked in rule.texts[0]
        for target in [rule.texts[0].partition("-j ")[2].partition(" ")[0]]
    ]


@pytest.mark.parametrize(
    ("oldest", "newest", "table", "chain", "asked", "expected"),
    [
        (25, 25, "nat", "KUBE-SERVICES", "-s 127", []),
        (26, 26, "nat", "KUBE-SERVICES", "-s 127", ["RETURN"]),
        (25, 26, "nat", "KUBE-SERVICES", "-s 127", ["(RETURN)"]),
        (17, 17, "nat", "KUBE-SERVICES", "EXTERNAL-IP-LOCAL", []),
        (18, 18, "nat", "KUBE-SERVICES", "EXTERNAL-IP-LOCAL", ["ACCEPT", "ACCEPT"]),
        (24, 24, "nat", "KUBE-LOAD-BALANCER", "", ["KUBE-FIREWALL", "RETURN", "KUBE-MARK-MASQ"]),
        (25, 25, "nat", "KUBE-LOAD-BALANCER", "", ["RETURN", "KUBE-MARK-MASQ"]),
        (24, 25, "nat", "KUBE-LOAD-BALANCER", "", ["(KUBE-FIREWALL)", "RETURN", "KUBE-MARK-MASQ"]),
        (24, 24, "nat", "KUBE-FIREWALL", "", ["RETURN", "RETURN", "KUBE-MARK-DROP"]),
        (25, 36, "nat", "KUBE-FIREWALL", "", ["no chain"]),
        (22, 22, "nat", "KUBE-NODE-PORT", "-p sctp", ["KUBE-MARK-MASQ", "RETURN"]),
        (23, 23, "nat", "KUBE-NODE-PORT", "-p sctp", ["RETURN", "KUBE-MARK-MASQ"]),
        (19, 19, "nat", "KUBE-POSTROUTING", "", ["MASQUERADE", "(RETURN)", "(MARK)", "MASQUERADE"]),
        (20, 20, "nat", "KUBE-POSTROUTING", "", ["MASQUERADE", "RETURN", "MARK", "MASQUERADE", "(MASQUERADE)"]),
        (17, 17, "filter", "KUBE-FORWARD", "--ctstate", ["(ACCEPT)", "(ACCEPT)"]),
        (18, 18, "filter", "KUBE-FORWARD", "", ["ACCEPT", "ACCEPT"]),
        (20, 20, "filter", "KUBE-NODE-PORT", "", ["no chain"]),
        (21, 21, "filter", "KUBE-NODE-PORT", "", ["ACCEPT"]),
        (24, 24, "filter", "KUBE-PROXY-FIREWALL", "", ["no chain"]),
        (25, 25, "filter", "KUBE-PROXY-FIREWALL", "", ["KUBE-SOURCE-RANGES-FIREWALL"]),
        (25, 25, "filter", "KUBE-SOURCE-RANGES-FIREWALL", "", ["RETURN", "RETURN", "DROP"]),
        (25, 25, "filter", "KUBE-IPVS-FILTER", "", ["no chain"]),
        (26, 26, "filter", "KUBE-IPVS-FILTER", "", ["RETURN", "RETURN", "RETURN", "(RETURN)", "(RETURN)", "REJECT"]),
        (28, 28, "filter", "KUBE-IPVS-FILTER", "HEALTH", ["RETURN"]),
        (30, 30, "filter", "KUBE-IPVS-FILTER", "EXTERNAL-IP-LOCAL", ["RETURN"]),
        (25, 25, "filter", "KUBE-IPVS-OUT-FILTER", "", ["no chain"]),
        (29, 29, "filter", "KUBE-IPVS-OUT-FILTER", "", ["(DROP)"]),
    ],
)
def test_what_each_release_writes(oldest: int, newest: int, table: str, chain: str, asked: str, expected: list[str]) -> None:
    assert targets(Conditions(4, oldest, newest, 0x4000), table, chain, asked) == expected


PODS = LocalDetection("ClusterCIDR", "10.244.0.0/16")


@pytest.mark.parametrize(
    ("masquerade_all", "detection", "expected"),
    [
        (True, PODS, ["dst,dst"]),
        (False, PODS, ["! -s 10.244.0.0/16 dst,dst"]),
        (False, LocalDetection("BridgeInterface", "cni0"), ["! -i cni0 dst,dst"]),
        (False, LocalDetection("InterfaceNamePrefix", "veth"), ["! -i veth+ dst,dst"]),
        (False, None, ["src,dst"]),
        (None, None, ["src,dst", "dst,dst"]),
        (False, "unset", ["! -s * dst,dst", "! -i * dst,dst", "src,dst"]),
        (None, PODS, ["! -s 10.244.0.0/16 dst,dst", "dst,dst"]),
    ],
)
def test_forms_of_the_masquerade_of_cluster_ips(masquerade_all: bool | None, detection: Detection, expected: list[str]) -> None:
    conditions = Conditions(4, 36, 36, 0x4000, masquerade_all, detection)
    rule = written_chains(conditions)["nat", "KUBE-SERVICES"].rules[2]
    cut = [text.replace("--match-set KUBE-CLUSTER-IP ", "").removesuffix(" -j KUBE-MARK-MASQ") for text in rule.texts]
    assert cut == expected


def test_rules_against_the_node_are_those_of_load_balancers_whose_ranges_leave_it_out() -> None:
    def owners(spec: Mapping[str, object], nodes: Sequence[Object] = NODES) -> dict[str, bool]:
        expectation = expectation_of(service(**spec), slice_of(HERE), nodes=nodes)
        return {address: sure for (address, _port, _protocol), (_owner, sure) in node_refusals(expectation).items()}

    assert owners(RANGES) == {"203.0.113.1": True}
    assert owners(RANGES, nodes=[]) == {"203.0.113.1": False}
    assert owners(RANGES | {"loadBalancerSourceRanges": ["192.168.0.0/24"]}) == {}
    assert owners(ALL_KINDS) == {}
    refused = node_refusals(expectation_of(service(**RANGES)))
    (rule,) = written_chains(Conditions(4, 36, 36, 0x4000, refused=refused))["filter", "KUBE-IPVS-OUT-FILTER"].rules
    assert rule.texts == ("-s 203.0.113.1/32 --vproto 6 --vaddr 203.0.113.1 --vport 80 -j DROP",)
    assert rule.of is not None
    assert str(rule.of.name) == "d/web:http"


NAT = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-LOAD-BALANCER - [0:0]\n{}\nCOMMIT\n"
FILTER = "*filter\n:KUBE-FORWARD - [0:0]\n{}\nCOMMIT\n"
LOOPBACK = "-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN"
SERVES = "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"
ONE = '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'
TWO = ONE.replace("conntrack rule", "conntrack pod source rule")
PASSES = "-A KUBE-IPVS-FILTER -m set --match-set KUBE-{} dst,dst -j RETURN"


def chains(*names: str) -> str:
    return "\n".join(f":KUBE-{name} - [0:0]" for name in names)


@pytest.mark.parametrize(
    ("nat", "filters", "expected"),
    [
        pytest.param([SERVES], None, (16, 36), id="nat alone"),
        pytest.param([LOOPBACK], None, (26, 36), id="passes over the loopback network"),
        pytest.param(["-A KUBE-LOAD-BALANCER -j KUBE-FIREWALL"], None, (16, 24), id="restricts in nat"),
        pytest.param([SERVES], [TWO], (16, 20), id="two conntrack rules, no chains"),
        pytest.param([SERVES], [chains("NODE-PORT"), TWO], (21, 22), id="health checks"),
        pytest.param([SERVES], [chains("NODE-PORT"), ONE], (23, 24), id="one conntrack rule"),
        pytest.param([SERVES], [chains("NODE-PORT", "PROXY-FIREWALL"), ONE], (25, 25), id="proxy firewall"),
        pytest.param([LOOPBACK], [chains("NODE-PORT", "PROXY-FIREWALL", "IPVS-FILTER"), ONE], (26, 28), id="filter"),
        pytest.param(
            [LOOPBACK],
            [chains("NODE-PORT", "PROXY-FIREWALL", "IPVS-FILTER"), PASSES.format("CLUSTER-IP")],
            (26, 27),
            id="filter without health checks",
        ),
        pytest.param(
            [LOOPBACK],
            [chains("NODE-PORT", "PROXY-FIREWALL", "IPVS-FILTER", "IPVS-OUT-FILTER"), PASSES.format("CLUSTER-IP")],
            (29, 29),
            id="a filter for the node, external IPs of policy Local not passed over",
        ),
        pytest.param(
            [LOOPBACK],
            [chains("NODE-PORT", "PROXY-FIREWALL", "IPVS-FILTER", "IPVS-OUT-FILTER"), PASSES.format("EXTERNAL-IP-LOCAL")],
            (30, 36),
            id="external IPs of policy Local passed over",
        ),
        pytest.param(
            [SERVES],
            [chains("NODE-PORT", "PROXY-FIREWALL", "IPVS-FILTER", "IPVS-OUT-FILTER"), TWO],
            (16, 22),
            id="chains of a newer release are left",
        ),
    ],
)
def test_bounds_of_the_release(nat: list[str], filters: list[str] | None, expected: tuple[int, int]) -> None:
    text = NAT.format("\n".join(nat)) + ("" if filters is None else FILTER.format("\n".join(filters)))
    rules = Ruleset(4, parse(text, "iptables-save.txt").tables)
    assert ipvs_release_bounds(rules)[:2] == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("! -s 10.244.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst", (("-s", "10.244.0.0/16"), True, False)),
        ("! -i cni0 -m set --match-set KUBE-6-CLUSTER-IP dst,dst", (("-i", "cni0"), True, False)),
        ("-m set --match-set KUBE-CLUSTER-IP src,dst", (None, False, False)),
        ("-m set --match-set KUBE-CLUSTER-IP dst,dst", (None, None, True)),
        ("-m set --match-set KUBE-EXTERNAL-IP dst,dst", (None, None, False)),
    ],
)
def test_signs_of_local_detection(rule: str, expected: tuple[tuple[str, str] | None, bool | None, bool]) -> None:
    text = NAT.format(f"-A KUBE-SERVICES {rule} -j KUBE-MARK-MASQ")
    signs = read_ipvs_signs(Ruleset(4, parse(text, "iptables-save.txt").tables))
    assert signs.served
    assert (signs.local_match, signs.detects, signs.masquerade_all) == expected


def test_iptables_mode_is_not_ipvs_mode() -> None:
    text = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\nCOMMIT\n"
    assert not read_ipvs_signs(Ruleset(4, parse(text, "iptables-save.txt").tables)).served


def node_of(captures: list[Path], name: str, family: int) -> tuple[FamilyAudit, list[str], dict[str, bool]]:
    """One family of a captured node: its audit, its rules, which of its sets are empty."""
    folder = next(one for one in captures if one.name == name)
    (expectation,) = [one for one, _addresses in expectations(folder) if one.family == family]
    return audit_of(folder, expectation), content(folder / FILES[family]).splitlines(), empty_sets(folder)


def test_a_part_of_a_table_lacks_nothing(capture_folders: list[Path]) -> None:
    audit, lines, empty = node_of(capture_folders, "features-1.36-ipvs", 4)
    part = changed(audit, [line for line in lines if "CLUSTER-IP" not in line])
    assert [one.code for one in written_ipvs(part, empty=empty)] == ["RA310", "RA310"]
    for table in part.tables:
        table.partial = True
    assert list(written_ipvs(part, empty=empty)) == []


def test_what_another_finding_shows_is_not_said_again(capture_folders: list[Path]) -> None:
    audit, lines, empty = node_of(capture_folders, "features-1.36-ipvs", 4)
    at = next(number for number, line in enumerate(lines) if line.startswith("-A KUBE-SERVICES"))
    strange = changed(audit, [*lines[:at], "-A KUBE-SERVICES -j ACCEPT", *lines[at:]])
    (found,) = written_ipvs(strange, empty=empty)
    assert found.observed == "-A KUBE-SERVICES -j ACCEPT"
    assert [(where.line, where.text) for where in found.locations] == [(at + 1, "-A KUBE-SERVICES -j ACCEPT")]
    assert list(written_ipvs(strange, [found], empty=empty)) == []
    assert list(written_ipvs(strange, [replace(found, severity=Severity.INFO)], empty=empty)) == [found]


def test_an_altered_rule_is_one_finding_that_says_what_it_was(capture_folders: list[Path]) -> None:
    audit, lines, empty = node_of(capture_folders, "features-1.36-ipvs", 4)
    altered = changed(
        audit, [line.replace("--vport 80 -j DROP", "--vport 81 -j DROP") if "113.11/32" in line else line for line in lines]
    )
    (found,) = written_ipvs(altered, empty=empty)
    assert (
        found.expected == "-A KUBE-IPVS-OUT-FILTER -s 203.0.113.11/32 -m ipvs --vproto 6 --vaddr 203.0.113.11 --vport 80 -j DROP"
    )
    assert found.service == "demo/lb-src"
    emptied = changed(audit, [line for line in lines if not line.startswith("-A KUBE-POSTROUTING")])
    (found,) = written_ipvs(emptied, empty=empty)
    assert found.expected.splitlines() == [
        "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ]
    assert list(written_ipvs(emptied, [found], empty=empty)) == []
    many = changed(
        audit, [*lines[:-2], *(f"-A KUBE-NODE-PORT -s 192.0.2.{number}/32 -j DROP" for number in range(30)), *lines[-2:]]
    )
    (found,) = written_ipvs(many, empty=empty)
    assert found.message.startswith("30 rules of nat KUBE-NODE-PORT are not as kube-proxy writes them")


def test_protocols_are_read_as_names_and_as_numbers(capture_folders: list[Path]) -> None:
    audit, lines, empty = node_of(capture_folders, "features-1.36-ipvs", 4)
    numbers = {"-p tcp": "-p 6", "-p udp": "-p 17", "-p sctp": "-p 132", "--vproto 6": "--vproto tcp"}
    for name, number in numbers.items():
        lines = [line.replace(name, number) for line in lines]
    assert list(written_ipvs(changed(audit, lines), empty=empty)) == []


def test_sets_of_the_node_tell_which_rules_are_left_out(capture_folders: list[Path]) -> None:
    audit, lines, empty = node_of(capture_folders, "features-1.36-ipvs", 4)
    without = changed(audit, [line for line in lines if "CLUSTER-IP dst,dst -j ACCEPT" not in line])
    folder = next(one for one in capture_folders if one.name == "features-1.36-ipvs")
    sets = Sets(parse_sets(content(folder / "ipset.txt"), "ipset.txt").sets)
    without.rules.sets = sets
    assert len(list(written_ipvs(without))) == 1
    without.rules.sets = None
    assert list(written_ipvs(without)) == []
    assert list(written_ipvs(without, empty={**empty, "KUBE-CLUSTER-IP": True})) == []


# --- every change shows ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One change to one rule: `kind`, the rule as it was, what it became or was moved over, the lines of the dump after it."""

    kind: str
    rule: str
    now: list[str]
    lines: list[str]


_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_OTHER_VALUES = {
    "dst,dst": "src,dst", "dst": "src", "dst,dst,src": "dst,dst,dst", "LOCAL": "UNICAST", "NEW": "INVALID", "tcp": "udp", "udp": "tcp",
    "sctp": "tcp", "RELATED,ESTABLISHED": "ESTABLISHED", "icmp-port-unreachable": "icmp-host-unreachable", "6": "17", "80": "81",
    "icmp6-port-unreachable": "icmp6-addr-unreachable",
}  # fmt: skip


def changes(lines: list[str]) -> Iterator[Change]:
    for at, line in enumerate(lines):
        if not line.startswith("-A KUBE-"):
            continue
        chain = line.split(" ", 2)[1]
        rest = lines[:at] + lines[at + 1 :]
        yield Change("removed", line, [""], rest)
        for other in range(len(lines)):
            if other != at and lines[other].startswith(f"-A {chain} "):
                over = lines[other:at] if other < at else lines[at + 1 : other + 1]
                if all(text.startswith(f"-A {chain} ") for text in over):
                    yield Change("moved", line, over, [*rest[:other], line, *rest[other:]])
        yield Change("repeated", line, [line], [*lines[: at + 1], line, *lines[at + 1 :]])
        for text in alterations(line, chain):
            yield Change("altered", line, [text], [*lines[:at], text, *lines[at + 1 :]])
        for text in (f"-A {chain} -j ACCEPT", f"-A {chain} -s 192.0.2.1/32 -j DROP"):
            yield Change("preceded", line, [text], [*lines[:at], text, *lines[at:]])


def alterations(line: str, chain: str) -> Iterator[str]:
    words = _TOKEN.findall(line)
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        others: list[str] = []
        if before == "-j":
            others = [one for one in ("ACCEPT", "DROP", "RETURN", "KUBE-MARK-MASQ") if one != word]
        elif before == "--match-set":
            others = [word + "X", "KUBE-IPVS-IPS" if word != "KUBE-IPVS-IPS" else "KUBE-CLUSTER-IP"]
        elif word in _OTHER_VALUES:
            others = [_OTHER_VALUES[word]]
        elif before in ("-s", "--vaddr"):
            others = ["10.0.0.0/8" if before == "-s" else "192.0.2.1"]
        elif before in ("--mark", "--set-xmark"):
            others = ["0x1/0x1", word.split("/")[0] + "/0xffffffff"]
        for other in others:
            yield " ".join([*words[:at], other, *words[at + 1 :]])
    for flag in ("-s", "--match-set", "--mark", "--ctstate", "--dst-type", "--src-type"):
        if flag in words:
            at = words.index(flag)
            negated = words[at - 1] == "!"
            yield " ".join([*words[: at - 1], *words[at:]] if negated else [*words[:at], "!", *words[at:]])
    for narrower in ("-i eth9", "-m socket", "-m mark --mark 0x9/0x9"):
        yield line.replace(f"-A {chain} ", f"-A {chain} {narrower} ", 1)


# What decides nothing, with the reason: the kind of change, and "RULE => what it became", or each rule that it was moved over.
HARMLESS: Mapping[str, tuple[str, str]] = {
    "doing twice what is idempotent (RA307 tells of it)": ("repeated", r"(?!.*--set-xmark 0x4000/0x0)"),
    "rules that all accept may stand in any order": ("moved", r"-A KUBE-FORWARD .*-j ACCEPT => .*-j ACCEPT$"),
    "each load-balancer IP has its own rule": ("moved", r"-A KUBE-IPVS-OUT-FILTER .*-j DROP => .*-j DROP$"),
    "rules that all pass over packets may stand in any order": (
        "moved",
        r"-A (KUBE-IPVS-FILTER|KUBE-SOURCE-RANGES-FIREWALL|KUBE-FIREWALL) .*-j RETURN => .*-j RETURN$",
    ),
    "rules that only mark may stand in any order": (
        "moved",
        r"-A KUBE-SERVICES .*-j (KUBE-LOAD-BALANCER|KUBE-MARK-MASQ) => .*-j (KUBE-LOAD-BALANCER|KUBE-MARK-MASQ)$",
    ),
    "rules that all accept what else would be marked may stand in any order": (
        "moved",
        r"-A KUBE-SERVICES .*EXTERNAL-IP.* -j ACCEPT => .*EXTERNAL-IP.* -j ACCEPT$",
    ),
    "rules that all accept at the end may stand in any order": (
        "moved",
        r"-A KUBE-SERVICES -m set \S+ \S+ dst,dst -j ACCEPT => -A KUBE-SERVICES -m set \S+ \S+ dst,dst -j ACCEPT$",
    ),
    "rules for different protocols never meet": ("moved", r"-A KUBE-NODE-PORT -p (\w+) .* => -A KUBE-NODE-PORT -p (?!\1 )"),
    "1.20 writes this rule twice": ("removed", r"-A KUBE-FORWARD .*conntrack pod"),
}


def harmless(change: Change) -> bool:
    return any(
        kind == change.kind and all(re.match(form, f"{change.rule} => {now}") for now in change.now)
        for kind, form in HARMLESS.values()
    )


@pytest.mark.parametrize(("name", "family"), [("features-1.36-ipvs", 4), ("features-1.36-ipvs", 6), ("features-1.20-ipvs", 4)])
def test_every_change_shows(capture_folders: list[Path], name: str, family: int) -> None:
    healthy_audit, lines, empty = node_of(capture_folders, name, family)
    slipped = []
    counted: dict[str, int] = {}
    for change in changes(lines):
        counted[change.kind] = counted.get(change.kind, 0) + 1
        audit = changed(healthy_audit, change.lines)
        found = list(written_ipvs(audit, empty=empty))
        if bool(found) is harmless(change):
            slipped.append(f"{change.kind}: {change.rule} => {change.now}: {[one.message for one in found]}")
        assert {one.code for one in found} <= {"RA308", "RA310"}
        if change.kind in ("removed", "altered", "moved"):
            assert len(found) <= 1, (change.rule, change.now, [one.message for one in found])  # one cause, one finding
    assert slipped == []
    assert min(counted.values()) > 20
