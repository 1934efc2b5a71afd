"""RA310: virtual servers of Services that are not as kube-proxy makes them (KPR 11.3): another scheduler than all others, one-packet, Route."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ruleaudit.checks.context import service_port_of
from ruleaudit.checks.judgement import listed
from ruleaudit.dataplane.ipvs import TABLE
from ruleaudit.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.checks.context import FamilyAudit
    from ruleaudit.dataplane.ipvs import VirtualTable
    from ruleaudit.dumps.virtual_servers import VirtualServer
    from ruleaudit.findings import Finding
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["odd_servers"]

_LEAST = 3
"""From how many virtual servers on the scheduler that most of them have is kube-proxy's."""


def odd_servers(audit: FamilyAudit, virtual: VirtualTable, scheduler: str | None) -> Iterator[Finding]:
    """One finding for each service port; `scheduler`: what --ipvs-scheduler was given as, None when it was not."""
    claims = audit.expectation.by_frontend
    owned: list[tuple[ExpectedServicePort, VirtualServer]] = []
    for server in virtual.servers():
        for address in (server.address, None):
            claimed = claims.get((address, server.port or 0, server.protocol or ""))
            if claimed:
                owned.append((claimed[0], server))
                break
    usual = scheduler
    if usual is None:
        counted = Counter(server.scheduler for _expected, server in owned if server.scheduler is not None)
        most = counted.most_common(1)
        usual = most[0][0] if most and sum(counted.values()) >= _LEAST and most[0][1] * 2 > sum(counted.values()) else None
    odd: dict[int, tuple[ExpectedServicePort, list[VirtualServer], dict[str, None]]] = {}
    for expected, server in owned:
        said = []
        if usual is not None and server.scheduler not in (None, usual):
            said.append(f"scheduler {server.scheduler}")
        if server.one_packet:
            said.append("one-packet scheduling")
        if server.engine is not None:
            said.append(f"persistence engine {server.engine}")
        if said:
            _, servers, words = odd.setdefault(id(expected), (expected, [], {}))
            servers.append(server)
            words.update(dict.fromkeys(said))
    for expected, servers, words in odd.values():
        yield audit.finding(
            "RA310",
            f"{service_port_of(expected)}: {listed([one.name for one in servers])} "
            f"{'has' if len(servers) == 1 else 'have'} {', '.join(words)}, which kube-proxy does not give {'it' if len(servers) == 1 else 'them'}",
            severity=Severity.WARNING,
            of=expected,
            expected=f"scheduler {usual}" if usual is not None else "no option but persistence",
            observed=", ".join(words),
            places=[(TABLE, one.name, one.line) for one in servers],
            subject=f"{' '.join(sorted(one.name for one in servers))} IPv{audit.family}",
        )
