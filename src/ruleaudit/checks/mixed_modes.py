"""RA501 and RA503: what kube-proxy's other mode left behind is still at work, or lies there (KPR 21.8, T-9).

A change between the iptables and the IPVS mode cleans nothing up: the chains that both modes write are written anew, the others stay, with the
jumps to them; virtual servers and the addresses of kube-ipvs0 stay, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.checks.judgement import listed
from ruleaudit.dataplane.ruleset import A_GOTO, A_JUMP, Ruleset
from ruleaudit.findings import Severity
from ruleaudit.kubeproxy.release import ProxyMode
from ruleaudit.signs import HOOKS as IPTABLES_HOOKS
from ruleaudit.signs import IPVS_HOOKS, SERVICE_CHAIN, hook_present

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.checks.context import FamilyAudit
    from ruleaudit.dumps.virtual_servers import Listing
    from ruleaudit.findings import Finding

__all__ = ["other_modes_chains", "other_modes_rules", "other_modes_virtual_servers"]

_OTHER_HOOKS = {ProxyMode.IPVS: IPTABLES_HOOKS, ProxyMode.IPTABLES: IPVS_HOOKS}
_OWN_HOOKS = {ProxyMode.IPVS: IPVS_HOOKS, ProxyMode.IPTABLES: IPTABLES_HOOKS}
_CLEAN = (
    "Remove what the other mode left: restart the node, or run `kube-proxy --cleanup` of the release that wrote it and start kube-proxy again. It "
    "does not clean up after another mode by itself."
)


def other_modes_rules(audit: FamilyAudit) -> Iterator[Finding]:
    """Chains that only the other mode writes, that hold rules, and that packets still come to."""
    mode = audit.expectation.mode
    own = {(hook.table, hook.target) for hook in _OWN_HOOKS[mode]}
    live: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for hook in _OTHER_HOOKS[mode]:
        place = (hook.table, hook.target)
        if place in own or not audit.rules.entries(*place) or not hook_present(audit.rules, hook):
            continue
        jumps = [
            (hook.table, hook.chain, one.line) for one in audit.rules.entries(hook.table, hook.chain) if one.target == hook.target
        ]
        live.setdefault(place, []).extend(jumps)
    if mode is ProxyMode.IPVS:
        reached = [name for name in _reachable(audit.rules) if SERVICE_CHAIN.match(name)]
        if reached:
            live["nat", reached[0]] = []
    if not live:
        return
    other = ProxyMode.IPTABLES if mode is ProxyMode.IPVS else ProxyMode.IPVS
    chains = [f"{table} {name}" for table, name in live]
    yield audit.finding(
        "RA501",
        f"rules of the {other.value} mode are at work in IPv{audit.family} beside those of the {mode.value} mode: {listed(chains)}",
        expected=f"only rules of the {mode.value} mode",
        observed=f"packets come to {listed(chains)}",
        hint=_CLEAN,
        places=[
            place
            for (table, name), jumps in live.items()
            for place in (*jumps, (table, name, 0), *((table, name, one.line) for one in audit.rules.entries(table, name)[:3]))
        ],
        subject=f"{other.value} IPv{audit.family}",
    )


def other_modes_chains(audit: FamilyAudit) -> Iterator[Finding]:
    """In IPVS mode: chains of Services that hold rules, and that no packet comes to. No sync deletes them, and none fails for them."""
    reached = set(_reachable(audit.rules))
    left = [
        name
        for name in audit.rules.chains("nat")
        if SERVICE_CHAIN.match(name) and name not in reached and audit.rules.entries("nat", name)
    ]
    if left:
        yield audit.finding(
            "RA503",
            f"{len(left)} chains of the iptables mode are left in IPv{audit.family}; no packet comes to them",
            severity=Severity.INFO,
            expected="no chain of a Service, which the IPVS mode has none of",
            observed=listed(left),
            hint=_CLEAN,
            places=[("nat", name, 0) for name in left[:6]],
            subject=f"iptables IPv{audit.family}",
        )


def _reachable(rules: Ruleset) -> Sequence[str]:
    """The nat chains that packets come to."""
    todo, seen = ["PREROUTING", "OUTPUT"], dict[str, None]()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen[name] = None
            todo.extend(one.target for one in rules.entries("nat", name) if one.action in (A_JUMP, A_GOTO))
    return list(seen)


def other_modes_virtual_servers(
    audit: FamilyAudit, listing: Listing | None, held: Mapping[str, tuple[str, str, int]] | None
) -> Iterator[Finding]:
    """In iptables mode: virtual servers for the cluster's own frontends; `held`: the addresses of kube-ipvs0, None where not known."""
    if listing is None:
        return
    claims = audit.expectation.by_frontend
    known = [
        one
        for one in listing.servers
        if one.family == audit.family
        and ((one.address, one.port, one.protocol) in claims or (None, one.port, one.protocol) in claims)
    ]
    if not known:
        return
    addresses = f"; kube-ipvs0 still holds {len(held)} addresses" if held else ""
    yield audit.finding(
        "RA501",
        f"IPVS still has {len(known)} virtual servers for frontends of Services in IPv{audit.family}, beside the rules of the iptables mode"
        f"{addresses}",
        expected="no virtual server of kube-proxy's",
        observed=listed([one.name for one in known]),
        hint=_CLEAN,
        places=[("ipvs", one.name, one.line) for one in known],
        subject=f"ipvs IPv{audit.family}",
    )
