"""Every frontend of a service port from every vantage point: what the rules do, against what the objects ask for."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import msgspec

from ruleaudit.checks.judgement import Judgement
from ruleaudit.compare import Difference, DifferenceKind, compare, equal, spreads_alike
from ruleaudit.dataplane.observe import Observation, observe
from ruleaudit.forwarding import Forwarding, Frontend, FrontendKind, Vantage, Verdict, split_endpoint
from ruleaudit.kubeproxy.expect import ExpectedServicePort, expect
from ruleaudit.kubeproxy.release import EndpointSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.checks.context import FamilyAudit
    from ruleaudit.dataplane.classes import Place
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.ruleset import Balance
    from ruleaudit.dataplane.walk import Outcome

__all__ = ["Observer", "address_inside"]


class Observer:
    """Asks the rules about every frontend of a service port and holds the answers against what the objects ask for."""

    def __init__(self, audit: FamilyAudit) -> None:
        self.audit = audit
        self.unmasqueraded: list[tuple[ExpectedServicePort, Judgement, Outcome]] = []
        self.stood_in = self.stand_in()
        self._trios: dict[str, tuple[Packet, ...]] = {}
        self.sound: Mapping[str, float] = {}
        """Endpoints of the service port asked last that are masqueraded when they reach themselves through it."""
        self.blind = not audit.rules.has_table("filter")  # a dump without it cannot show what is refused
        self.sees_sources = not self.blind
        """Whether source ranges can be seen to be enforced."""

    def differing(self, expected: ExpectedServicePort) -> list[Judgement]:
        """Every frontend and vantage point of a service port at which rules and objects part."""
        found: list[Judgement] = []
        self.sound = {}
        audit = self.audit
        evaluator, clients, mark = audit.evaluator, audit.clients, audit.mark
        claims_of = audit.expectation.by_frontend
        together = evaluator.answers_together
        for frontend in expected.frontends:
            claims = claims_of[frontend.address, frontend.port, frontend.protocol]
            guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and bool(expected.source_ranges)
            if (
                together
                and not guarded
                and len(claims) == 1
                and frontend.address is not None
                and self.as_expected(expected, frontend)
            ):
                continue
            places: dict[tuple[bool, str], Place | None] = {}
            for vantage, destination in self.questions(frontend):
                source = None
                if guarded:
                    source = (
                        self.admitted_source(expected)
                        if vantage is Vantage.OUTSIDE
                        else clients.pod
                        if vantage is Vantage.POD
                        else clients.node
                    )
                accepted = self.accepted(expected, claims, frontend, vantage, source)
                if not accepted:
                    continue
                client = clients.client(vantage, frontend.protocol, destination, source if vantage is Vantage.OUTSIDE else None)
                hook = (client.from_node, destination)
                if hook not in places:  # pods and outside clients meet the same rules first
                    places[hook] = evaluator.place(client, destination, frontend.port)
                place = places[hook]
                if place is not None:
                    bundled = evaluator.bundled(client, destination, frontend.port, place, mark)
                    if bundled is not None and any(self.spreads_alike(one, *bundled) for one in accepted):
                        if bundled[0].masquerading:
                            self.sound = bundled[0].backends
                        continue
                packet = client.to(destination, frontend.port)
                seen = observe(evaluator, packet, mark)
                if seen.not_masqueraded:
                    self.note_unmasqueraded(expected, frontend, vantage, destination, accepted[0], seen)
                if any(equal(one, seen) for one in accepted):
                    continue
                ranked = min(((compare(one, seen), number) for number, one in enumerate(accepted)), key=lambda pair: len(pair[0]))
                differences = ranked[0] if self.stood_in is None else self.certain(expected, ranked[0], self.stood_in)
                if differences:
                    found.append(Judgement(frontend, vantage, destination, accepted[ranked[1]], seen, differences))
        return found

    def as_expected(self, expected: ExpectedServicePort, frontend: Frontend) -> bool:
        """Whether clients of all vantage points get what the objects ask for, as far as one question for all of them can tell."""
        address, protocol = frontend.address or "", frontend.protocol
        if address.startswith("127.") or address == "::1":
            return False
        clients = self._trios.get(protocol)
        if clients is None:
            clients = self._trios[protocol] = tuple([self.audit.clients.client(one, protocol, address) for one in Vantage])
        found = self.audit.evaluator.bundled_for_all(clients, address, frontend.port, self.audit.mark)
        if found is None:
            return False
        balance, marks = found
        # What is asked of a service port is the same value for most nodes, and so is a balance: they were held together for the first node.
        held = (id(frontend), marks, self.blind)
        if expected.agreed.get(held) is not balance:
            for vantage, marked in zip(Vantage, marks, strict=True):
                accepted = self.accepted(expected, (expected,), frontend, vantage, None)
                if accepted and not any(self.spreads_alike(one, balance, marked) for one in accepted):
                    return False
            expected.agreed[held] = balance
        if balance.masquerading:
            self.sound = balance.backends
        return True

    def spreads_alike(self, expected: Forwarding, balance: Balance, masquerade: bool) -> bool:
        """See `compare.spreads_alike`. The shares of a service port are mostly the same values for all its clients, and on all nodes: compared
        once.
        """
        if expected.backends is balance.alike:
            return (
                expected.verdict is Verdict.FORWARD
                and expected.affinity == balance.affinity
                and expected.masquerade in (None, masquerade)
            )
        found = spreads_alike(expected, balance, masquerade)
        if found:
            balance.alike = expected.backends
        return found

    def accepted(
        self,
        expected: ExpectedServicePort,
        claims: Sequence[ExpectedServicePort],
        frontend: Frontend,
        vantage: Vantage,
        source: str | None,
    ) -> tuple[Forwarding, ...]:
        """Everything that a healthy node may do with a connection, whoever of those that claim the frontend got it; empty: not judged."""
        accepted = expected.accepted(frontend, vantage, source)
        if len(claims) > 1:
            accepted += tuple(
                one for other in claims if other is not expected for one in other.accepted(frontend, vantage, source)
            )
        if self.blind and any(one.verdict is not Verdict.FORWARD for one in accepted):
            return ()
        return accepted

    def stand_in(self) -> EndpointSource | None:
        """The objects that endpoints are taken from although kube-proxy may have read others, which were not given; None: its own."""
        expectation = self.audit.expectation
        release = expectation.release
        read = {release.endpoint_source}
        if release.endpoint_source_can_be_set and "feature_gates" not in expectation.settings.given:
            read = set(EndpointSource)
        sources = expectation.endpoint_sources
        return sources[0] if sources and not all(self.audit.cluster.has_kind(source.value) for source in read) else None

    def certain(self, expected: ExpectedServicePort, differences: list[Difference], source: EndpointSource) -> list[Difference]:
        """The differences that hold whichever objects kube-proxy read (KPR 2.7).

        Endpoints know one family, no hints, no terminating endpoints and no Service whose slices are made by hand; slices know Services
        that have no Endpoints. So endpoints that get nothing, and refusals, prove nothing; an endpoint that is known and not ready does.
        """
        kind = DifferenceKind
        key = (expected.name.namespace, expected.name.name)
        families = expected.service.spec.ip_families
        primary = not families or families[0] == f"IPv{expected.family}"
        known = {endpoint.text: endpoint for endpoint in (*expected.candidates.endpoints, *expected.candidates.unready)}
        if source is EndpointSource.ENDPOINTS and (key not in self.audit.cluster.endpoints or not primary):
            known = {}
        kept = []
        for one in differences:
            if one.kind in (kind.EXTRA_BACKEND, kind.FORWARDED):
                if one.endpoint in known and not known[one.endpoint].ready and not known[one.endpoint].terminating:
                    kept.append(one)
            elif one.kind in (kind.EXTRA_MASQUERADE, kind.MISSING_MASQUERADE, kind.LOST, kind.AFFINITY) or (
                one.kind is kind.UNTRANSLATED and known
            ):
                kept.append(one)
        return kept

    def questions(self, frontend: Frontend) -> Iterator[tuple[Vantage, str]]:
        """From where, and at which address, a frontend is judged."""
        if frontend.address is not None:
            for vantage in Vantage:
                yield vantage, frontend.address
            return
        for address in self.audit.node_port_addresses:
            if address.startswith("127."):
                yield Vantage.NODE, address
                continue
            for vantage in Vantage:
                yield vantage, address

    def admitted_source(self, expected: ExpectedServicePort) -> str:
        """An outside client's address that the source ranges admit."""
        return address_inside(expected.source_ranges[0])

    def note_unmasqueraded(
        self,
        expected: ExpectedServicePort,
        frontend: Frontend,
        vantage: Vantage,
        destination: str,
        want: Forwarding,
        seen: Observation,
    ) -> None:
        """Remember marked connections that leave the node with their source address; those that stay on it meet no POSTROUTING."""
        for outcome in seen.not_masqueraded:
            if (
                outcome.endpoint is not None
                and not self.audit.host.is_local(split_endpoint(outcome.endpoint)[0])
                and want.masquerade
            ):
                self.unmasqueraded.append((expected, Judgement(frontend, vantage, destination, want, seen, []), outcome))
                return

    def with_spec(self, expected: ExpectedServicePort, change: dict[str, object]) -> ExpectedServicePort:
        """The same service port if its Service's spec were different in what leaves it its ports (a policy)."""
        audit = self.audit
        service = msgspec.structs.replace(expected.service, spec=msgspec.structs.replace(expected.service.spec, **change))
        key = (expected.name.namespace, expected.name.name)
        # Its slices alone: a cluster sorts all that it has by their Services when it is first asked.
        slices = {(one.metadata.namespace, one.metadata.name): one for one in audit.cluster.slices_of(*key)}
        cluster = replace(audit.cluster, services={key: service}, slices=slices)
        what_if = expect(
            cluster,
            node=audit.expectation.node,
            family=audit.family,
            settings=audit.expectation.settings,
            release=audit.expectation.release,
            mode=audit.expectation.mode,
        )
        return next(one for one in what_if.service_ports if (one.name, one.protocol) == (expected.name, expected.protocol))

    def agrees(self, other: ExpectedServicePort) -> bool:
        """Whether the rules are right for `other` at every frontend that both have."""
        audit = self.audit
        for frontend in other.frontends:
            for vantage, destination in self.questions(frontend):
                guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and bool(other.source_ranges)
                source = None
                if guarded:
                    source = (
                        self.admitted_source(other)
                        if vantage is Vantage.OUTSIDE
                        else audit.clients.pod
                        if vantage is Vantage.POD
                        else audit.clients.node
                    )
                accepted = other.accepted(frontend, vantage, source)
                if not accepted:
                    continue
                packet = audit.clients.packet(
                    vantage, frontend.protocol, destination, frontend.port, source if vantage is Vantage.OUTSIDE else None
                )
                seen = observe(audit.evaluator, packet, audit.mark)
                if not any(equal(one, seen) for one in accepted):
                    return False
        return True


def address_inside(text: str, avoid: Sequence[str] = ()) -> str:
    """An address of a prefix, outside of the prefixes to avoid where that is possible."""
    where = ip_network(text, strict=False)
    narrower = [ip_network(one, strict=False) for one in avoid]
    first, last = int(where.network_address), int(where.broadcast_address)
    candidates = [first + 1 if last - first > 1 else first, first, last, (first + last) // 2]
    for one in narrower:
        candidates += [int(one.broadcast_address) + 1, int(one.network_address) - 1]
    make = type(where.network_address)
    for number in candidates:
        if first <= number <= last and not any(make(number) in one for one in narrower):
            return str(make(number))
    return str(make(first))
