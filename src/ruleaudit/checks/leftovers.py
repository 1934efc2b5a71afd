"""What the rules hold and the objects do not: stale frontends, refusals that are out of date, chains that nothing or only a leftover uses.

RA201 to RA205, RA208 (never reached), RA209, RA307, RA503, RA504.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ruleaudit.checks.context import FamilyAudit, RulePlace, service_port_of
from ruleaudit.dataplane.ruleset import A_GOTO, A_JUMP, PreparedChain
from ruleaudit.findings import Finding, ObjectReference, Severity
from ruleaudit.forwarding import Frontend, FrontendKind, Vantage, Verdict
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash
from ruleaudit.signs import SERVICE_CHAIN, Dispatch, dispatches, entry_comment, is_kube_proxy_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.checks.services import ServiceJudge
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["chains", "needed_chains", "stale_frontends"]

_STALE_CODE = {"ClusterIP": "RA202", "NodePort": "RA203", "ExternalIP": "RA204", "LoadBalancerIP": "RA205"}
_KIND_TEXT = {
    "ClusterIP": "cluster IP",
    "ExternalIP": "external IP",
    "LoadBalancerIP": "load-balancer IP",
    None: "address",
}


def stale_frontends(audit: FamilyAudit, judge: ServiceJudge) -> Iterator[Finding]:
    """RA201 to RA205 for frontends that no Service has; RA208 for refusals of frontends with endpoints (KPR 5.1, 5.2)."""
    claims = audit.expectation.by_frontend
    by_name = _by_name(audit)
    stale: dict[tuple[str | None, str, str | None], list[Dispatch]] = defaultdict(list)
    refusals: dict[int, list[tuple[Dispatch, ExpectedServicePort]]] = defaultdict(list)
    for one in dispatches(audit.rules):
        claimed = claims.get((one.address, one.port, one.protocol))
        if claimed is None:
            owner = _owner(audit, judge, one, by_name)
            stale[owner or one.name, one.protocol, one.kind if owner in by_name or owner is None else None].append(one)
        elif one.table == "filter":
            for expected in claimed:
                refusals[id(expected)].append((one, expected))
    unseen = _unseen_namespaces(audit, {name for name, _protocol, _kind in stale if name})
    for (name, protocol, _kind), group in stale.items():
        if (name or "").partition("/")[0] not in unseen:
            yield _stale(audit, by_name, name, protocol, group)
    if unseen:
        listed = ", ".join(sorted(unseen)[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        yield audit.finding(
            "RA004",
            f"the objects are a part of the cluster only: they hold no Service of {listed}, which the rules serve; stale rules of "
            "these namespaces are not looked for",
            hint="get the objects of all namespaces (kubectl get ... -A -o json)",
            subject=f"namespaces IPv{audit.family}",
        )
    for group_of in refusals.values():
        yield from _out_of_date(audit, judge, group_of)


def _unseen_namespaces(audit: FamilyAudit, stale: set[str]) -> set[str]:
    """The namespaces that the objects leave out, where a sure sign says that they leave some out; else none.

    The API server keeps the Service default/kubernetes, and the namespaces default and kube-system cannot be deleted: rules for what the
    objects lack of these were not left behind, the objects were taken without `-A`.
    """
    given = {namespace for namespace, _name in audit.cluster.services}
    absent = {name.partition("/")[0] for name in stale} - given
    sure = bool(absent & {"default", "kube-system"}) or any(name.startswith("default/kubernetes:") for name in stale)
    return absent if sure else set()


def _by_name(audit: FamilyAudit) -> dict[str | None, list[ExpectedServicePort]]:
    found: dict[str | None, list[ExpectedServicePort]] = defaultdict(list)
    for expected in audit.expectation.service_ports:
        for text in expected.name.texts(audit.expectation.release):
            found[text].append(expected)
    return dict(found)


def _owner(
    audit: FamilyAudit, judge: ServiceJudge, one: Dispatch, by_name: dict[str | None, list[ExpectedServicePort]]
) -> str | None:
    """The service port name that a dispatching rule belongs to: by its chain's hash, which cannot be mistyped, else by its comment."""
    found = SERVICE_CHAIN.match(one.target)
    if found is not None:
        suffix = one.target[found.end() :]
        expected = judge.chains.owner_of_hash.get(suffix)
        if expected is not None:
            return expected.name.text(audit.expectation.release)
        if one.name is not None and chain_hash(one.name, one.protocol.lower()) == suffix:
            return one.name
        return judge.chains.comment_name(one.target) or one.name
    del by_name
    return one.name


def _stale(
    audit: FamilyAudit,
    by_name: dict[str | None, list[ExpectedServicePort]],
    name: str | None,
    protocol: str,
    group: list[Dispatch],
) -> Finding:
    places = [(one.table, one.chain, one.line) for one in group]
    texts = [_address(one) for one in group]
    first = group[0]
    owners = [one for one in by_name.get(name, []) if one.protocol == protocol] or by_name.get(name, [])
    namespace, _, rest = (name or "").partition("/")
    service_name, _, port = rest.partition(":")
    service = f"{namespace}/{service_name}" if rest else None
    verb = "refuse" if all(one.table == "filter" for one in group) else "still forward"
    listed = ", ".join(dict.fromkeys(texts[:6])) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")
    if owners:
        owner = owners[0]
        kind = "" if first.kind == "NodePort" else f"{_KIND_TEXT[first.kind]} "
        code = _STALE_CODE.get(first.kind or _guess_kind(owner, first), "RA202")
        return audit.finding(
            code,
            f"{service_port_of(owner)}: rules {verb} {kind}{listed}, which the Service does not have",
            of=owner,
            frontend=_frontend(audit, first),
            expected="its frontends: " + ", ".join(str(one) for one in owner.frontends),
            observed=listed,
            places=places,
        )
    exists = (namespace, service_name) in audit.cluster.services
    if exists:
        reason = audit.expectation.ignored.get((namespace, service_name))
        message = f"{name}: rules {verb} {listed}, but " + (
            f"kube-proxy passes the Service over ({reason})" if reason else "the Service has no such port"
        )
    else:
        message = f"{name or 'an unnamed service'}: rules {verb} {listed}, but there is no such Service"
    return audit.finding(
        "RA201",
        message,
        service=service,
        port=port or None,
        frontend=_frontend(audit, first) if len(group) == 1 else None,
        expected="no rules",
        observed=listed,
        places=places,
        objects=[ObjectReference("Service", namespace, service_name)] if exists else [],
    )


def _guess_kind(owner: ExpectedServicePort, one: Dispatch) -> str:
    if one.chain == "KUBE-SERVICES" and one.table == "filter":
        return "ClusterIP"
    kinds = {frontend.kind.value for frontend in owner.frontends}
    return "LoadBalancerIP" if "LoadBalancerIP" in kinds else "ExternalIP"


def _address(one: Dispatch) -> str:
    if one.address is None:
        return f"node port {one.port}/{one.protocol}"
    return f"[{one.address}]:{one.port}/{one.protocol}" if ":" in one.address else f"{one.address}:{one.port}/{one.protocol}"


def _frontend(audit: FamilyAudit, one: Dispatch) -> Frontend | None:
    kind = one.kind or ("ClusterIP" if one.chain == "KUBE-SERVICES" else None)
    if kind is None:
        return None
    return Frontend(FrontendKind(kind), one.address, one.port, one.protocol, audit.family)


def _out_of_date(audit: FamilyAudit, judge: ServiceJudge, group: list[tuple[Dispatch, ExpectedServicePort]]) -> Iterator[Finding]:
    """RA208 as a warning: a refusing rule stands for a frontend that has endpoints; translated packets do not meet it."""
    expected = group[0][1]
    if judge.observer.stood_in is not None:
        return  # the objects that kube-proxy reads may hold no endpoint
    for one, _ in group:
        frontends = [f for f in expected.frontends if (f.address, f.port, f.protocol) == (one.address, one.port, one.protocol)]
        wanted = {forwarding.verdict for f in frontends for v in Vantage for forwarding in expected.accepted(f, v)}
        if wanted & {Verdict.REJECT, Verdict.DROP} or not wanted:
            continue
        if len(audit.expectation.by_frontend[one.address, one.port, one.protocol]) > 1:
            continue
        if any(judgement.frontend in frontends for judgement in judge.judged.get(id(expected), ())):
            continue  # what happens there is told by its own finding
        yield audit.finding(
            "RA208",
            f"{service_port_of(expected)}: a rule refuses {_address(one)} although it has usable endpoints; it bites only when "
            f"nat does not translate",
            severity=Severity.WARNING,
            of=expected,
            frontend=frontends[0],
            expected="no refusing rule",
            observed=f"{one.target} in {one.table} {one.chain}",
            places=[(one.table, one.chain, one.line)],
        )


def needed_chains(audit: FamilyAudit) -> set[str]:
    """The service chains that kube-proxy needs for today's objects (KPR 5.8, 6)."""
    needed: set[str] = set()
    release = audit.expectation.release
    for expected in audit.expectation.service_ports:
        for text in expected.name.texts(release):
            suffix = chain_hash(text, expected.protocol.lower())
            needed.update(prefix + suffix for prefix in ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"))
            for selection in expected.selections:
                needed.update(
                    "KUBE-SEP-" + endpoint_chain_hash(text, expected.protocol.lower(), endpoint.text)
                    for endpoint in selection.reachable
                )
    return needed


def chains(audit: FamilyAudit, judge: ServiceJudge) -> Iterator[Finding]:
    """RA209 orphans, RA307 duplicates, RA309 undeclared targets, RA503 and RA504 leftovers of another release (KPR 7.3, 21.1)."""
    rules = audit.rules
    nat = rules.chains("nat")
    referenced: set[str] = set()
    referring: dict[str, list[RulePlace]] = defaultdict(list)
    new_layout = audit.expectation.release.minor >= 24
    strange_prefixes = ("KUBE-XLB-",) if new_layout else ("KUBE-EXT-", "KUBE-SVL-")
    live: set[str] | None = None
    for name in rules.other_chains("nat"):  # but for chains that jump to KUBE-MARK-MASQ only
        repeated = name.startswith("KUBE-FW-") and audit.expectation.release.minor <= 24  # one group per load-balancer IP (T-18)
        ready = rules.prepared("nat", name)
        if ready is None:
            continue
        entries = ready.head
        if ready.balance is not None and not ready.balance.noted:
            referenced.update([leaf.name for leaf in ready.balance.leaves])
        if not _only_balances(ready):
            entries = ready.entries
            own = is_kube_proxy_chain(name) or name in ("PREROUTING", "OUTPUT", "POSTROUTING")
            if own and len(entries) > 1 and not repeated:
                yield from _duplicates(audit, "nat", name)
        if name.startswith(strange_prefixes):
            entries = ready.entries
        for entry in entries:
            if entry.action in (A_JUMP, A_GOTO):
                referenced.add(entry.target)
                if name.startswith(strange_prefixes):
                    referring[entry.target].append(("nat", name, entry.line))
                told = not audit.cluster.services and SERVICE_CHAIN.match(name) and SERVICE_CHAIN.match(entry.target)
                if entry.target not in nat and entry.action == A_JUMP and is_kube_proxy_chain(entry.target) and not told:
                    live = live if live is not None else _live(audit)
                    if name not in live:
                        continue
                    yield audit.finding(
                        "RA309",
                        f"{name} jumps to {entry.target}, which is not declared",
                        severity=Severity.WARNING,
                        places=[("nat", name, entry.line)],
                        subject=f"{name} {entry.target} IPv{audit.family}",
                    )
    for table in ("filter",):
        for name in rules.chains(table):
            if is_kube_proxy_chain(name) and len(rules.entries(table, name)) > 1:
                yield from _duplicates(audit, table, name)
    referenced |= rules.spread_over
    strange = [name for name in nat if name.startswith(strange_prefixes)]
    if strange:
        yield from _leftovers(audit, strange, referring)
    leftovers = set(strange)
    orphans = [name for name in nat if name not in referenced and name not in leftovers and SERVICE_CHAIN.match(name)]
    if audit.expectation.release.minor <= 23:
        orphans = [name for name in orphans if not (name.startswith("KUBE-XLB-") and not rules.entries("nat", name))]  # T-6
        if audit.expectation.release.minor == 22:
            orphans = [name for name in orphans if not name.startswith("KUBE-SEP-")]  # T-14
    if len(orphans) > 25:
        yield audit.finding(
            "RA209",
            f"{len(orphans)} service chains are not referenced by any rule, first {orphans[0]}"
            + ("; in a large cluster they stay until a later sync" if audit.expectation.large_cluster else ""),
            places=[("nat", name, 0) for name in orphans[:5]],
            subject=f"orphans IPv{audit.family}",
        )
        return
    for name in orphans:
        entries = rules.entries("nat", name)
        label = judge.chains.comment_name(name)
        yield audit.finding(
            "RA209",
            f"nothing jumps to {name}" + (f" ({label})" if label else "") + ("" if entries else ", and it is empty"),
            places=[("nat", name, 0), *(("nat", name, entry.line) for entry in entries[:3])],
            subject=f"{name} IPv{audit.family}",
        )


def _only_balances(ready: PreparedChain) -> bool:
    """Whether a chain is at most one rule and a balance over distinct chains: no rule of it can stand there twice."""
    balance = ready.balance
    return balance is not None and balance.start <= 1 and balance.distinct


def _live(audit: FamilyAudit) -> set[str]:
    """The nat chains that packets can reach from a built-in chain (hooks repaired)."""
    rules = audit.repaired
    todo = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if rules.leaf("nat", name) is not None:
            continue  # leads to an endpoint, and to KUBE-MARK-MASQ, which others lead to as well
        todo.extend(entry.target for entry in rules.entries("nat", name) if entry.action in (A_JUMP, A_GOTO))
    return seen


_DISTINCT = "distinct"
"""Of `ChainText.facts`: that no rule stands there twice, as far as `_duplicates` says it."""


def _duplicates(audit: FamilyAudit, table: str, name: str) -> Iterator[Finding]:
    text = audit.rules.chains(table)[name].text
    if text is not None and _DISTINCT in text.facts:
        return
    distinct = True
    seen: dict[tuple[object, tuple[str, ...]], int] = {}
    counter_free = audit.rules.entries(table, name)
    for entry in counter_free:
        slots = entry.plan.shape.counter_slots or ()
        values = tuple(value for slot, value in enumerate(entry.values) if slot not in slots)
        key = (entry.plan.shape, values)
        if entry.target in ("", "LOG") or (entry.plan.tests.share is not None):
            continue
        distinct = distinct and key not in seen
        if key in seen and entry.line and seen[key]:
            service, subject = _attribution(audit, table, name, entry.line)
            yield audit.finding(
                "RA307",
                f"{table} {name} holds the same rule twice",
                service=service,
                observed=audit.rules.reference(table, name, entry.line).text,
                places=[(table, name, seen[key]), (table, name, entry.line)],
                subject=subject,
            )
        else:
            seen[key] = entry.line
    if text is not None and distinct:
        text.facts[_DISTINCT] = True


def _attribution(audit: FamilyAudit, table: str, name: str, line: int) -> tuple[str | None, str]:
    """The service that a rule's comment names, where it names one; and what the finding is about."""
    text = f"{table} {name} {audit.rules.reference(table, name, line).text} IPv{audit.family}"
    for entry in audit.rules.entries(table, name):
        if entry.line == line:
            namespace, slash, rest = (entry_comment(entry) or "").split(" ")[0].partition("/")
            service = rest.partition(":")[0]
            if slash and (namespace, service) in audit.cluster.services:
                return f"{namespace}/{service}", text
    return None, text


def _leftovers(audit: FamilyAudit, strange: list[str], referring: dict[str, list[RulePlace]]) -> Iterator[Finding]:
    """RA503 and RA504: chains of another release's layout; they block every sync once kube-proxy must delete what they jump to."""
    needed = needed_chains(audit) if audit.cluster.services else set(audit.rules.chains("nat"))
    into = {target: places for target, places in referring.items() if SERVICE_CHAIN.match(target)}
    blocking = {target: places for target, places in into.items() if target not in needed and target in audit.rules.chains("nat")}
    prefix = strange[0][:9]
    layout = "1.23 or older" if prefix == "KUBE-XLB-" else "1.24 or newer"
    leader: str | None = None
    if blocking:
        first, places = next(iter(blocking.items()))
        found = audit.finding(
            "RA504",
            f"every sync of kube-proxy fails in IPv{audit.family}: chains that it must delete ({len(blocking)}) are still jumped "
            f"to by leftover {prefix} "
            f"chains, first {first} by {places[0][1]}",
            expected=f"{first} can be deleted",
            observed=f"{places[0][1]} jumps to it, so iptables-restore fails on the whole (Device or resource busy)",
            hint=f"Delete the leftover chains by hand (`iptables -t nat -F {places[0][1]}` and `-X` for each"
            f" {prefix} chain), then kube-proxy catches up by itself.",
            places=[place for group in blocking.values() for place in group],
            subject=f"{prefix} IPv{audit.family}",
        )
        leader = found.fingerprint
        yield found
    yield audit.finding(
        "RA503",
        f"{len(strange)} {prefix} chains of a kube-proxy {layout} are left in IPv{audit.family}"
        + (
            f", and {len(into)} service chains are still jumped to by them: the sync that must delete one of those will fail"
            if into and not blocking
            else ""
        ),
        expected=f"no {prefix} chain",
        observed=", ".join(strange[:5]) + (" …" if len(strange) > 5 else ""),
        places=[("nat", name, 0) for name in strange[:6]],
        subject=f"{prefix} IPv{audit.family}",
        cause=leader,
    )
