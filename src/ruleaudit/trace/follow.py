"""The way of a connection, worked out: names, load balancers, the rules of each node that it meets, and who gets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from ruleaudit.addresses import canonical, family_of, known_family
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import Verdict, endpoint_text
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches
from ruleaudit.trace import balancers, ingresses
from ruleaudit.trace.holders import addresses_of
from ruleaudit.trace.hops import Branch, Follower, of_several
from ruleaudit.trace.question import Client, QuestionError, Target, client_of, node_addresses, parse_target
from ruleaudit.trace.summary import answer_of
from ruleaudit.trace.values import Outcome, Party, Step, StepKind, Trace
from ruleaudit.ways.names import Answer, Record, cluster_dns, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ruleaudit.cluster.objects import Service, ServicePort
    from ruleaudit.trace.nodes import Nodes
    from ruleaudit.ways.names import Resolution

__all__ = ["known_addresses", "trace"]

_FAMILIES: Final = {4: "IPv4", 6: "IPv6"}
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
Key = tuple[str, str]


def trace(nodes: Nodes, client: str, target: str, *, controller: str | None = None) -> Trace:
    """Follow a connection. `client` and `target` as --from and --to give them; `controller`: the Ingress controller, where the user names it.

    Raises QuestionError and UnknownNameError where they name nothing that can be followed.
    """
    return _Question(nodes, client_of(nodes, client), parse_target(target), controller).trace()


@dataclass(frozen=True, slots=True)
class _Place:
    """One address that is asked, with its port."""

    address: str
    port: int
    protocol: str


class _Question:
    """One --from and one --to."""

    def __init__(self, nodes: Nodes, client: Client, target: Target, controller: str | None) -> None:
        self.nodes, self.client, self.target, self.controller = nodes, client, target, controller
        self.cluster = nodes.cluster
        self.follower = Follower(nodes)
        self.notes: list[str] = [*nodes.notes, *client.notes]
        if not self.cluster.kinds:
            self.notes.append("no objects were given: names, pods, who is ready and what is asked for are not known")

    def trace(self) -> Trace:
        branch, party = self._branch()
        follower = self.follower
        found = Trace(
            node=self.nodes.first.name,
            client=self.client.party,
            target=party,
            steps=branch.steps,
            outcomes=branch.outcomes,
            expected=tuple(follower.wanted.expected),
            findings=tuple(follower.wanted.findings.values()),
            notes=tuple(dict.fromkeys(self.notes)),
            not_given=tuple(follower.not_given),
            conditions=tuple(follower.conditions),
        )
        return replace(found, answer=answer_of(found))

    def _branch(self) -> tuple[Branch, Party]:
        target = self.target
        if target.kind == "address":
            return self._address()
        if target.kind == "name":
            return self._name(target)
        assert target.url is not None
        address = family_of(target.host) is not None
        known = target.host in self.cluster.nodes or balancers.by_hostname(self.cluster, target.host) is not None
        if (address or known) and not ingresses.leads(self.cluster, target.url, self.controller):
            self.notes.append("no Ingress serves that URL there: it is followed as any connection to its address and port")
            return self._address() if address else self._name(target)
        if not address and not ingresses.serves(self.cluster, target.url):
            resolution = resolve(self.cluster, target.host, self.client.pod)
            if resolution.answer is Answer.ANSWERED:
                return self._name(target)
        return ingresses.through_ingress(self.follower, self.client, target.url, self.controller)

    # --- addresses ---

    def _address(self) -> tuple[Branch, Party]:
        target = self.target
        address, protocol = target.host, target.protocol
        services = list(self._services_at(address))
        if not services and target.port is None:
            self._require_port(address)
        port = self._port(target.port, protocol, services, address)
        if protocol is None:
            protocol = _protocol_of(port, services, self.cluster.services.values())
        branch = balancers.to_address(self.follower, self.client, address, port, protocol)
        self._require_known(address, branch)
        if services and not any(
            one.port == port and (one.protocol or "TCP") == protocol for each in services for one in each.spec.ports
        ):
            listed = _listed([(each, one) for each in services for one in each.spec.ports])
            names = ", ".join("/".join(each.metadata.key) for each in services)
            self.notes.append(f"{address} is an address of Service {names}, which has no port {port}/{protocol}: it has {listed}")
        key = self._service_of(address, port, protocol) or (services[0].metadata.key if services else None)
        return branch, Party(target.text, "address", (address,), service=key, port=port, protocol=protocol)

    def _require_port(self, address: str) -> None:
        """Raises QuestionError for an IPv6 address that nothing has and whose end may be a port: without brackets it is part of it."""
        head, _, tail = self.target.text.partition("/")[0].rpartition(":")
        if ":" in address and tail.isdigit() and canonical(head) is not None and address not in known_addresses(self.nodes):
            raise QuestionError(
                f"--to {self.target.text}: nothing has the address {address}; where {tail} is the port, write [{head}]:{tail}"
            )

    def _services_at(self, address: str) -> Iterable[Service]:
        """The Services that have an address, whatever it is to them."""
        return (one for one in self.cluster.services.values() if address in addresses_of(one))

    def _service_of(self, address: str, port: int, protocol: str) -> Key | None:
        for one in self.follower.wanted.expected:
            if one.frontend.port == port and one.frontend.protocol == protocol and one.frontend.address in (address, None):
                namespace, _, name = one.service.partition("/")
                return namespace, name
        return None

    def _port(self, port: int | str | None, protocol: str | None, services: list[Service], address: str) -> int:
        if isinstance(port, int):
            return port
        if (
            port is None
            and not services
            and any(address in node_addresses(one, known_family(address)) for one in self.nodes.models)
        ):
            raise QuestionError(
                f"--to {self.target.text}: {address} is a node's address; give a port, as {endpoint_text(address, 30080)}"
            )
        ports = [(service, one) for service in services for one in service.spec.ports]
        return _chosen(self.target.text, port, protocol, ports, f"{address}").port

    def _require_known(self, address: str, branch: Branch) -> None:
        """Raises UnknownNameError for an address that neither objects nor rules know: it is mistyped, or lies outside."""
        follower = self.follower
        if any(one.verdict is not Verdict.PASS for one in branch.outcomes) or follower.wanted.expected:
            return
        known = known_addresses(self.nodes)
        if address in known or not (self.cluster.services and self.cluster.nodes):  # nothing tells whose it may be
            return
        raise UnknownNameError(
            f"--to {self.target.text}: no Service, endpoint, pod or node has {address}, and no rule translates it"
            + did_you_mean(near_matches(address, known))
        )

    # --- names ---

    def _name(self, target: Target) -> tuple[Branch, Party]:
        if target.host.lower().rstrip(".") == "localhost":
            return self._loopback()
        balanced = balancers.by_hostname(self.cluster, target.host)
        if balanced is not None:
            service_port = self._service_port(target, [balanced])
            branch = balancers.through_hostname(self.follower, self.client, balanced, service_port, target.host)
            key, protocol = balanced.metadata.key, service_port.protocol or "TCP"
            return branch, Party(target.text, "name", (), service=key, port=service_port.port, protocol=protocol)
        node = self.cluster.nodes.get(target.host)
        if node is not None:
            return self._node_name(target, target.host)
        resolution = resolve(self.cluster, target.host, self.client.pod, dns=cluster_dns(self.cluster))
        if resolution.answer is not Answer.ANSWERED:
            return self._unanswered(target, resolution)
        places = self._places(target, resolution)
        families = self.client.addresses
        usable = [one for one in places if known_family(one.address) in families]
        left = [one.address for one in places if one not in usable]
        if left:
            self.notes.append(f"the client has no address of the family of {', '.join(left)}")
        if not usable:
            raise QuestionError(
                f"--to {target.text}: its addresses are {', '.join(left)}, and {self.client.name} has none of "
                f"{_FAMILIES[known_family(left[0])]}"
            )
        branches = []
        for place in usable:
            branch = balancers.to_address(self.follower, self.client, place.address, place.port, place.protocol)
            branches.append((f"by {place.address}", self._checked_headless(resolution, place, branch)))
        branch = of_several(branches)
        if len(usable) > 1:
            self.notes.append(
                "the name has several addresses: which of them the client takes is its own affair; all are followed"
            )
        step = self._dns_step(resolution, branch.steps)
        outcomes = branch.outcomes
        if resolution.certainty is Certainty.POSSIBLE:
            outcomes = tuple(replace(one, certainty=Certainty.POSSIBLE) for one in outcomes)
        addresses = tuple(dict.fromkeys(one.address for one in usable))
        first = usable[0]
        party = Party(target.text, "name", addresses, service=resolution.service, port=first.port, protocol=first.protocol)
        return Branch((step,), outcomes), party

    def _loopback(self) -> tuple[Branch, Party]:
        """The client itself, by the name that every resolver has: of a node, that is a way to its node ports."""
        target = self.target
        addresses = [_LOOPBACK[family] for family in self.client.addresses] or [_LOOPBACK[4]]
        if not isinstance(target.port, int):
            raise QuestionError(f"--to {target.text}: give a port, as localhost:30080")
        protocol = target.protocol or _protocol_of(target.port, [], self.cluster.services.values())
        branch = of_several(
            [(f"by {one}", balancers.to_address(self.follower, self.client, one, target.port, protocol)) for one in addresses]
        )
        step = Step(StepKind.DNS, f"localhost: {', '.join(addresses)}", steps=branch.steps)
        service = self._service_of(addresses[0], target.port, protocol)
        return Branch((step,), branch.outcomes), Party(
            target.text, "name", tuple(addresses), service=service, port=target.port, protocol=protocol
        )

    def _node_name(self, target: Target, name: str) -> tuple[Branch, Party]:
        node = self.cluster.nodes[name]
        if not isinstance(target.port, int):
            raise QuestionError(f"--to {target.text}: {name} is a node; give a port, as {name}:30080")
        protocol = target.protocol or _protocol_of(target.port, [], self.cluster.services.values())
        found = (canonical(one.address) for one in node.status.addresses if one.type in ("InternalIP", "ExternalIP"))
        addresses = [one for one in found if one is not None and known_family(one) in self.client.addresses]
        if not addresses:
            raise QuestionError(f"--to {target.text}: node {name} has no address that {self.client.name} could ask")
        branch = of_several(
            [(f"by {one}", balancers.to_address(self.follower, self.client, one, target.port, protocol)) for one in addresses[:2]]
        )
        step = Step(StepKind.DNS, f"{name} is a node: {', '.join(addresses[:2])}", steps=branch.steps)
        return Branch((step,), branch.outcomes), Party(
            target.text, "name", tuple(addresses), node=name, port=target.port, protocol=protocol
        )

    def _dns_step(self, resolution: Resolution, steps: tuple[Step, ...]) -> Step:
        asked = resolution.questions
        missed = [one for one in asked[:-1] if one.answer is Answer.NO_SUCH_NAME]
        text = f"name {resolution.name}: {_what(resolution)}"
        notes = [f"asked for first, and not there: {', '.join(one.name for one in missed)}"] if missed else []
        notes += list(resolution.notes)
        notes += [f"alias: {' -> '.join(resolution.aliases)}"] if resolution.aliases else []
        return Step(StepKind.DNS, text, certainty=resolution.certainty, notes=tuple(notes), steps=steps)

    def _places(self, target: Target, resolution: Resolution) -> list[_Place]:
        """The addresses to be asked, with the port at each."""
        service = self.cluster.services.get(resolution.service) if resolution.service is not None else None
        if resolution.record is Record.CLUSTER_IP and service is not None:
            if target.port is None and resolution.port is not None:
                one = next(each for each in service.spec.ports if each.port == resolution.port)
            else:
                one = self._service_port(target, [service])
            port, protocol = one.port, target.protocol or one.protocol or "TCP"
            return [_Place(each.address, port, protocol) for each in resolution.addresses]
        ports = dict.fromkeys((one.port, one.name.lower(), one.protocol) for one in resolution.targets)
        if isinstance(target.port, int):
            protocols = [one[2] for one in ports if one[0] == target.port]
            chosen = [(target.port, target.protocol or (protocols[0] if protocols and "TCP" not in protocols else "TCP"))]
        else:
            fitting = [
                (number, protocol)
                for number, name, protocol in ports
                if target.port in (None, name) and target.protocol in (None, protocol)
            ]
            chosen = list(dict.fromkeys(fitting))
        if len(chosen) != 1:
            listed = ", ".join(f"{number}/{protocol}{f' ({name})' if name else ''}" for number, name, protocol in ports)
            raise QuestionError(
                f"--to {target.text}: give a port"
                + (f"; endpoints of {'/'.join(resolution.service)} have {listed}" if resolution.service and listed else "")
            )
        port, protocol = chosen[0]
        return [_Place(each.address, port, protocol) for each in resolution.addresses]

    def _checked_headless(self, resolution: Resolution, place: _Place, branch: Branch) -> Branch:
        """A headless Service translates nothing: whoever asks for the Service's port instead of the pods' own meets nobody."""
        if resolution.record not in (Record.HEADLESS, Record.ENDPOINT) or not resolution.targets:
            return branch
        if any(one.port == place.port and one.protocol == place.protocol for one in resolution.targets):
            return branch
        there = ", ".join(dict.fromkeys(str(one.port) for one in resolution.targets))
        note = f"no rule translates the port of a headless Service: its endpoints listen on {there}, not on {place.port}"
        steps = tuple(replace(one, notes=(*one.notes, note)) for one in branch.steps)
        return Branch(steps, tuple(replace(one, reached=False) for one in branch.outcomes))

    def _service_port(self, target: Target, services: list[Service]) -> ServicePort:
        ports = [(service, one) for service in services for one in service.spec.ports]
        if isinstance(target.port, int):
            fitting = [one for _, one in ports if one.port == target.port and target.protocol in (None, one.protocol or "TCP")]
            if not fitting:  # the rules tell what becomes of it; that the Service lacks it is worth saying
                service = services[0]
                self.notes.append(
                    f"Service {'/'.join(service.metadata.key)} has no port {target.port}"
                    f"{f'/{target.protocol}' if target.protocol else ''}: it has {_listed(ports)}"
                )
                made = service.spec.ports[0] if service.spec.ports else None
                if made is None:
                    raise QuestionError(f"--to {target.text}: the Service has no ports")
                return msgspec.structs.replace(
                    made, port=target.port, name=None, node_port=None, protocol=target.protocol or "TCP"
                )
            return next((one for one in fitting if (one.protocol or "TCP") == "TCP"), fitting[0])
        return _chosen(target.text, target.port, target.protocol, ports, "/".join(services[0].metadata.key))

    def _unanswered(self, target: Target, resolution: Resolution) -> tuple[Branch, Party]:
        """A name without an address: one that leads outside is an answer, and so is a Service's or an endpoint's; any other is a mistake."""
        if resolution.record is Record.EXTERNAL_NAME or (resolution.service is not None and not resolution.mistyped):
            text = f"name {resolution.name}: {_what(resolution)}"
            certainty = Certainty.POSSIBLE if resolution.answer is Answer.UNKNOWN else resolution.certainty
            step = Step(StepKind.DNS, text, certainty=certainty, notes=resolution.notes)
            outcome = Outcome(None, 1.0, certainty=certainty, ending=_what(resolution))
            port = target.port if isinstance(target.port, int) else None
            return Branch((step,), (outcome,)), Party(
                target.text, "name", service=resolution.service, port=port, protocol=target.protocol
            )
        near = list(resolution.near)
        why = "; ".join(resolution.notes) or resolution.answer.value
        hosts = ingresses.hosts(self.cluster)
        hint = (
            f"; an Ingress serves that host: give https://{target.host}/" if target.host.lower() in hosts else did_you_mean(near)
        )
        raise UnknownNameError(f"--to {target.text}: the name has no address: {why}{hint}")


def _what(resolution: Resolution) -> str:
    """What a name turned out to be."""
    service = "/".join(resolution.service) if resolution.service is not None else ""
    addresses = ", ".join(dict.fromkeys(one.address for one in resolution.addresses))
    if resolution.answer is not Answer.ANSWERED:
        if resolution.record is Record.EXTERNAL_NAME and resolution.aliases:
            return f"ExternalName Service {service}, an alias of {resolution.aliases[-1]}"
        return f"{resolution.answer.value}{f' (Service {service})' if service else ''}"
    if resolution.record is Record.CLUSTER_IP:
        return f"Service {service}, cluster IP {addresses}"
    if resolution.record is Record.HEADLESS:
        return f"headless Service {service}, its endpoints {addresses}"
    if resolution.record is Record.ENDPOINT:
        return f"an endpoint of Service {service}, {addresses}"
    return addresses


def _listed(ports: list[tuple[Service, ServicePort]]) -> str:
    return ", ".join(f"{one.port}/{one.protocol or 'TCP'}{f' ({one.name})' if one.name else ''}" for _, one in ports) or "none"


def _chosen(
    text: str, port: int | str | None, protocol: str | None, ports: list[tuple[Service, ServicePort]], whose: str
) -> ServicePort:
    """The only port that is meant. Raises QuestionError, which lists what there is."""
    fitting = [
        one
        for _, one in ports
        if port in (None, (one.name or "").lower(), one.port) and protocol in (None, one.protocol or "TCP")
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not ports:
        raise QuestionError(f"--to {text}: give a port; no Service has {whose}")
    what = (
        "which port is not said"
        if port is None
        else f"there is no port {port!r}"
        if not fitting
        else f"port {port!r} is there more than once"
    )
    raise QuestionError(f"--to {text}: {what}; {whose} has {_listed(ports)}")


def _protocol_of(port: int, services: list[Service], every: Iterable[Service]) -> str:
    """The protocol of a port where --to names none: that of the Service port, or of the node port, TCP where there are several or none."""
    found = [one.protocol or "TCP" for service in services for one in service.spec.ports if one.port == port]
    found = found or [one.protocol or "TCP" for service in every for one in service.spec.ports if one.node_port == port]
    return found[0] if found and "TCP" not in found else "TCP"


def known_addresses(nodes: Nodes) -> set[str]:
    """Every address that objects know, canonical."""
    cluster = nodes.cluster
    known = set(cluster.pods_by_address)
    texts: list[str | None] = []
    for service in cluster.services.values():
        known |= addresses_of(service)
    for node in cluster.nodes.values():
        texts += [one.address for one in node.status.addresses]
    for piece in cluster.slices.values():
        texts += [address for one in piece.endpoints for address in one.addresses]
    for endpoints in cluster.endpoints.values():
        texts += [one.ip for subset in endpoints.subsets for one in (*subset.addresses, *subset.not_ready_addresses)]
    known.update(one for text in texts if (one := canonical(text)) is not None)
    return known
