"""What every check is given: one family of one node, observed and expected, and the way to write a finding down."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.ipvs import TABLE, IpvsEvaluator
from ruleaudit.findings import Certainty, Finding, Location, ObjectReference, Severity
from ruleaudit.kubeproxy.expected_sets import common_sets, expected_sets
from ruleaudit.signs import is_kube_proxy_chain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Node
    from ruleaudit.dataplane.ipvs import VirtualTable
    from ruleaudit.dataplane.packet import Host
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dataplane.vantage import Clients
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.dumps.lines import Lines
    from ruleaudit.dumps.rules import Table
    from ruleaudit.forwarding import Frontend
    from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort
    from ruleaudit.kubeproxy.expected_sets import SetExpectation
    from ruleaudit.kubeproxy.settings import ProxySettings
    from ruleaudit.signs import Hook, Signs

__all__ = ["FamilyAudit", "RulePlace", "is_own", "service_port_of", "trail_places"]

RulePlace = tuple[str, str, int]
"""(table, chain, line); line 0 stands for the chain itself, as its policy does."""

MAX_LOCATIONS = 12
_LONGEST_LINE = 300


@dataclass
class FamilyAudit:
    """One family of one node.

    `rules` are the node's, `repaired` the same with what node-wide findings name put right, so that each further finding has a
    cause of its own. `mark` is the masquerade mark. `node` None: not known. `node_port_addresses`: the node's addresses at which node ports
    are judged. In IPVS mode `virtual` holds the virtual servers. `listings`: the inputs beside rules in which places may lie, by the table
    that such places name ("ipvs", "ipset", "ip"). `other_expectations`: in IPVS mode, what other releases ask for that may as well be the
    node's. `only`: the one service port that is judged, None: all of them; `whole`: the audit of all of them, where `only` is set.
    """

    family: int
    cluster: Cluster
    tables: Sequence[Table]
    rules: Ruleset
    repaired: Ruleset
    host: Host
    signs: Signs
    settings: ProxySettings
    expectation: Expectation
    clients: Clients
    mark: int
    node: str | None
    node_object: Node | None
    node_port_addresses: tuple[str, ...]
    missing_hooks: tuple[Hook, ...]
    virtual: VirtualTable | None = None
    listings: Mapping[str, Lines] = field(default_factory=dict)
    other_expectations: tuple[Expectation, ...] = ()
    only: ExpectedServicePort | None = None
    whole: FamilyAudit | None = field(default=None, repr=False)

    @property
    def service_ports(self) -> Sequence[ExpectedServicePort]:
        """Those that are judged: all of the expectation's, or the only one."""
        return self.expectation.service_ports if self.only is None else (self.only,)

    def judges(self, expected: ExpectedServicePort) -> bool:
        """Whether a service port is judged; under another release it is another value."""
        return self.only is None or (expected.name, expected.protocol) == (self.only.name, self.only.protocol)

    def of_one(self, expected: ExpectedServicePort) -> FamilyAudit:
        """The same node, of which one service port alone is judged; all others stay known."""
        one = replace(self, only=expected, whole=self)
        one.__dict__["evaluator"] = self.evaluator
        return one

    @cached_property
    def endpoint_owners(self) -> Mapping[str, Collection[str]]:
        """The Services ("namespace/name") that each endpoint ("address:port") is of."""
        if self.whole is not None:
            return self.whole.endpoint_owners
        found: dict[str, set[str]] = defaultdict(set)
        for expected in self.expectation.service_ports:
            for endpoint in expected.candidates.endpoints:
                found[endpoint.text].add(f"{expected.name.namespace}/{expected.name.name}")
        return found

    def evaluator_of(self, rules: Ruleset) -> Evaluator:
        """An evaluator of other rules on this node."""
        return Evaluator(rules, self.host) if self.virtual is None else IpvsEvaluator(rules, self.host, self.virtual)

    @cached_property
    def evaluator(self) -> Evaluator:
        """The evaluator of the rules with node-wide faults put right."""
        return self.evaluator_of(self.repaired)

    @cached_property
    def sets_wanted(self) -> Mapping[str, SetExpectation]:
        """What the objects ask of the sets of the IPVS mode (KPR 9)."""
        if self.whole is not None:
            return self.whole.sets_wanted
        every = (self.expectation, *self.other_expectations)
        return common_sets([expected_sets(one, self.node_port_addresses) for one in every])

    def locations(self, places: Iterable[RulePlace]) -> tuple[Location, ...]:
        """The lines of the dump at these places, each once, in order; those that no dump holds are left out."""
        found: dict[tuple[str, int], Location] = {}
        for table, chain, line in places:
            listing = self.listings.get(table)
            if listing is not None:
                if 0 < line <= listing.line_count:
                    text = listing.text(line)
                    if len(text) > _LONGEST_LINE:  # JSON is often one line
                        text = text[:_LONGEST_LINE] + "..."
                    found.setdefault((listing.path, line), Location(listing.path, line, text))
                continue
            known = self.rules.chains(table).get(chain)
            if known is None or not self.rules.has_table(table):
                continue
            number = line or known.line
            if number <= 0:
                continue
            dump = self.rules.dump_of(table, chain)
            found.setdefault((dump.path, number), Location(dump.path, number, dump.text(number)))
            if len(found) >= MAX_LOCATIONS:
                break
        return tuple(found.values())

    def finding(
        self,
        code: str,
        message: str,
        *,
        severity: Severity | None = None,
        possible: bool = False,
        of: ExpectedServicePort | None = None,
        service: str | None = None,
        port: str | None = None,
        frontend: Frontend | None = None,
        endpoint: str | None = None,
        expected: str = "",
        observed: str = "",
        hint: str = "",
        places: Iterable[RulePlace] = (),
        objects: Iterable[ObjectReference] = (),
        subject: str = "",
        cause: str | None = None,
    ) -> Finding:
        """A finding of this node. `of` fills in the service, its port and its object. KeyError for a code the catalogue lacks."""
        entry = CATALOGUE[code]
        references = list(objects)
        if of is not None:
            service, port = f"{of.name.namespace}/{of.name.name}", of.name.port or None
            references.insert(0, ObjectReference("Service", of.name.namespace, of.name.name))
        return Finding(
            code=code,
            name=entry.name,
            severity=severity or entry.severity,
            message=message,
            certainty=Certainty.POSSIBLE if possible else Certainty.DEFINITE,
            node=self.node,
            service=service,
            port=port,
            frontend=frontend,
            endpoint=endpoint,
            expected=expected,
            observed=observed,
            hint=hint or entry.action,
            cause=cause,
            locations=self.locations(places),
            objects=tuple(dict.fromkeys(references)),
            subject=subject or ("" if service else f"IPv{self.family}"),
        )


def is_own(place: RulePlace) -> bool:
    """Whether kube-proxy wrote what stands at a place: one of its chains, or a virtual server."""
    return place[0] == TABLE or is_kube_proxy_chain(place[1])


def service_port_of(expected: ExpectedServicePort) -> str:
    """The service port's name as messages give it: namespace/name:port, with the protocol where the port has no name."""
    return f"{expected.name}" if expected.name.port else f"{expected.name} ({expected.port}/{expected.protocol})"


def trail_places(outcomes: Iterable[Outcome]) -> list[RulePlace]:
    """The rules that outcomes went through, each once, in order."""
    return list(dict.fromkeys(place for outcome in outcomes for place in outcome.trail))
