"""To an address from wherever the client is: load balancers in front, and the nodes that they may bring a connection to."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical, known_family
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict, endpoint_text
from ruleaudit.trace.holders import node_with, where_text
from ruleaudit.trace.hops import Branch, Follower, Sender, of_several, scaled, with_share
from ruleaudit.trace.question import QuestionError, node_addresses
from ruleaudit.trace.values import Endpoint, Outcome, Step, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.audit import NodeModel
    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import LoadBalancerIngress, Service, ServicePort
    from ruleaudit.kubeproxy.expect import ExpectedServicePort
    from ruleaudit.trace.question import Client

__all__ = ["by_hostname", "expected_port", "straight", "through_hostname", "to_address"]


def to_address(follower: Follower, client: Client, address: str, port: int, protocol: str) -> Branch:
    """A connection of `client` to an address. Raises QuestionError where the node that it meets first was not given."""
    branch = _to_address(follower, client, address, port, protocol)
    if client.model is None and client.party.node is not None:  # a node or a pod of one, whose own rules come first
        return replace(branch, outcomes=scaled(branch.outcomes, 1.0, Certainty.POSSIBLE))
    return branch


def _to_address(follower: Follower, client: Client, address: str, port: int, protocol: str) -> Branch:
    family = known_family(address)
    if family not in client.addresses and client.addresses:
        if client.model is not None and client.pod is None:
            node = client.model.name or "(name not known)"
            raise QuestionError(
                f"--to {endpoint_text(address, port)}: no IPv{family} rules of kube-proxy are known of node {node}"
            )
        raise QuestionError(f"{client.name} has no IPv{family} address, and {address} is one")
    if not client.on_node and ip_address(address).is_loopback:
        raise QuestionError(
            f"--to {endpoint_text(address, port)} is {client.name} itself: a loopback address leads nobody to a node; "
            "give the node's own address, or --from node"
        )
    source = client.addresses.get(family)
    if client.model is not None:
        sender = Sender(
            Vantage.NODE if client.on_node else Vantage.POD, None if client.on_node and client.pod is not None else source
        )
        branch = follower.at_node(client.model, sender, address, port, protocol)
        return _beyond(follower, client, branch, address, port, protocol)
    sender = Sender(Vantage.OUTSIDE, source, inside=client.party.node is not None)
    for service, ingress, service_port in _balancers(follower.cluster, address, port, protocol):
        if ingress.ip_mode == "Proxy":
            return _proxied(follower, service, service_port, ingress, family)
        return _brought(follower, sender, service, service_port, address, protocol)
    owner = _owner(follower, address)
    if owner is not None:
        return follower.at_node(owner, sender, address, port, protocol)
    named = node_with(follower.cluster, address)
    if named is not None and follower.nodes.named(named) is not None:
        raise QuestionError(f"--to {endpoint_text(address, port)}: no IPv{family} rules of kube-proxy are known of node {named}")
    if named is not None:
        hint = (
            "name it with --node if the dump is its"
            if follower.nodes.first.name is None
            else "give the folder of its capture as well"
        )
        raise QuestionError(f"--to {endpoint_text(address, port)} is node {named}, whose dumps were not given; {hint}")
    pods = [one for one in follower.cluster.pods_at(address) if not one.finished]
    model = (follower.nodes.named(pods[0].spec.node_name) if pods else None) or follower.nodes.first
    branch = follower.at_node(model, sender, address, port, protocol)
    frontend = next((one.frontend for one in reversed(follower.wanted.expected) if one.frontend.address == address), None)
    if frontend is None:
        return branch
    if frontend.kind is FrontendKind.CLUSTER_IP:
        if client.party.node is not None:
            note = f"the rules of node {client.party.node} meet it first: this is what happens if they leave it as it is, and it is led here"
        else:
            note = "outside of the cluster a cluster IP is led to no node, as a rule: this is what happens if it is led here"
    else:
        note = f"the network outside leads {address} to a node, which the objects do not show; this is what happens here"
    follower.conditions[f"the network leads {address} to {model.name or 'this node'}"] = None
    return replace(branch, steps=tuple(replace(one, notes=(*one.notes, note)) for one in branch.steps))


def _owner(follower: Follower, address: str) -> NodeModel | None:
    family = known_family(address)
    return next((one for one in follower.nodes.models if address in node_addresses(one, family)), None)


def _balancers(
    cluster: Cluster, address: str, port: int, protocol: str
) -> Iterator[tuple[Service, LoadBalancerIngress, ServicePort]]:
    """The load balancers that have an address, and the Service port at that port."""
    for service in cluster.services.values():
        if service.spec.type != "LoadBalancer":
            continue
        for one in service.status.load_balancer.ingress:
            if canonical(one.ip) != address:
                continue
            for each in service.spec.ports:
                if each.port == port and (each.protocol or "TCP") == protocol:
                    yield service, one, each


def by_hostname(cluster: Cluster, host: str) -> Service | None:
    """The Service whose load balancer has a host name."""
    wanted = host.rstrip(".").lower()
    for service in cluster.services.values():
        if any((one.hostname or "").rstrip(".").lower() == wanted for one in service.status.load_balancer.ingress):
            return service
    return None


def through_hostname(follower: Follower, client: Client, service: Service, port: ServicePort, host: str) -> Branch:
    """A load balancer that has a name only: where it stands is not known, so it is taken to bring connections to node ports, as with ipMode
    Proxy. From the cluster, too, connections go to it first.
    """
    families = [one for one in client.addresses if one in follower.nodes.first.families] or [4]
    return _proxied(follower, service, port, None, families[0], host)


def _beyond(follower: Follower, client: Client, branch: Branch, address: str, port: int, protocol: str) -> Branch:
    """What leaves the client's node untranslated for a load balancer: it comes back from there."""
    for service, ingress, service_port in _balancers(follower.cluster, address, port, protocol):
        passed = [one for one in branch.outcomes if one.verdict is Verdict.PASS]
        if not passed:
            return branch
        if ingress.ip_mode == "Proxy":
            behind = _proxied(follower, service, service_port, ingress, known_family(address))
        else:
            behind = _brought(
                follower,
                Sender(Vantage.OUTSIDE, client.addresses.get(known_family(address)), inside=True),
                service,
                service_port,
                address,
                protocol,
            )
        outcomes = [one for one in branch.outcomes if one.verdict is not Verdict.PASS]
        outcomes += scaled(behind.outcomes, sum(one.share for one in passed))
        steps = tuple(_appended(one, behind.steps) for one in branch.steps)
        return Branch(steps, tuple(outcomes))
    return branch


def _appended(step: Step, behind: tuple[Step, ...]) -> Step:
    """The steps behind everything that was routed on."""
    if step.kind is StepKind.ROUTED_ON and not step.steps:
        return replace(step, steps=with_share(behind, step.share))
    return replace(step, steps=tuple(_appended(one, behind) for one in step.steps))


def _brought(follower: Follower, sender: Sender, service: Service, port: ServicePort, address: str, protocol: str) -> Branch:
    """A load balancer that brings packets to a node as they are (ipMode VIP, which is the default)."""
    name = "/".join(service.metadata.key)
    models, notes, certainty = _nodes_behind(follower, service, port, known_family(address))
    branch = of_several([(f"at {one.name}", follower.at_node(one, sender, address, port.port, protocol)) for one in models])
    text = f"load balancer of Service {name}: brings {endpoint_text(address, port.port)} to a node, addresses unchanged"
    step = Step(StepKind.LOAD_BALANCER, text, certainty=certainty, notes=tuple(notes), steps=branch.steps)
    return Branch((step,), scaled(branch.outcomes, 1.0, certainty))


def _proxied(
    follower: Follower, service: Service, port: ServicePort, ingress: LoadBalancerIngress | None, family: int, host: str = ""
) -> Branch:
    """A load balancer that connects to nodes, or to pods, itself: with ipMode Proxy, or known by a name only."""
    name = "/".join(service.metadata.key)
    protocol = port.protocol or "TCP"
    where = host if ingress is None else ingress.ip or ""
    lead = f"load balancer of Service {name} at {where}"
    if not port.node_port:
        ends = straight(follower, service, port, family)
        text = f"{lead}: the Service has no node port, so it connects to pods itself"
        step = Step(StepKind.LOAD_BALANCER, text, certainty=Certainty.POSSIBLE, steps=ends.steps)
        return Branch((step,), scaled(ends.outcomes, 1.0, Certainty.POSSIBLE))
    models, notes, certainty = _nodes_behind(follower, service, port, family)
    branches = []
    for one in models:
        address = next(iter(node_addresses(one, family)), None)
        if address is not None:
            branches.append((f"at {one.name}", follower.at_node(one, Sender(Vantage.OUTSIDE), address, port.node_port, protocol)))
    if not branches:
        raise QuestionError(f"{lead}: no address of a node in IPv{family} is known to which it could connect")
    branch = of_several(branches)
    if ingress is None:
        notes = [
            "it has a name only, so how it reaches the nodes is not known: it is taken to connect to their node ports",
            *notes,
        ]
        certainty = Certainty.POSSIBLE
    text = f"{lead}: connects to node port {port.node_port} of a node itself, with an address of its own"
    step = Step(StepKind.LOAD_BALANCER, text, certainty=certainty, notes=tuple(notes), steps=branch.steps)
    return Branch((step,), scaled(branch.outcomes, 1.0, certainty))


def straight(follower: Follower, service: Service, port: ServicePort, family: int) -> Branch:
    """To the ready endpoints of a Service port themselves, past all rules of Services."""
    expected = expected_port(follower, service, port, family)
    ready = [one for one in (expected.candidates.endpoints if expected is not None else ()) if one.ready]
    if not ready:
        text = f"Service {'/'.join(service.metadata.key)} has no ready endpoint"
        return Branch((Step(StepKind.END, text),), (Outcome(None, 1.0, ending=f"sent to nobody: {text}"),))
    share = 1 / len(ready)
    steps, outcomes = [], []
    for one in ready:
        pod = (one.target[0] or service.metadata.namespace, one.target[1]) if one.target is not None else None
        who = Endpoint(one.address, one.port, pod, one.node_name, True)
        text = f"to {one.text}, {where_text(follower.cluster, who, None)}"
        steps.append(Step(StepKind.BACKEND, text, one.node_name, share, endpoint=who))
        outcomes.append(
            Outcome(
                Verdict.FORWARD,
                share,
                (one.address, one.port, port.protocol or "TCP"),
                who,
                None,
                Certainty.POSSIBLE,
                reached=True,
            )
        )
    return Branch(tuple(steps), tuple(outcomes))


def expected_port(follower: Follower, service: Service, port: ServicePort, family: int) -> ExpectedServicePort | None:
    """What the objects ask for of a Service port, on the first node."""
    found = follower.nodes.first.family(family)
    if found is None:
        return None
    key = (service.metadata.namespace, service.metadata.name, port.name or "")
    return next(
        (
            one
            for one in found.audit.expectation.service_ports
            if tuple(one.name) == key and one.protocol == (port.protocol or "TCP") and one.port == port.port
        ),
        None,
    )


def _nodes_behind(
    follower: Follower, service: Service, port: ServicePort, family: int
) -> tuple[Sequence[NodeModel], list[str], Certainty]:
    """The nodes, of those given, to which a load balancer may bring connections, and what is known of the others; possible where it is to
    use others only.
    """
    nodes = follower.nodes
    every = (nodes.first,) if nodes.chosen else nodes.models
    expected = expected_port(follower, service, port, family)
    if service.spec.external_traffic_policy != "Local":
        others = sorted(name for name in follower.cluster.nodes if name not in {one.name for one in every})
        notes = [f"it may use every node (externalTrafficPolicy {service.spec.external_traffic_policy or 'Cluster'})"]
        if others:
            follower.not_given.update(dict.fromkeys(others))
            notes.append(f"followed on {', '.join(str(one.name) for one in every)} only, not on {_some(others)}")
        return every, notes, Certainty.DEFINITE
    holding: dict[str, None] = {}
    for one in expected.candidates.endpoints if expected is not None else ():
        if one.ready and one.node_name:
            holding[one.node_name] = None
    there = _some(sorted(holding)) if holding else "none"
    check = service.spec.health_check_node_port
    how = f"their health check on port {check} says so" if check else "no health check node port tells it"
    notes = [f"externalTrafficPolicy Local: it is to use nodes with a ready endpoint: {there} ({how})"]
    using = [one for one in every if one.name in holding]
    left = sorted(holding.keys() - {one.name for one in using})
    if using and left:
        follower.not_given.update(dict.fromkeys(left))
        notes.append(f"followed on {', '.join(str(one.name) for one in using)} only, not on {_some(left)}")
    if not using:
        follower.not_given.update(dict.fromkeys(left))
        notes.append(
            f"it does not use {' or '.join(str(one.name) for one in every)}: this is what happens if a connection comes there all the same"
        )
        return every, notes, Certainty.POSSIBLE if left else Certainty.DEFINITE
    return using, notes, Certainty.DEFINITE


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
