"""The expectation of healthy nodes, written out as rules, is what their kube-proxy wrote, line for line and in its order.

The writer below is a miniature kube-proxy after KPR 5 (1.25 and later) and KPR 6.3 (1.20). It takes the selection, the names
and the values from the expectation, and decides about rules by the reference alone.
"""

from __future__ import annotations

import json
import lzma
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.cluster import load
from ruleaudit.forwarding import FrontendKind
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash
from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort, expect
from ruleaudit.kubeproxy.settings import LocalDetection, combine, read_settings, resolve

if TYPE_CHECKING:
    from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort

PROBABILITY = 2**31


def probability(count: int) -> str:
    """1/count as kube-proxy writes, the kernel keeps and iptables-save prints it (KPR 5.4)."""
    return f"{int(PROBABILITY * float(f'{1 / count:.10f}') + 0.5) / PROBABILITY:.11f}"


class Writer:
    """The rules of an expectation, in `nat` and `filter`."""

    def __init__(self, expectation: Expectation) -> None:
        self.expectation = expectation
        self.six = expectation.family == 6
        self.nat: list[str] = []
        self.filter: list[str] = []
        self.bits = "128" if self.six else "32"
        self.mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" if self.six else "255.255.255.255"
        self.comments = not expectation.large_cluster
        for port in expectation.service_ports:
            if expectation.release.minor >= 25:
                self.write(port)
            else:
                self.write_1_20(port)

    def local_match(self, *, negated: bool, destination: str = "") -> str:
        detection = self.expectation.local_detection
        assert isinstance(detection, LocalDetection)
        sign = "! " if negated else ""
        if detection.mode in ("ClusterCIDR", "NodeCIDR"):
            return f"{sign}-s {detection.value} {destination}"
        plus = "+" if detection.mode == "InterfaceNamePrefix" else ""
        return f"{destination}{sign}-i {detection.value}{plus} "

    def balance(self, chain: str, port: ExpectedServicePort, name: str, endpoints: list[str], comment: str) -> None:
        proto = port.protocol.lower()
        seps = [f"KUBE-SEP-{endpoint_chain_hash(name, proto, text)}" for text in endpoints]
        for text, sep in zip(endpoints, seps, strict=True):
            if port.affinity is not None:
                said = comment.format(ep=text)
                recent = f"-m recent --rcheck --seconds {port.affinity} --reap --name {sep} --mask {self.mask} --rsource"
                self.nat.append(f"-A {chain} {said}{recent} -j {sep}")
        for at, (text, sep) in enumerate(zip(endpoints, seps, strict=True)):
            left = len(endpoints) - at
            said = comment.format(ep=text)
            statistic = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
            self.nat.append(f"-A {chain} {said}{statistic}-j {sep}")

    def endpoints(self, port: ExpectedServicePort, name: str) -> None:
        proto = port.protocol.lower()
        said = f'-m comment --comment "{name}" ' if self.comments else ""
        for endpoint in port.selection.reachable:
            sep = f"KUBE-SEP-{endpoint_chain_hash(name, proto, endpoint.text)}"
            self.nat.append(f"-A {sep} -s {endpoint.address}/{self.bits} {said}-j KUBE-MARK-MASQ")
            recent = f"-m recent --set --name {sep} --mask {self.mask} --rsource " if port.affinity is not None else ""
            self.nat.append(f"-A {sep} -p {proto} {said}{recent}-m {proto} -j DNAT --to-destination {endpoint.text}")

    def write(self, port: ExpectedServicePort) -> None:
        name = port.name.text(self.expectation.release)
        proto = port.protocol.lower()
        digest = chain_hash(name, proto)
        chosen = port.selection
        svc, svl, ext, firewall = (f"KUBE-{kind}-{digest}" for kind in ("SVC", "SVL", "EXT", "FW"))
        internal_ok = chosen.any and (not port.internal_local or bool(chosen.local))
        external_ok = chosen.any and (not port.external_local or bool(chosen.local))
        vips = [frontend for frontend in port.frontends if frontend.kind is FrontendKind.LOAD_BALANCER_IP]
        uses_firewall = chosen.any and bool(vips) and bool(port.source_ranges)
        refuse = ("DROP", "has no local endpoints") if chosen.any else ("REJECT", "has no endpoints")
        if refuse[0] == "REJECT":
            refuse = (f"REJECT --reject-with icmp{'6' if self.six else ''}-port-unreachable", refuse[1])
        arrow = '-m comment --comment "' + name + ' -> {ep}" ' if self.comments else ""
        for frontend in port.frontends:
            here = f"-d {frontend.address}/{self.bits} "
            match frontend.kind:
                case FrontendKind.CLUSTER_IP:
                    said = f'-p {proto} -m comment --comment "{name} cluster IP" -m {proto} --dport {frontend.port}'
                    target = svl if port.internal_local else svc
                    if internal_ok:
                        self.nat.append(f"-A KUBE-SERVICES {here}{said} -j {target}")
                        if self.expectation.settings.masquerade_all:
                            self.nat.append(f"-A {target} {here}{said} -j KUBE-MARK-MASQ")
                        elif self.expectation.local_detection is not None:
                            self.nat.append(
                                f"-A {target} {self.local_match(negated=True, destination=here)}{said} -j KUBE-MARK-MASQ"
                            )
                    else:
                        self.filter.append(
                            f'-A KUBE-SERVICES {here}-p {proto} -m comment --comment "{name} {refuse[1]}" '
                            f"-m {proto} --dport {frontend.port} -j {refuse[0]}"
                        )
                    continue
                case FrontendKind.EXTERNAL_IP:
                    said, target = "external IP", ext
                case FrontendKind.LOAD_BALANCER_IP:
                    said, target = "loadbalancer IP", firewall if uses_firewall else ext
                case _:
                    if chosen.any:
                        dispatch = f'-p {proto} -m comment --comment "{name}" -m {proto} --dport {frontend.port}'
                        self.nat.append(f"-A KUBE-NODEPORTS {dispatch} -j {ext}")
                    if not external_ok:
                        self.filter.append(
                            f'-A KUBE-EXTERNAL-SERVICES -p {proto} -m comment --comment "{name} {refuse[1]}" '
                            f"-m addrtype --dst-type LOCAL -m {proto} --dport {frontend.port} -j {refuse[0]}"
                        )
                    continue
            if chosen.any:
                self.nat.append(
                    f'-A KUBE-SERVICES {here}-p {proto} -m comment --comment "{name} {said}" '
                    f"-m {proto} --dport {frontend.port} -j {target}"
                )
            if not external_ok:
                self.filter.append(
                    f'-A KUBE-EXTERNAL-SERVICES {here}-p {proto} -m comment --comment "{name} {refuse[1]}" '
                    f"-m {proto} --dport {frontend.port} -j {refuse[0]}"
                )
        if port.health_check_node_port:
            self.filter.append(
                f'-A KUBE-NODEPORTS -p tcp -m comment --comment "{name} health check node port" '
                f"-m tcp --dport {port.health_check_node_port} -j ACCEPT"
            )
        if not chosen.any:
            return
        if chosen.cluster and port.uses_cluster:
            self.balance(svc, port, name, [endpoint.text for endpoint in chosen.cluster], arrow)
        if chosen.local and port.uses_local:
            self.balance(svl, port, name, [endpoint.text for endpoint in chosen.local], arrow)
        if port.externally_accessible:
            self.external(port, name, ext, svc, svl)
        if uses_firewall:
            self.firewall(port, name, firewall, ext)
        self.endpoints(port, name)

    def external(self, port: ExpectedServicePort, name: str, ext: str, svc: str, svl: str) -> None:
        if not port.external_local:
            self.nat.append(
                f'-A {ext} -m comment --comment "masquerade traffic for {name} external destinations" -j KUBE-MARK-MASQ'
            )
            self.nat.append(f"-A {ext} -j {svc}")
            return
        if self.expectation.local_detection is not None:
            match = self.local_match(negated=False)
            self.nat.append(f'-A {ext} {match}-m comment --comment "pod traffic for {name} external destinations" -j {svc}')
        for does, target in (("masquerade", "KUBE-MARK-MASQ"), ("route", svc)):
            self.nat.append(
                f'-A {ext} -m comment --comment "{does} LOCAL traffic for {name} external destinations" '
                f"-m addrtype --src-type LOCAL -j {target}"
            )
        if port.selection.local:
            self.nat.append(f"-A {ext} -j {svl}")

    def firewall(self, port: ExpectedServicePort, name: str, firewall: str, ext: str) -> None:
        said = f'-m comment --comment "{name} loadbalancer IP" -j {ext}'
        vips = [frontend for frontend in port.frontends if frontend.kind is FrontendKind.LOAD_BALANCER_IP]
        self.nat.extend(f"-A {firewall} -s {text} {said}" for text in port.source_ranges)
        if port.node_allowed:
            self.nat.extend(f"-A {firewall} -s {frontend.address}/{self.bits} {said}" for frontend in vips)
        if self.expectation.release.minor >= 27:
            self.nat.append(
                f'-A {firewall} -m comment --comment "other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL"'
            )
        proto = port.protocol.lower()
        self.filter.extend(
            f"-A KUBE-PROXY-FIREWALL -d {frontend.address}/{self.bits} -p {proto} -m comment --comment "
            f'"{name} traffic not accepted by {firewall}" -m {proto} --dport {frontend.port} -j DROP'
            for frontend in vips
        )

    def write_1_20(self, port: ExpectedServicePort) -> None:
        name = port.name.text(self.expectation.release)
        proto = port.protocol.lower()
        digest = chain_hash(name, proto)
        chosen = port.selection
        svc, xlb, firewall = (f"KUBE-{kind}-{digest}" for kind in ("SVC", "XLB", "FW"))
        target = xlb if port.external_local else svc
        reject = "REJECT --reject-with icmp-port-unreachable"
        for frontend in port.frontends:
            here = f"-d {frontend.address}/{self.bits} "
            dport = f"-m {proto} --dport {frontend.port}"
            if not chosen.any:
                chain = "KUBE-SERVICES" if frontend.kind is FrontendKind.CLUSTER_IP else "KUBE-EXTERNAL-SERVICES"
                said = f'-p {proto} -m comment --comment "{name} has no endpoints"'
                if frontend.kind is FrontendKind.NODE_PORT:
                    self.filter.append(f"-A {chain} {said} -m addrtype --dst-type LOCAL {dport} -j {reject}")
                else:
                    self.filter.append(f"-A {chain} {here}{said} {dport} -j {reject}")
                continue
            match frontend.kind:
                case FrontendKind.CLUSTER_IP:
                    said = f'-p {proto} -m comment --comment "{name} cluster IP" {dport}'
                    if self.expectation.local_detection is not None:
                        self.nat.append(
                            f"-A KUBE-SERVICES {self.local_match(negated=True, destination=here)}{said} -j KUBE-MARK-MASQ"
                        )
                    self.nat.append(f"-A KUBE-SERVICES {here}{said} -j {svc}")
                case FrontendKind.EXTERNAL_IP:
                    said = f'-p {proto} -m comment --comment "{name} external IP" {dport}'
                    if not port.external_local:
                        self.nat.append(f"-A KUBE-SERVICES {here}{said} -j KUBE-MARK-MASQ")
                    self.nat.append(
                        f"-A KUBE-SERVICES {here}{said} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j {target}"
                    )
                    self.nat.append(f"-A KUBE-SERVICES {here}{said} -m addrtype --dst-type LOCAL -j {target}")
                case FrontendKind.LOAD_BALANCER_IP:
                    said = f'-m comment --comment "{name} loadbalancer IP"'
                    self.nat.append(f"-A KUBE-SERVICES {here}-p {proto} {said} {dport} -j {firewall}")
                    if not port.external_local:
                        self.nat.append(f"-A {firewall} {said} -j KUBE-MARK-MASQ")
                    if not port.source_ranges:
                        self.nat.append(f"-A {firewall} {said} -j {target}")
                    self.nat.extend(f"-A {firewall} -s {text} {said} -j {target}" for text in port.source_ranges)
                    if port.node_allowed:
                        self.nat.append(f"-A {firewall} -s {frontend.address}/{self.bits} {said} -j {target}")
                    self.nat.append(f"-A {firewall} {said} -j KUBE-MARK-DROP")
                case FrontendKind.NODE_PORT:
                    said = f'-p {proto} -m comment --comment "{name}" {dport}'
                    source = "-s 127.0.0.0/8 " if port.external_local else ""
                    self.nat.append(f"-A KUBE-NODEPORTS {source}{said} -j KUBE-MARK-MASQ")
                    self.nat.append(f"-A KUBE-NODEPORTS {said} -j {target}")
        if not chosen.any:
            return
        said = f'-m comment --comment "{name}" ' if self.comments else ""
        self.balance(svc, port, name, [endpoint.text for endpoint in chosen.cluster], said)
        if port.external_local:
            self.local_chain_1_20(port, name, xlb, svc)
        self.endpoints(port, name)

    def local_chain_1_20(self, port: ExpectedServicePort, name: str, xlb: str, svc: str) -> None:
        if self.expectation.local_detection is not None:
            match = self.local_match(negated=False)
            said = "Redirect pods trying to reach external loadbalancer VIP to clusterIP"
            self.nat.append(f'-A {xlb} {match}-m comment --comment "{said}" -j {svc}')
        self.nat.append(
            f'-A {xlb} -m comment --comment "masquerade LOCAL traffic for {name} LB IP" '
            "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
        )
        self.nat.append(
            f'-A {xlb} -m comment --comment "route LOCAL traffic for {name} LB IP to service chain" '
            f"-m addrtype --src-type LOCAL -j {svc}"
        )
        if not port.selection.local:
            self.nat.append(f'-A {xlb} -m comment --comment "{name} has no local endpoints" -j KUBE-MARK-DROP')
            return
        before = len(self.nat)
        self.balance(xlb, port, name, [endpoint.text for endpoint in port.selection.local], f'-m comment --comment "{name}" ')
        number = 0
        for at in range(before, len(self.nat)):
            if "-m recent" not in self.nat[at]:
                self.nat[at] = self.nat[at].replace(f'"{name}"', f'"Balancing rule {number} for {name}"')
                number += 1


PER_SERVICE = re.compile(r"KUBE-(?:SVC|SVL|EXT|FW|SEP|XLB)-")
FIXED = {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}
# Written once for all service ports (KPR 4.4), or only where the kernel counts (KPR 5.1, row 4).
APART = ("kubernetes service nodeports", "-m nfacct")


def captures() -> Path | None:
    given = os.environ.get("RULEAUDIT_CAPTURES")
    beside = Path(__file__).parents[2] / "shared" / "captures"
    return Path(given) if given else beside if beside.is_dir() else None


def healthy() -> list[Path]:
    folder = captures()
    found = []
    for truth in sorted(folder.glob("*/truth.json")) if folder is not None else ():
        told = json.loads(truth.read_text())
        if told.get("kind") == "clean" and not told["expected"] and "-iptables" in truth.parent.name:
            found.append(truth.parent)
    return found


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else lzma.decompress(path.with_name(path.name + ".xz").read_bytes())


def by_chain(lines: list[str]) -> dict[str, list[str]]:
    """Rules by chain; in their order where it matters, sorted where kube-proxy's is random."""
    chains: dict[str, list[str]] = {}
    for line in lines:
        chains.setdefault(line.split(" ", 2)[1], []).append(line)
    return {chain: rules if PER_SERVICE.match(chain) else sorted(rules) for chain, rules in chains.items()}


@pytest.mark.skipif(not healthy(), reason="no captures: set RULEAUDIT_CAPTURES to their folder")
@pytest.mark.parametrize("folder", healthy(), ids=lambda folder: folder.name)
@pytest.mark.parametrize("family", [4, 6])
def test_a_healthy_node_holds_exactly_what_is_expected(folder: Path, family: int) -> None:
    text = content(folder / ("ip6tables-save.txt" if family == 6 else "iptables-save.txt")).decode()
    if "KUBE-SERVICES" not in text:
        pytest.skip("this kube-proxy does not serve the family")
    settings = resolve(combine([read_settings(content(folder / name), name) for name in ("kube-proxy.args", "meta.json")]))
    assert settings.minor is not None
    assert settings.hostname_override is not None
    cluster = load([("objects.json", content(folder / "objects.json"))])
    release = settings.release(settings.minor)
    expectation = expect(cluster, node=settings.hostname_override, family=family, settings=settings, release=release)
    written = Writer(expectation)
    dumped: dict[str, list[str]] = {}
    table: list[str] = []
    for line in text.splitlines():
        if line.startswith("*"):
            table = dumped.setdefault(line[1:], [])
        elif line.startswith("-A KUBE-") and not any(part in line for part in APART):
            chain = line.split(" ", 2)[1]
            if chain in FIXED or PER_SERVICE.match(chain):
                table.append(line)
    assert by_chain(written.nat) == by_chain(dumped["nat"])
    assert by_chain(written.filter) == by_chain(dumped["filter"])
