"""The third way: a URL to the Ingress that serves it, to its controller, and from there to the Service behind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical_address, family_of, known_family
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import endpoint_text
from ruleaudit.near import UnknownNameError, did_you_mean
from ruleaudit.trace.balancers import expected_port, straight, through_hostname, to_address
from ruleaudit.trace.holders import node_with
from ruleaudit.trace.hops import Branch, of_several, scaled, with_share
from ruleaudit.trace.question import QuestionError, client_of
from ruleaudit.trace.values import Outcome, Party, Step, StepKind
from ruleaudit.ways.ingress import BackendProblem, route
from ruleaudit.ways.ingress_controllers import EntryKind, find_controller

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Service, ServicePort
    from ruleaudit.trace.hops import Follower
    from ruleaudit.trace.question import Client
    from ruleaudit.ways.ingress import URL, Route
    from ruleaudit.ways.ingress_controllers import ControllerSearch, Entry

__all__ = ["hosts", "leads", "serves", "through_ingress"]

Key = tuple[str, str]
_ON_NODES = (EntryKind.HOST_NETWORK, EntryKind.HOST_PORT)


def serves(cluster: Cluster, url: URL) -> bool:
    """Whether some Ingress serves a URL by its host."""
    return any(not one.is_default or one.path.host for one in route(cluster, url).routes)


def leads(cluster: Cluster, url: URL, given: str | None) -> bool:
    """Whether some Ingress takes a URL at all, be it as a default backend; where it names an address, a controller must be there."""
    found = route(cluster, url).route
    if found is None or family_of(url.host) is None:
        return found is not None
    controller = find_controller(cluster, choice=found.choice, ingresses=[found.ingress], given=given).controller
    if controller is None:
        return True
    address = canonical_address(url.host, known_family(url.host))
    return any(one.port == url.port and address in one.addresses for one in controller.entries_for(url))


def hosts(cluster: Cluster) -> set[str]:
    """The hosts that Ingresses name."""
    return {(rule.host or "").lower() for one in cluster.ingresses.values() for rule in one.spec.rules} - {""}


def through_ingress(follower: Follower, client: Client, url: URL, given: str | None) -> tuple[Branch, Party]:
    """The way of a request for `url`. `given`: the controller where the user names it. Raises UnknownNameError where no Ingress serves it."""
    cluster = follower.cluster
    routing = route(cluster, url)
    found = routing.route
    if found is None:
        looked = "; ".join(routing.looked_at)
        raise UnknownNameError(f"--to {url}: no Ingress serves it: {looked}{did_you_mean(routing.near)}")
    search = find_controller(cluster, choice=found.choice, ingresses=[found.ingress], given=given)
    way = _Way(follower, client, url, found, search, routing.notes)
    backend = found.backend
    service = backend.service.metadata.key if backend.service is not None else None
    party = Party(str(url), "url", (), service=service, port=url.port, protocol="TCP")
    return way.branch(), party


def _some(texts: Sequence[str], most: int = 4) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _entry_text(entry: Entry) -> str:
    """A way into the controller, as steps name it."""
    whose = f" of Service {'/'.join(entry.service)}" if entry.service is not None else ""
    places = _some((*entry.addresses, *entry.hostnames))
    return {
        EntryKind.LOAD_BALANCER: f"the load balancer{whose} at {places}, port {entry.port}",
        EntryKind.EXTERNAL_IP: f"external IP {places}{whose}, port {entry.port}",
        EntryKind.NODE_PORT: f"node port {entry.port}{whose}",
        EntryKind.CLUSTER_IP: f"cluster IP {places}{whose}, port {entry.port}",
        EntryKind.HOST_NETWORK: f"port {entry.port} of the nodes on which it runs (host network)",
        EntryKind.HOST_PORT: f"port {entry.port} of the nodes on which it runs (host port)",
    }[entry.kind]


class _Way:
    """One URL and the Ingress path that serves it."""

    def __init__(
        self, follower: Follower, client: Client, url: URL, found: Route, search: ControllerSearch, notes: tuple[str, ...]
    ) -> None:
        self.follower, self.client, self.url, self.route, self.search = follower, client, url, found, search
        self.notes = notes
        self.cluster = follower.cluster
        self._behind: dict[Key, Branch] = {}

    def branch(self) -> Branch:
        """The whole way."""
        search = self.search
        if search.controller is None:
            return self._without_controller()
        controller = search.controller
        entries = [
            one
            for one in controller.entries_for(self.url)
            if self.client.model is not None or one.kind is not EntryKind.CLUSTER_IP
        ]
        names = f" ({' or '.join(controller.products)})" if controller.products else ""
        pods = ", ".join("/".join(one.metadata.key) for one in controller.pods[:4])
        more = f" and {len(controller.pods) - 4} more" if len(controller.pods) > 4 else ""
        where = f"Ingress controller{names}: {pods}{more}, found by {controller.found_by}"
        notes = [*search.notes, *self.notes]
        if not entries:
            notes.append(
                f"no way in for {self.url.scheme} on port {self.url.port} is known: what leads to its pods is not followed"
            )
            entry: Entry | None = None
            branch = of_several([(f"from {one.metadata.name}", self._from_pod(one.metadata.key)) for one in controller.pods])
            branch = Branch(branch.steps, scaled(branch.outcomes, 1.0, Certainty.POSSIBLE))
        else:
            entry, branch = self._entered(entries)
            branch = self._grafted(branch, {one.metadata.key for one in controller.pods})
        certainty = search.certainty
        if entry is not None:
            where += f"; reached by {_entry_text(entry)}"
            if entry.port != self.url.port:
                leads = f"port {self.url.port} to port {entry.port}"
                notes.append(f"something in front is to lead {leads}, which the objects do not show")
                self.follower.conditions[f"something in front leads {leads}"] = None
        step = Step(StepKind.CONTROLLER, where, certainty=certainty, notes=tuple(dict.fromkeys(notes)), steps=branch.steps)
        return Branch((self._name_step(entry, (step,)),), scaled(branch.outcomes, 1.0, certainty))

    def _name_step(self, entry: Entry | None, steps: tuple[Step, ...]) -> Step:
        places = (*entry.addresses, *entry.hostnames) if entry is not None else ()
        to = f"is to lead to {_some(places)}" if places else "leads somewhere that the objects do not show"
        text = f"name {self.url.host}: DNS outside of the cluster {to}"
        return Step(StepKind.DNS, text, steps=steps)

    def _without_controller(self) -> Branch:
        """The controller is not in the cluster, or was not found: from there on it is as the objects have it."""
        search = self.search
        if search.outside:
            text, notes = f"Ingress controller: {search.outside}", search.notes
        else:
            text = "Ingress controller: not found; --controller NAMESPACE/NAME names it"
            notes = (*(f"looked at: {one}" for one in search.looked_at), *search.notes)
        behind = self._at_controller(None)
        step = Step(StepKind.CONTROLLER, text, certainty=Certainty.POSSIBLE, notes=(*notes, *self.notes), steps=behind.steps)
        return Branch((self._name_step(None, (step,)),), scaled(behind.outcomes, 1.0, Certainty.POSSIBLE))

    # --- to the controller ---

    def _entered(self, entries: Sequence[Entry]) -> tuple[Entry, Branch]:
        """By the first way in that can be followed; on the host network by every node that was given."""
        problems = []
        for entry in entries:
            try:
                if entry.kind in _ON_NODES:
                    alike = [one for one in entries if one.kind is entry.kind and one.port == entry.port]
                    everywhere = dict.fromkeys(address for one in alike for address in one.addresses)
                    return replace(entry, addresses=tuple(everywhere)), self._on_nodes(alike)
                return entry, self._by_service(entry)
            except QuestionError as error:
                problems.append(str(error))
        raise QuestionError(
            f"--to {self.url}: no way to the Ingress controller can be followed: {'; '.join(dict.fromkeys(problems))}"
        )

    def _families(self, addresses: Sequence[str]) -> list[str]:
        return [one for one in addresses if known_family(one) in self.client.addresses]

    def _by_service(self, entry: Entry) -> Branch:
        addresses = self._families(entry.addresses)
        if entry.kind is EntryKind.NODE_PORT:
            given = {one.name for one in self.follower.nodes.models}
            owners = {one: node_with(self.cluster, one) for one in addresses}
            self._not_given(owner for owner in owners.values() if owner not in given)
            addresses = [one for one, owner in owners.items() if owner in given]
        if not addresses:
            service = self.cluster.services.get(entry.service) if entry.service is not None else None
            if entry.hostnames and service is not None and entry.service_port is not None:
                return through_hostname(self.follower, self.client, service, entry.service_port, entry.hostnames[0])
            raise QuestionError(f"{entry}: no address that {self.client.name} could ask")
        return of_several([(f"by {one}", to_address(self.follower, self.client, one, entry.port, "TCP")) for one in addresses])

    def _on_nodes(self, entries: Sequence[Entry]) -> Branch:
        nodes = self.follower.nodes
        every = [nodes.first.name] if nodes.chosen else [one.name for one in nodes.models]
        branches = [
            (f"by {address}", to_address(self.follower, self.client, address, one.port, "TCP"))
            for one in entries
            if one.node in every
            for address in self._families(one.addresses)[:1]
        ]
        if not branches:
            there = ", ".join(dict.fromkeys(str(one.node) for one in entries))
            raise QuestionError(f"the controller listens on {there}, whose dumps were not given")
        self._not_given(one.node for one in entries if one.node not in every)
        return of_several(branches)

    def _not_given(self, names: Iterable[str | None]) -> None:
        """Note nodes by which a request may come in, too, and whose rules are not known."""
        self.follower.not_given.update(dict.fromkeys(one for one in names if one is not None))

    # --- from the controller ---

    def _grafted(self, branch: Branch, pods: set[Key]) -> Branch:
        """What follows the controller's pods, where a step ends at one of them."""

        def grown(step: Step) -> Step:
            if step.steps:
                return replace(step, steps=tuple(grown(one) for one in step.steps))
            who = step.endpoint
            if step.kind is StepKind.BACKEND and who is not None and who.pod in pods and who.pod is not None:
                return replace(step, steps=with_share(self._from_pod(who.pod).steps, step.share))
            return step

        outcomes: list[Outcome] = []
        for one in branch.outcomes:
            pod = one.endpoint.pod if one.endpoint is not None else None
            if pod is not None and pod in pods and one.reached:
                outcomes += (
                    replace(each, rules=(*one.rules, *each.rules), way=(*one.way, *each.way))
                    for each in scaled(self._from_pod(pod).outcomes, one.share, one.certainty)
                )
            else:
                outcomes.append(replace(one, reached=False))
        return Branch(tuple(grown(one) for one in branch.steps), tuple(outcomes))

    def _from_pod(self, pod: Key) -> Branch:
        known = self._behind.get(pod)
        if known is None:
            known = self._behind[pod] = self._at_controller(pod)
        return known

    def _at_controller(self, pod: Key | None) -> Branch:
        """The rule that serves the URL, and the ways on from a pod of the controller (None: from somewhere)."""
        found, backend = self.route, self.route.backend
        namespace, name = found.ingress.metadata.key
        notes = list(found.notes)
        if found.choice.name is not None:
            notes.insert(0, f"class {found.choice.name}, by {found.choice.source}")
        if found.tls is not None:
            secret = f", Secret {namespace}/{found.tls.secret_name}" if found.tls.secret_name else ""
            notes.append(f"TLS entry for {', '.join(found.tls.hosts) or 'every host'}{secret}")
        kind = f" ({found.path.path_type})" if found.path.path_type else ""
        text = f"Ingress {namespace}/{name}, {found.path}{kind}: to {backend.described}"
        remarks = self.follower.wanted.oddities_of_ingress((namespace, name), backend)
        if backend.service is None or backend.service_port is None or backend.problem is not None:
            ways = self._nowhere()
        else:
            remarks += self.follower.wanted.oddities_of(backend.service.metadata.key)
            ways = self._ways(pod, backend.service, backend.service_port)
        step = Step(
            StepKind.INGRESS, text, certainty=found.certainty, notes=tuple(notes), remarks=tuple(remarks), steps=ways.steps
        )
        return Branch((step,), scaled(ways.outcomes, 1.0, found.certainty))

    def _nowhere(self) -> Branch:
        backend = self.route.backend
        certainty = (
            Certainty.POSSIBLE
            if backend.problem in (BackendProblem.RESOURCE, BackendProblem.UNKNOWN, BackendProblem.EXTERNAL_NAME)
            else Certainty.DEFINITE
        )
        text = (
            f"the controller answers itself, with an error: {backend.message}"
            if certainty is Certainty.DEFINITE
            else backend.message
        )
        step = Step(StepKind.END, text, certainty=certainty)
        definite = certainty is Certainty.DEFINITE
        ending = f"answered by the controller with an error: {backend.message}" if definite else backend.message
        return Branch((step,), (Outcome(None, 1.0, certainty=certainty, ending=ending),))

    def _ways(self, pod: Key | None, service: Service, port: ServicePort) -> Branch:
        """By the Service's cluster IP, and straight to its endpoints."""
        name = "/".join(service.metadata.key)
        client: Client | None = None
        note = ""
        if pod is not None:
            try:
                client = client_of(self.follower.nodes, f"pod/{'/'.join(pod)}")
            except QuestionError:
                node = self.cluster.pods[pod].spec.node_name
                self.follower.not_given[str(node)] = None
                note = f"the rules of node {node}, on which this pod of the controller runs, were not given: its way on is as the objects have it"
        if client is None:
            behind = straight(self.follower, service, port, self._family_of(service))
            way = Step(StepKind.WAY, f"to the endpoints of {name}", notes=(note,) if note else (), steps=behind.steps)
            certainty = Certainty.DEFINITE if pod is not None else Certainty.POSSIBLE
            return Branch((way,), tuple(replace(one, certainty=certainty) for one in behind.outcomes))
        ways: list[tuple[str, Branch]] = []
        addresses = [
            one
            for one in (service.spec.cluster_ips or ((service.spec.cluster_ip,) if service.spec.cluster_ip else ()))
            if one and one != "None"
        ]
        usable = [one for one in addresses if known_family(one) in client.addresses][:1]
        protocol = port.protocol or "TCP"
        if usable:
            branch = to_address(self.follower, client, usable[0], port.port, protocol)
            step = Step(StepKind.WAY, f"by Service {name}: {endpoint_text(usable[0], port.port)}", steps=branch.steps)
            ways.append(("by the Service", Branch((step,), branch.outcomes)))
        family = known_family(usable[0]) if usable else next(iter(client.addresses))
        expected = expected_port(self.follower, service, port, family)
        ready = [one for one in (expected.candidates.endpoints if expected is not None else ()) if one.ready]
        if ready:
            part = 1 / len(ready)  # controllers spread connections themselves, as a rule evenly
            each = [to_address(self.follower, client, one.address, one.port, protocol) for one in ready]
            branch = Branch(
                tuple(step for one in each for step in with_share(one.steps, part)),
                tuple(outcome for one in each for outcome in scaled(one.outcomes, part)),
            )
        else:
            branch = straight(self.follower, service, port, family)
        step = Step(StepKind.WAY, "straight to its endpoints, as most controllers do", steps=branch.steps)
        ways.append(("straight to its endpoints", Branch((step,), branch.outcomes)))
        return Branch(tuple(step for _, one in ways for step in one.steps), of_several(ways).outcomes)

    def _family_of(self, service: Service) -> int:
        served = self.follower.nodes.first.families
        address = next((one for one in (*service.spec.cluster_ips, service.spec.cluster_ip or "") if one and one != "None"), "")
        family = known_family(address)
        return family if family in served or not served else served[0]
