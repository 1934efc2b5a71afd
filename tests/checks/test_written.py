"""The forms of kube-proxy's rules (KPR 4 to 6), one by one: which rule belongs where, in which release, with which values.

forms.txt holds them. That a rule that does not belong is told, a chain that lacks one, and one in the wrong place, is below.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
from tests.small_node import (
    BASE,
    KUBERNETES,
    NODES,
    Edit,
    Object,
    SmallNode,
    added,
    both,
    changed,
    endpoint,
    moved,
    serious,
    service,
    twice,
    without,
)

from ruleaudit.checks.written import _FORMS, _Writing
from ruleaudit.findings import Severity
from ruleaudit.formats.iptables_save import parse
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.signs import SERVICE_CHAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _pytest.mark import ParameterSet

    from ruleaudit.checks.context import FamilyAudit


class Line(NamedTuple):
    table: str
    chain: str
    rule: str
    oldest: int
    family: int
    detection: LocalDetection
    written: bool


def lines() -> Iterator[ParameterSet]:
    table = chain = ""
    for number, text in enumerate(Path(__file__).with_name("forms.txt").read_text().splitlines(), 1):
        if text.startswith("== "):
            _, table, chain = text.split()
        elif text and not text.startswith("#"):
            found = re.fullmatch(r"([+-]) (?:\[(\d+|ip6|if)\] )?(.*)", text)
            assert found, text
            sign, condition, rule = found.groups()
            family = 6 if condition == "ip6" else 4
            detection = (
                LocalDetection("InterfaceNamePrefix", "cni")
                if condition == "if"
                else LocalDetection("ClusterCIDR", "10.244.0.0/16" if family == 4 else "fd00:10:244::/56")
            )
            oldest = int(condition) if condition and condition.isdigit() else 36
            yield pytest.param(Line(table, chain, rule, oldest, family, detection, sign == "+"), id=f"{number}:{chain}")


def writing(line: Line) -> _Writing:
    audit = SimpleNamespace(
        settings=SimpleNamespace(minor=None),
        signs=SimpleNamespace(oldest=line.oldest),
        mark=0x4000,
        family=line.family,
        expectation=SimpleNamespace(local_detection=line.detection),
    )
    found = SERVICE_CHAIN.match(line.chain) if line.table == "nat" else None
    return _Writing(cast("FamilyAudit", audit), _FORMS[line.table, found.group(0) if found else line.chain])


@pytest.mark.parametrize("line", list(lines()))
def test_forms(line: Line) -> None:
    dump = parse(f"*{line.table}\n:{line.chain} - [0:0]\n-A {line.chain} {line.rule}\nCOMMIT\n", "rules")
    assert not dump.problems
    form = writing(line).form(line.chain, dump.shapes[3], dump.values[3])
    assert (form is not None) is line.written


def test_every_chain_of_kube_proxy_has_lines() -> None:
    told = {(one.values[0].table, one.values[0].chain) for one in lines()}  # type: ignore[union-attr]  # Line
    assert {(table, re.sub("A{16}$", "", chain)) for table, chain in told} == set(_FORMS)


RANKED = [
    ("nat", "KUBE-SVC-AAAAAAAAAAAAAAAA", 22, [
        "-d 10.96.0.9/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ|! -s 10.244.0.0/16 -d 10.96.0.9/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ"
        "|-p tcp -m tcp --dport 30080 -j KUBE-MARK-MASQ",
        "-m recent --rcheck --seconds 6 --reap --name KUBE-SEP-B --mask 255.255.255.255 --rsource -j KUBE-SEP-B",
        "-m statistic --mode random --probability 0.5 -j KUBE-SEP-B",
        "-j KUBE-SEP-B|-j KUBE-MARK-DROP",
    ]),
    ("nat", "KUBE-XLB-AAAAAAAAAAAAAAAA", 22, [
        "-s 10.244.0.0/16 -j KUBE-SVC-AAAAAAAAAAAAAAAA",
        "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        "-m addrtype --src-type LOCAL -j KUBE-SVC-AAAAAAAAAAAAAAAA",
        "-m recent --rcheck --seconds 6 --reap --name KUBE-SEP-B --mask 255.255.255.255 --rsource -j KUBE-SEP-B",
    ]),
    ("nat", "KUBE-EXT-AAAAAAAAAAAAAAAA", 36, [
        "-s 10.244.0.0/16 -j KUBE-SVC-AAAAAAAAAAAAAAAA",
        "-j KUBE-MARK-MASQ|-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        "-m addrtype --src-type LOCAL -j KUBE-SVC-AAAAAAAAAAAAAAAA",
        "-j KUBE-SVC-AAAAAAAAAAAAAAAA|-j KUBE-SVL-AAAAAAAAAAAAAAAA",
    ]),
    ("nat", "KUBE-SEP-AAAAAAAAAAAAAAAA", 22, [
        "-s 10.244.1.5/32 -j KUBE-MARK-MASQ|-s 10.244.1.5/32 -j MARK --set-xmark 0x4000/0x4000",
        "-p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080"
        "|-p tcp -m recent --set --name S --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.1.5:8080",
    ]),
    ("nat", "KUBE-POSTROUTING", 36, [
        "-m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-j MARK --set-xmark 0x4000/0x0",
        "-j MASQUERADE|-m mark --mark 0x4000/0x4000 -j MASQUERADE",
    ]),
    ("filter", "KUBE-FORWARD", 17, [
        "-m conntrack --ctstate INVALID -j DROP",
        "-m mark --mark 0x4000/0x4000 -j ACCEPT|-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        "|-s 10.244.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        "|-d 10.244.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]),
    *(("filter", name, 36, [rule]) for name, rule in (
        ("KUBE-SERVICES", "-d 10.96.0.9/32 -p tcp -m tcp --dport 80 -j DROP"),
        ("KUBE-FIREWALL", "-m mark --mark 0x8000/0x8000 -j DROP"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("table", "chain", "oldest", "steps"), RANKED, ids=[one[1] for one in RANKED])
def test_the_order_of_rules(table: str, chain: str, oldest: int, steps: list[str]) -> None:
    """Rules of one step have one rank, or none where a chain has no order; each step has a higher one than the step before."""
    ranks: list[int | None] = []
    made = writing(Line(table, chain, "", oldest, 4, LocalDetection("ClusterCIDR", "10.244.0.0/16"), True))
    for step in steps:
        found = set()
        for rule in step.split("|"):
            dump = parse(f"*{table}\n:{chain} - [0:0]\n-A {chain} {rule}\nCOMMIT\n", "rules")
            form = made.form(chain, dump.shapes[3], dump.values[3])
            assert form is not None, rule
            found.add(form.rank)
        assert len(found) == 1, step
        ranks.append(found.pop())
    if len(steps) > 1:
        known = [rank for rank in ranks if rank is not None]
        assert known == sorted(set(known))
        assert len(known) == len(steps)
    else:
        assert ranks == [None]


# --- whole nodes -------------------------------------------------------------------------------------------------------------------------


def port(number: int) -> list[Object]:
    return [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": number}]


HERE = endpoint("10.244.1.5")
ALONE_HERE = service("shop/local", "10.96.0.22", [HERE], type="NodePort", externalTrafficPolicy="Local", ports=port(30081))
NOWHERE = service(
    "shop/local", "10.96.0.22", [endpoint("10.244.2.5")], type="NodePort", externalTrafficPolicy="Local", ports=port(30081)
)
BALANCED = service(
    "shop/balanced",
    "10.96.0.23",
    type="LoadBalancer",
    ingress=["203.0.113.5"],
    loadBalancerSourceRanges=["198.51.100.0/24"],
    ports=port(30082),
)
HEALTH = service(
    "shop/checked", "10.96.0.24", type="LoadBalancer", ingress=["203.0.113.6"], externalTrafficPolicy="Local", healthCheckNodePort=32000,
    ports=[*port(30083), {"name": "https", "port": 443, "targetPort": 8443, "nodePort": 30084}],
)  # fmt: skip
EXTERNAL = service("shop/external", "10.96.0.26", externalIPs=["203.0.113.6"])
PLAIN = service("shop/port", "10.96.0.21", type="NodePort", ports=port(30080))
SIX = [
    *NODES,
    *KUBERNETES,
    *service("shop/six", "fd00:10:96::6", [endpoint("fd00:10:244:1::5", "node-a")], family=6, type="NodePort", ports=port(30086)),
]
WEB = "shop/web"


def several(count: int) -> list[Object]:
    """Services of traffic policy Local with one endpoint, here."""
    return [
        one
        for number in range(count)
        for one in service(
            f"many/s{number:02}",
            f"10.96.2.{number}",
            [HERE],
            type="NodePort",
            externalTrafficPolicy="Local",
            ports=port(31000 + number),
        )
    ]


class Damage(NamedTuple):
    """What is done to a node, and the errors and warnings that this gives, each with a part of its message."""

    minor: int
    objects: Sequence[Object]
    edit: Edit
    told: Sequence[tuple[str, str | None, str]]
    families: tuple[int, ...] = (4,)
    given: bool = True


def damage(
    name: str, minor: int, objects: Sequence[Object], edit: Edit, *told: tuple[str, str | None, str], **more: object
) -> ParameterSet:
    return pytest.param(Damage(minor, objects, edit, told, **more), id=name)  # type: ignore[arg-type]  # by name


PAIR = "a rule of nat KUBE-SERVICES"
_GUARD = "-A KUBE-FIREWALL ! -s 127"
DAMAGES = [
    # the order of a chain's rules
    damage(
        "invalid-behind-accept",
        36,
        BASE,
        moved("-A KUBE-FORWARD .*INVALID", "-A KUBE-FORWARD"),
        (
            "RA308",
            None,
            "a rule of filter KUBE-FORWARD stands behind one that kube-proxy writes after it: -A KUBE-FORWARD -m conntrack --ctstate INVALID",
        ),
    ),
    damage(
        "mask-cleared-behind",
        36,
        BASE,
        moved("-A KUBE-POSTROUTING -j MARK", "-A KUBE-POSTROUTING .*MASQUERADE"),
        (
            "RA308",
            None,
            "a rule of nat KUBE-POSTROUTING stands behind one that kube-proxy writes after it: -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        ),
    ),
    damage(
        "node-short-cut-before-its-mark",
        36,
        [*BASE, *ALONE_HERE],
        moved("-A KUBE-EXT.*masquerade LOCAL", "-A KUBE-EXT.*route LOCAL"),
        ("RA401", "shop/local", ""),
    ),
    damage(
        "pods-short-cut-last-of-the-short-cuts",
        36,
        [*BASE, *ALONE_HERE],
        moved("-A KUBE-EXT.*pod traffic", "-A KUBE-EXT.*route LOCAL"),
        ("RA308", "shop/local", "a rule of nat KUBE-EXT-"),
    ),
    damage("hooks-in-any-order", 36, BASE, moved("-A FORWARD .*KUBE-SERVICES", "-A FORWARD")),
    damage("services-in-any-order", 36, BASE, moved("-A KUBE-SERVICES .*default/kubernetes", "-A KUBE-SERVICES .*shop/web")),
    # rules that kube-proxy always writes
    damage(
        "no-accept-of-answers",
        36,
        BASE,
        without("-A KUBE-FORWARD .*RELATED,ESTABLISHED"),
        ("RA310", None, "(accept RELATED,ESTABLISHED)"),
    ),
    damage("no-drop-of-invalid", 28, BASE, without("-A KUBE-FORWARD .*INVALID"), ("RA310", None, "(drop INVALID)")),
    damage("no-drop-of-invalid-is-a-sysctls-choice", 29, BASE, without("-A KUBE-FORWARD .*INVALID")),
    damage("one-of-two-answers", 22, BASE, without("-A KUBE-FORWARD .*pod source rule")),
    damage(
        "nothing-in-forward",
        28,
        BASE,
        without("-A KUBE-FORWARD"),
        ("RA310", None, "(accept what carries the mark 0x4000/0x4000, accept RELATED,ESTABLISHED, drop INVALID)"),
    ),
    damage(
        "no-clearing-of-the-mark",
        36,
        BASE,
        without("-A KUBE-POSTROUTING -j MARK"),
        ("RA310", None, "(clear the mark 0x4000/0x4000)"),
    ),
    damage(
        "another-mark-cleared",
        36,
        BASE,
        changed("-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0", "-A KUBE-POSTROUTING -j MARK --set-xmark 0x8000/0x0"),
        ("RA310", None, "(clear the mark 0x4000/0x4000)"),
    ),
    damage(
        "answers-accepted-otherwise",
        36,
        BASE,
        changed("(-A KUBE-FORWARD .*)RELATED,ESTABLISHED", "\\1ESTABLISHED"),
        ("RA310", None, "(accept RELATED,ESTABLISHED)"),
    ),
    # the parts of a chain for policy Local
    damage(
        "no-short-cut-for-pods",
        36,
        [*BASE, *ALONE_HERE],
        without("-A KUBE-EXT.*pod traffic"),
        ("RA310", "shop/local", "pods' traffic to all endpoints"),
    ),
    damage(
        "no-short-cut-for-the-node",
        36,
        [*BASE, *ALONE_HERE],
        without("-A KUBE-EXT.*route LOCAL"),
        ("RA310", "shop/local", "lacks rules that kube-proxy writes there: the node's own traffic to all endpoints"),
    ),
    damage(
        "no-short-cut",
        36,
        [*BASE, *ALONE_HERE],
        without("-A KUBE-EXT.*(route LOCAL|pod traffic)"),
        ("RA310", "shop/local", "pods' traffic to all endpoints, the node's own traffic to all endpoints"),
    ),
    damage(
        "no-short-cut-of-1.22",
        22,
        [*BASE, *ALONE_HERE],
        without("-A KUBE-XLB.*route LOCAL"),
        ("RA310", "shop/local", "the node's own traffic"),
    ),
    damage(
        "no-mark-of-what-is-dropped-1.22",
        22,
        [*BASE, *NOWHERE],
        without("-A KUBE-XLB.*KUBE-MARK-DROP"),
        ("RA310", "shop/local", "local endpoints, or the mark of what is dropped without any"),
    ),
    damage(
        "25-chains-without-a-short-cut",
        36,
        several(25),
        without("-A KUBE-EXT.*pod traffic"),
        *(("RA310", f"many/s{n:02}", "pods' traffic") for n in range(25)),
    ),
    damage(
        "26-chains-without-a-short-cut",
        36,
        several(26),
        without("-A KUBE-EXT.*pod traffic"),
        ("RA310", None, "26 chains lack rules that kube-proxy writes there, first KUBE-EXT-"),
    ),
    # load balancers up to 1.24
    damage(
        "no-end-of-a-load-balancer",
        22,
        [*BASE, *BALANCED],
        without("-A KUBE-FW.*KUBE-MARK-DROP"),
        ("RA310", "shop/balanced", "the mark of what is dropped, at the end"),
    ),
    damage(
        "groups-that-differ",
        22,
        [*BASE, *BALANCED],
        twice("-A KUBE-FW.*( -s |KUBE-MARK-DROP)"),
        ("RA310", "shop/balanced", "the same rules for each address"),
    ),
    damage("groups-that-are-alike", 22, [*BASE, *BALANCED], twice("-A KUBE-FW")),
    # rules that need another one
    damage(
        "no-node-port-for-the-mark-of-localhost",
        22,
        [*BASE, *ALONE_HERE],
        twice("-A KUBE-NODEPORTS -s 127", lambda line: line.replace("30081", "30089")),
        ("RA310", None, "a rule of nat KUBE-NODEPORTS"),
    ),
    damage(
        "no-node-port-for-the-count-of-localhost",
        36,
        [*BASE, *PLAIN],
        twice(
            "-A KUBE-NODEPORTS .*30080", lambda line: line.replace("-p tcp", "-d 127.0.0.0/8 -p tcp", 1).replace("30080", "30089")
        ),
        ("RA203", "shop/port", "rules still forward node port 30089/TCP"),
    ),
    damage(
        "a-count-of-localhost",
        36,
        [*BASE, *PLAIN],
        both(twice("-A KUBE-NODEPORTS .*30080"), changed("(-A KUBE-NODEPORTS) -p tcp", "\\1 -d 127.0.0.0/8 -p tcp")),
    ),
    damage(
        "a-count-of-localhost-that-leads-elsewhere",
        36,
        [*BASE, *PLAIN],
        both(
            twice("-A KUBE-NODEPORTS .*30080"),
            changed(
                "(-A KUBE-NODEPORTS) -p tcp(.*) -j KUBE-EXT-\\w+", "\\1 -d 127.0.0.0/8 -p tcp\\2 -j KUBE-EXT-AAAAAAAAAAAAAAAA"
            ),
        ),
        ("RA309", None, "KUBE-NODEPORTS jumps to KUBE-EXT-AAAAAAAAAAAAAAAA"),
    ),
    damage(
        "node-ports-of-ipv6-at-loopback",
        36,
        SIX,
        changed("-A KUBE-SERVICES ! -d ::1/128 ", "-A KUBE-SERVICES "),
        ("RA310", None, PAIR),
        families=(6,),
    ),
    damage("node-ports-of-ipv6-at-loopback-up-to-1.25", 25, SIX, str, families=(6,)),
    damage(
        "an-external-ip-without-its-first-jump",
        20,
        [*BASE, *EXTERNAL],
        without("external IP.*physdev"),
        ("RA104", "shop/external", ""),
        ("RA310", None, PAIR),
    ),
    damage(
        "an-external-ip-without-its-second-jump",
        20,
        [*BASE, *EXTERNAL],
        without("external IP.*--dst-type LOCAL"),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
    ),
    damage(
        "an-external-ip-with-its-jumps-exchanged",
        20,
        [*BASE, *EXTERNAL],
        moved("external IP.*physdev", "external IP.*--dst-type LOCAL"),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
    ),
    damage(
        "an-external-ip-marked-last",
        20,
        [*BASE, *EXTERNAL],
        moved("external IP.*KUBE-MARK-MASQ", "external IP"),
        ("RA401", "shop/external", ""),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
    ),
    damage(
        "an-external-ip-with-one-jump-more",
        20,
        [*BASE, *EXTERNAL],
        twice("external IP.*--dst-type LOCAL", lambda line: line.replace(" -m addrtype --dst-type LOCAL", "")),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
    ),
    damage(
        "an-external-ip-with-jumps-to-two-chains",
        20,
        [*BASE, *EXTERNAL],
        changed("(external IP.*--dst-type LOCAL.* -j )KUBE-SVC-", "\\1KUBE-XLB-"),
        ("RA309", None, "KUBE-XLB-"),
        ("RA310", None, PAIR),
        ("RA310", None, PAIR),
    ),
    # health checks
    damage(
        "one-of-two-health-checks",
        36,
        [*BASE, *HEALTH],
        changed("(-A KUBE-NODEPORTS .*shop/checked:https.*--dport) 32000", "\\1 32001"),
        ("RA310", None, "-A KUBE-NODEPORTS"),
    ),
    damage(
        "one-of-two-health-checks-by-udp",
        36,
        [*BASE, *HEALTH],
        changed("(-A KUBE-NODEPORTS )-p tcp( .*shop/checked:https health.*)-m tcp", "\\1-p udp\\2-m udp"),
        ("RA310", None, "-A KUBE-NODEPORTS"),
    ),
    # localhost
    damage("no-guard-of-localhost", 36, [*BASE, *PLAIN], without(_GUARD), ("RA802", None, "")),
    damage(
        "a-guard-that-lets-new-ones-in",
        36,
        [*BASE, *PLAIN],
        changed(f"({_GUARD}.*)RELATED,ESTABLISHED,DNAT", "\\1NEW,RELATED,ESTABLISHED,DNAT"),
        ("RA802", None, ""),
    ),
    damage("kubelets-guard-1.25", 25, BASE, without(_GUARD), ("RA802", None, "")),
    damage("no-chain-for-the-guard", 36, BASE, without("KUBE-FIREWALL")),
    damage(
        "no-jump-to-the-guard",
        36,
        BASE,
        without("-A INPUT -j KUBE-FIREWALL"),
        ("RA108", None, "filter INPUT -> KUBE-FIREWALL is missing in IPv4: no service's traffic"),
    ),
    damage(
        "no-jump-to-the-guard-from-output",
        36,
        BASE,
        without("-A OUTPUT -j KUBE-FIREWALL"),
        ("RA108", None, "filter OUTPUT -> KUBE-FIREWALL"),
    ),
    damage("kubelets-jump-to-the-guard", 26, BASE, without("-A INPUT -j KUBE-FIREWALL")),
    # many
    damage(
        "25-strange-rules",
        36,
        BASE,
        added("nat", *(f"-A KUBE-MARK-MASQ -s 192.0.2.{n}/32 -j RETURN" for n in range(25))),
        *(("RA310", None, f"192.0.2.{n}/32") for n in range(25)),
    ),
    damage(
        "26-strange-rules",
        36,
        BASE,
        added("nat", *(f"-A KUBE-MARK-MASQ -s 192.0.2.{n}/32 -j RETURN" for n in range(26))),
        (
            "RA310",
            None,
            "26 rules of kube-proxy's chains are not as kube-proxy writes them, first -A KUBE-MARK-MASQ -s 192.0.2.0/32",
        ),
    ),
    damage(
        "a-long-rule",
        36,
        BASE,
        added("nat", f"-A KUBE-MARK-MASQ -m comment --comment {'x' * 250} -j RETURN"),
        ("RA310", None, "xxx..."),
    ),
    damage(
        "a-rule-of-a-services-chain",
        36,
        BASE,
        added("nat", "-A KUBE-SVC-AAAAAAAAAAAAAAAA -s 192.0.2.1/32 -j RETURN"),
        ("RA310", None, "nat KUBE-SVC-AAAAAAAAAAAAAAAA is not"),
    ),
]


@pytest.mark.parametrize("given", DAMAGES)
def test_a_damage_and_what_is_told(given: Damage) -> None:
    node = SmallNode(given.objects, given.minor, families=given.families)
    assert serious(node.report()) == []
    report = node.report(given.edit)
    found = [one for one in report.findings if one.severity is not Severity.INFO]
    assert sorted((one.code, one.service or "") for one in found) == sorted(
        (code, service or "") for code, service, _ in given.told
    ), [one.message for one in found]
    for code, name, part in given.told:
        assert any(part in one.message for one in found if (one.code, one.service) == (code, name)), [
            one.message for one in found
        ]
    assert all(one.locations for one in found)
