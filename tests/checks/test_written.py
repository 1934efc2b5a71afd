"""The forms of kube-proxy's rules (KPR 4 to 6), one by one: which rule belongs where, in which release, with which values.

forms.txt holds them. That a rule that does not belong is told, a chain that lacks one, and one in the wrong place, is below.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

from ruleaudit.checks.written import _FORMS, _Writing
from ruleaudit.formats.iptables_save import parse
from ruleaudit.kubeproxy import SERVICE_CHAIN
from ruleaudit.settings import LocalDetection

if TYPE_CHECKING:
    from collections.abc import Iterator

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
