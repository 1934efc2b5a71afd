"""Destinations that the rules treat alike share an answer (S13): each shared answer is what asking in full gives."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

import ruleaudit
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.observe import observe
from ruleaudit.dataplane.packet import HOST_SIDE, Host, Packet
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.formats.iptables_save import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ruleaudit.dataplane.classes import Place
    from ruleaudit.dataplane.ruleset import Balance


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Whatever is answered from a shared answer while the test runs is asked in full as well; how often each happened."""
    told: Counter[str] = Counter()
    shared, for_all = Evaluator.bundled, Evaluator.bundled_for_all

    def asked_twice(
        self: Evaluator, client: Packet, destination: str, port: int, place: Place, mark: int
    ) -> tuple[Balance, bool] | None:
        found = shared(self, client, destination, port, place, mark)
        told["shared" if found is not None else "in full"] += 1
        if found is not None:
            seen = observe(self, client.to(destination, port), mark)
            balance, marked = found
            told["affinity"] += balance.affinity is not None
            assert balance.protocol == client.protocol
            assert dict(seen.backends) == pytest.approx(balance.backends)
            assert (seen.possible, seen.affinity, seen.affinity_fault) == (False, balance.affinity, "")
            assert not seen.lost
            assert not seen.refused
            assert not seen.untranslated
            assert (seen.marked, seen.unmarked) == pytest.approx((1.0, 0.0) if marked else (0.0, 1.0))
        return found

    def all_asked_twice(
        self: Evaluator, clients: tuple[Packet, ...], destination: str, port: int, mark: int
    ) -> tuple[Balance, tuple[bool, ...]] | None:
        found = for_all(self, clients, destination, port, mark)
        if found is not None:
            told["for all"] += 1
            balance, marks = found
            for client, marked in zip(clients, marks, strict=True):
                seen = observe(self, client.to(destination, port), mark)
                assert balance.protocol == client.protocol
                assert dict(seen.backends) == pytest.approx(balance.backends)
                assert (seen.marked, seen.unmarked) == pytest.approx((1.0, 0.0) if marked else (0.0, 1.0))
        return found

    monkeypatch.setattr(Evaluator, "bundled", asked_twice)
    monkeypatch.setattr(Evaluator, "bundled_for_all", all_asked_twice)
    return told


@pytest.mark.parametrize("name", ["healthy", "changed-destination", "stopped-kube-proxy"])
def test_bundled_nodes(name: str, nodes: Path, compared: Counter[str]) -> None:
    ruleaudit.audit_inputs(ruleaudit.read([str(nodes / name)]))
    assert compared["shared"] > 100
    assert compared["for all"] > 50
    assert compared["affinity"] > 10


def test_captured_nodes(capture_folders: list[Path], compared: Counter[str]) -> None:
    for folder in capture_folders:
        if any(folder.glob("iptables-save.txt*")):
            ruleaudit.audit_inputs(ruleaudit.read([str(folder)]))
    assert compared["shared"] > 1000


SERVICES = 14
"""As many rules of one chain for single destinations as it takes for it to be indexed, and two more."""


def evaluator(services: str, *, output: str = "", mangle: str = "", chains: str = "") -> Evaluator:
    """Rules of `SERVICES` Services with two endpoints each, 10.244.N.1 and .2; `services`: what leads to them."""
    ports = [
        (f"KUBE-SVC-{number}", f"KUBE-SEP-{number}-{one}", f"10.244.{number}.{one}")
        for number in range(SERVICES)
        for one in (1, 2)
    ]
    declared = dict.fromkeys([name for svc, sep, _address in ports for name in (svc, sep)])
    text = "\n".join(
        [
            *([mangle] if mangle else []),
            "*nat",
            *[f":{name} ACCEPT [0:0]" for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")],
            *[f":{name} - [0:0]" for name in ("KUBE-SERVICES", "KUBE-MARK-MASQ", *chains.split(), *declared)],
            "-A PREROUTING -j KUBE-SERVICES",
            *([output] if output else []),
            "-A OUTPUT -j KUBE-SERVICES",
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
            services,
            *[
                f"-A {svc}"
                + (" -m statistic --mode random --probability 0.50000000000" if address.endswith(".1") else "")
                + f" -j {sep}"
                for svc, sep, address in ports
            ],
            *[f"-A {sep} -p tcp -m tcp -j DNAT --to-destination {address}:8080" for _svc, sep, address in ports],
            "COMMIT",
            "",
        ]
    )
    return Evaluator(Ruleset(4, parse(text, "iptables-save.txt").tables), Host(frozenset({"10.0.0.1"})))


def to_each(chain: str, targets: Callable[[int], str], asks: str = "") -> str:
    """A rule for each Service's address, 10.96.0.N."""
    return "\n".join(
        f"-A {chain}{asks} -d 10.96.0.{one}/32 -p tcp -m tcp --dport 80 -j {targets(one)}" for one in range(SERVICES)
    )


def odd_one(one: int) -> str:
    return f"KUBE-SVC-{5 if one == 1 else one}"


MANGLE = "\n".join(
    [
        "*mangle",
        *[f":{name} ACCEPT [0:0]" for name in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")],
        *[f":{name} - [0:0]" for name in ("D", "X", "Y")],
        "-A PREROUTING -j D",
        to_each("D", lambda one: "Y" if one == 1 else "X"),
        "-A Y -j DROP",
        "COMMIT",
    ]
)
ODD = {
    "chains of one name in two tables": evaluator(
        to_each("KUBE-SERVICES", lambda one: "Y" if one == 1 else "X") + "\n" + to_each("KUBE-SERVICES", "KUBE-SVC-{}".format),
        mangle=MANGLE,
        chains="X Y",
    ),
    "two rules that lead to one balance, but for one Service": evaluator(
        to_each("KUBE-SERVICES", "KUBE-SVC-{}".format, " -s 203.0.113.0/24") + "\n" + to_each("KUBE-SERVICES", odd_one)
    ),
    "two rules, those for others lead elsewhere": evaluator(
        to_each("KUBE-SERVICES", odd_one, " -s 203.0.113.0/24") + "\n" + to_each("KUBE-SERVICES", "KUBE-SVC-{}".format)
    ),
    "rules for the node's own clients": evaluator(
        to_each("KUBE-SERVICES", "KUBE-SVC-{}".format), output="-A OUTPUT -j MINE\n" + to_each("MINE", odd_one), chains="MINE"
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_one_service_unlike_the_others(case: str, compared: Counter[str]) -> None:
    one = ODD[case]
    clients = (
        Packet(4, "tcp", "10.244.99.7", "10.96.0.1", 0, in_interface=HOST_SIDE),
        Packet(4, "tcp", "10.0.0.1", "10.96.0.1", 0, from_node=True),
        Packet(4, "tcp", "203.0.113.7", "10.96.0.1", 0, in_interface=HOST_SIDE, bridged=False),
    )
    for number in range(SERVICES):
        address = f"10.96.0.{number}"
        one.bundled_for_all(clients, address, 80, 0x4000)
        for client in clients:
            place = one.place(client, address, 80)
            assert place is not None
            one.bundled(client, address, 80, place, 0x4000)
    assert compared["shared"] >= 2 * (SERVICES - 1)
    assert compared["for all"] >= (0 if "tables" in case else SERVICES - 2)


def test_a_port_of_two_protocols_with_affinity(compared: Counter[str]) -> None:
    """Both are spread over the same endpoints: TCP's balance, whose endpoints are masqueraded, is no answer for UDP, whose one is not."""
    number = 7
    rules = []
    for protocol in ("tcp", "udp"):
        svc, sep = f"KUBE-SVC-{protocol}", f"KUBE-SEP-{protocol}"
        recent = f"-m recent --name {sep} --mask 255.255.255.255 --rsource"
        rules += [
            f"-A KUBE-SERVICES -d 10.96.0.{number}/32 -p {protocol} -m {protocol} --dport 53 -j {svc}",
            f"-A {svc} -m recent --rcheck --seconds 10800 --reap --name {sep} --mask 255.255.255.255 --rsource -j {sep}",
            f"-A {svc} -j {sep}",
            f"-A {sep} -s 10.244.{1 if protocol == 'tcp' else 2}.9/32 -j KUBE-MARK-MASQ",
            f"-A {sep} -p {protocol} {recent.replace('--name', '--set --name')} -m {protocol} -j DNAT --to-destination 10.244.1.9:53",
        ]
    one = evaluator(
        to_each("KUBE-SERVICES", "KUBE-SVC-{}".format) + "\n" + "\n".join(rules),
        chains="KUBE-SVC-tcp KUBE-SVC-udp KUBE-SEP-tcp KUBE-SEP-udp",
    )
    for protocol in ("tcp", "udp"):
        client = Packet(4, protocol, "203.0.113.7", "10.96.0.1", 0, in_interface=HOST_SIDE, bridged=False)
        place = one.place(client, f"10.96.0.{number}", 53)
        assert place is not None
        found = one.bundled(client, f"10.96.0.{number}", 53, place, 0x4000)
        assert (found is not None) is (protocol == "tcp"), "the chains of UDP are no balance: they have to be asked in full"
