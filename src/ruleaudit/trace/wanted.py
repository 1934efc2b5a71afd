"""What the objects ask for on the way of a connection, and where the rules part with them: the same answers as `check` has, for one destination."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import parse_network
from ruleaudit.checks.objects_oddities import broken_ingress_backends, services_without_pods
from ruleaudit.compare import DifferenceKind, compare, equal
from ruleaudit.dataplane.observe import observe
from ruleaudit.findings import Severity
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict, split_endpoint
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.trace.holders import knows_slices
from ruleaudit.trace.values import Expected, Remark

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.audit import FamilyModel, NodeModel
    from ruleaudit.checks.objects_oddities import Oddity
    from ruleaudit.cluster import Cluster
    from ruleaudit.compare import Difference
    from ruleaudit.dataplane.observe import Observation
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.findings import Finding
    from ruleaudit.forwarding import Forwarding, Frontend
    from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort
    from ruleaudit.trace.values import RuleUse
    from ruleaudit.ways.ingress import Backend

__all__ = ["Wanted", "claims_of"]

Key = tuple[str, str]
_OF_MASQUERADE: Final = (DifferenceKind.MISSING_MASQUERADE, DifferenceKind.EXTRA_MASQUERADE)


class _Parting(NamedTuple):
    """Where rules and objects part: the likest of what was asked for, and the differences to it; none where only the source is kept (RA402)."""

    differences: tuple[Difference, ...]
    forwarding: Forwarding
    frontend: Frontend
    port: ExpectedServicePort


@dataclass(slots=True)
class Wanted:
    """What the objects ask for, gathered along the way. `findings` by fingerprint, as `check` says them."""

    cluster: Cluster
    expected: list[Expected] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)

    # --- of one node's rules ---

    def at(
        self,
        model: NodeModel,
        found: FamilyModel,
        vantage: Vantage,
        packet: Packet,
        protocol: str,
        rules: Sequence[tuple[RuleUse, ...]],
        *,
        arriving: bool,
        undecided: bool,
    ) -> tuple[Sequence[ExpectedServicePort], list[Remark]]:
        """The service ports that claim a packet's destination on a node, and what is to be said where the rules do something else.

        `rules`: those that decided, for each outcome. `arriving`: another node has sent the packet to an endpoint here. `undecided`: by which
        interface it comes is not known, and that matters to a rule.
        """
        first: Sequence[ExpectedServicePort] = ()
        vantage = _taken_for(found, vantage, packet)
        seen: Observation | None = None
        best: _Parting | None = None
        for expectation in found.expectations():
            frontend, claims = claims_of(found, expectation, packet.destination, packet.port, protocol)
            if frontend is None:
                break
            first = first or claims
            observer = found.observer
            guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and any(one.source_ranges for one in claims)
            accepted = observer.accepted(claims[0], claims, frontend, vantage, packet.source if guarded else None)
            open_ = found.audit.node is None and claims[0].uses_local
            if not accepted or open_ or undecided or not knows_slices(self.cluster):
                self._note(model, vantage, frontend, claims[0], None, same=None)
                return first, []
            seen = seen or observe(found.evaluator, packet, found.audit.mark)
            same = next((one for one in accepted if equal(one, seen)), None)
            if same is not None and _keeps_its_source(found, same, seen):
                best = _Parting((), same, frontend, claims[0])
                break
            if same is None:
                differences, likest = min(((compare(one, seen), one) for one in accepted), key=lambda pair: len(pair[0]))
                if observer.stood_in is not None:
                    differences = observer.certain(claims[0], differences, observer.stood_in)
                same = likest if not differences else None
                if differences and (best is None or len(differences) < len(best.differences)):
                    best = _Parting(tuple(differences), likest, frontend, claims[0])
            if same is not None:
                self._note(model, vantage, frontend, claims[0], same, same=True)
                return first, []
        if best is None:
            return first, [] if first or arriving else self._stale(found, rules)
        self._note(model, vantage, best.frontend, best.port, best.forwarding, same=False)
        return first, self._parted(model, found, first[0], best)

    def _note(
        self,
        model: NodeModel,
        vantage: Vantage,
        frontend: Frontend,
        port: ExpectedServicePort,
        forwarding: Forwarding | None,
        *,
        same: bool | None,
    ) -> None:
        name = port.name
        service = f"{name.namespace}/{name.name}"
        self.expected.append(Expected(model.name, vantage, frontend, service, name.port or str(port.port), forwarding, same))

    def _parted(self, model: NodeModel, found: FamilyModel, port: ExpectedServicePort, parting: _Parting) -> list[Remark]:
        """What `check` says of a service port at which rules and objects part; that the rules are another node's comes first."""
        told = [one for one in found.findings_of(port) if one.frontend in (None, parting.frontend)]
        of_masquerade = [one.kind in _OF_MASQUERADE for one in parting.differences]
        # What is said of the other kind of difference is about other clients: for this one it is right.
        if of_masquerade and not any(of_masquerade):
            told = [one for one in told if not one.code.startswith("RA4")] or told
        elif of_masquerade and all(of_masquerade):
            told = [one for one in told if one.code.startswith(("RA4", "RA6", "RA110"))] or told
        elsewhere = found.of_other_node
        wanted = f"the objects ask for something else: {_in_words(parting.forwarding)}"
        first = Remark(wanted, told[0].code if told else None)
        return [first, *self.said([*([elsewhere] if elsewhere is not None else []), *told], model.name)]

    def said(self, findings: Iterable[Finding], node: str | None = None) -> list[Remark]:
        """Findings as remarks of a step; they count as findings of the trace. `node`: whose rules they are about."""
        remarks = []
        for one in findings:
            named = replace(one, node=one.node or node)
            self.findings.setdefault(named.fingerprint, named)
            remarks.append(Remark(f"{one.name}: {one.message}", one.code, one.locations))
        return remarks

    def _stale(self, found: FamilyModel, rules: Sequence[tuple[RuleUse, ...]]) -> list[Remark]:
        """A destination that no Service has, and kube-proxy's rules lead somewhere all the same."""
        lines = {(one.file, one.line) for used in rules for one in used if not one.foreign and not one.policy}
        return self.said(found.stale_at(lines)) if lines else []

    # --- what the objects say of themselves ---

    def oddities_of(self, service: Key) -> list[Remark]:
        """RA701 of a Service, as a warning: here it is why a connection ends."""
        known = self.cluster.services.get(service)
        if known is None:
            return []
        return self._odd(services_without_pods(replace(self.cluster, services={service: known})))

    def oddities_of_ingress(self, ingress: Key, backend: Backend) -> list[Remark]:
        """RA704 of the backend that a request is led to, as a warning."""
        one = replace(self.cluster, ingresses={ingress: self.cluster.ingresses[ingress]})
        return self._odd(each for each in broken_ingress_backends(one) if each.subject.endswith(f" {backend}"))

    def _odd(self, oddities: Iterable[Oddity]) -> list[Remark]:
        return self.said(one.finding(Severity.WARNING) for one in oddities)


def claims_of(
    found: FamilyModel, expectation: Expectation, address: str, port: int, protocol: str
) -> tuple[Frontend | None, Sequence[ExpectedServicePort]]:
    """The frontend that a destination is, and the service ports that claim it; None without any."""
    claims = expectation.by_frontend.get((address, port, protocol), ())
    wanted: str | None = address
    if not claims and address in found.audit.node_port_addresses:
        claims, wanted = expectation.by_frontend.get((None, port, protocol), ()), None
    if not claims:
        return None, ()
    frontend = next(one for one in claims[0].frontends if (one.address, one.port, one.protocol) == (wanted, port, protocol))
    return frontend, claims


def _taken_for(found: FamilyModel, vantage: Vantage, packet: Packet) -> Vantage:
    """Whom kube-proxy takes the sender for: a packet with a local pod's address is one of a local pod, wherever it comes from (KPR 4.7)."""
    detection = found.audit.expectation.local_detection
    if vantage is Vantage.OUTSIDE and isinstance(detection, LocalDetection) and detection.value:
        where = parse_network(detection.value, found.audit.family)
        if where is not None and ip_address(packet.source) in where:
            return Vantage.POD
    return vantage


def _keeps_its_source(found: FamilyModel, same: Forwarding, seen: Observation) -> bool:
    """Whether packets that are marked for masquerade, as was asked for, leave the node with their own source all the same (RA402)."""
    if not same.masquerade:
        return False
    local = found.evaluator.host.is_local
    return any(one.endpoint is not None and not local(split_endpoint(one.endpoint)[0]) for one in seen.not_masqueraded)


def _in_words(forwarding: Forwarding) -> str:
    if forwarding.verdict is Verdict.FORWARD:
        ends = sorted(forwarding.backends)
        shown = ", ".join(ends[:6]) + (f" and {len(ends) - 6} more" if len(ends) > 6 else "")
        source = {True: ", masqueraded", False: ", with the client's address", None: ""}[forwarding.masquerade]
        kept = "" if forwarding.affinity is None else f", session affinity of {forwarding.affinity} s"
        return f"to {shown}{source}{kept}"
    return {
        Verdict.REJECT: "a rejection",
        Verdict.DROP: "that it is dropped",
        Verdict.PASS: "that it is left alone",
        Verdict.LOCAL: "that it is left to the node itself",
    }[forwarding.verdict]
