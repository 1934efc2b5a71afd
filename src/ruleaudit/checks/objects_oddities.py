"""What the objects say of Services and Ingresses that lead nowhere (RA701, RA704). Neither is a fault of the node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Certainty, Finding, ObjectReference, Severity
from ruleaudit.near import did_you_mean, near_matches
from ruleaudit.ways.ingress import backend_of, ingress_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Pod, Service, ServicePort

__all__ = ["Oddity", "broken_ingress_backends", "services_without_pods"]


@dataclass(frozen=True, slots=True)
class Oddity:
    """One thing about the objects: the Service concerned ("namespace/name", None where it does not exist), its port's name, what is asked for
    and what is there, the objects, and what else tells it from others of its code (`subject`, for the fingerprint).
    """

    code: str
    message: str
    service: str | None
    port: str | None = None
    expected: str = ""
    observed: str = ""
    references: tuple[ObjectReference, ...] = ()
    subject: str = ""
    certainty: Certainty = Certainty.DEFINITE

    def finding(self, severity: Severity = Severity.INFO) -> Finding:
        """It as a finding, with the name and the hint of its code."""
        entry = CATALOGUE[self.code]
        return Finding(
            self.code,
            entry.name,
            severity,
            self.message,
            self.certainty,
            service=self.service,
            port=self.port,
            expected=self.expected,
            observed=self.observed,
            hint=entry.action,
            objects=self.references,
            subject=self.subject,
        )


# --- RA701 ---


def services_without_pods(cluster: Cluster) -> Iterator[Oddity]:
    """RA701: a Service whose selector matches no pod that runs, or whose named targetPort is declared by none of them.

    Silent without pods among the objects, where the Service has endpoints after all (somebody else made them, or the pods of its namespace
    were not given), for Services without a selector and ExternalNames. Pods that ran to their end are no endpoints; those that are not ready,
    or wait for a node, match. Headless Services need no port to have a name.
    """
    if not cluster.has_kind("Pod"):
        return
    endpoints = _EndpointPorts(cluster)
    labels = _Labels(cluster)
    for (namespace, name), service in cluster.services.items():
        spec = service.spec
        if not spec.selector or spec.type == "ExternalName" or service.metadata.deletion_timestamp:
            continue
        has = endpoints.of(namespace, name)
        pods = cluster.pods_selected_by(service)
        running = [pod for pod in pods if not pod.finished]
        reference = (ObjectReference("Service", namespace, name),)
        selector = _selector_text(spec.selector)
        if not running:
            if has:
                continue
            observed, certainty = _no_pod(labels, service, pods)
            message = f"the selector of Service {namespace}/{name} ({selector}) matches no pod that runs: {observed}"
            yield Oddity("RA701", message, f"{namespace}/{name}", None, selector, observed, reference, certainty=certainty)
            continue
        if spec.cluster_ip == "None":
            continue
        for port in spec.ports:
            if (port.name or "") not in has and not _resolves(port, running):
                yield _no_target(service, port, running, reference)


class _EndpointPorts:
    """The names of the ports for which Services have an endpoint, ready or not."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def of(self, namespace: str, name: str) -> frozenset[str]:
        slices = self.cluster.slices_of(namespace, name)
        found = {port.name or "" for entry in slices if any(one.addresses for one in entry.endpoints) for port in entry.ports}
        endpoints = self.cluster.endpoints.get((namespace, name))
        for subset in endpoints.subsets if endpoints is not None else ():
            if subset.addresses or subset.not_ready_addresses:
                found.update(port.name or "" for port in subset.ports)
        return frozenset(found)


class _Labels:
    """The labels of pods that run, by namespace, worked out when a Service is without pods."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """The namespaces of which pods were given."""
        return frozenset(namespace for namespace, _ in self.cluster.pods)

    @cached_property
    def by_namespace(self) -> Mapping[str, set[str]]:
        """As "name=value", label of every pod, by namespace."""
        found: dict[str, set[str]] = {}
        for pair, pods in self.by_label.items():
            for pod in pods:
                found.setdefault(pod.metadata.namespace, set()).add(pair)
        return found

    @cached_property
    def by_label(self) -> Mapping[str, list[Pod]]:
        """Pods by "name=value" of their labels."""
        found: dict[str, list[Pod]] = {}
        for pod in self.cluster.pods.values():
            if not pod.finished:
                for name, value in (pod.metadata.labels or {}).items():
                    found.setdefault(f"{name}={value}", []).append(pod)
        return found

    def elsewhere(self, service: Service) -> str | None:
        """A pod of another namespace that a Service's selector would match."""
        selector = service.spec.selector or {}
        held = min((self.by_label.get(f"{name}={value}", []) for name, value in selector.items()), key=len)
        fitting = (one for one in held if selector.items() <= (one.metadata.labels or {}).items())
        return min(("/".join(one.metadata.key) for one in fitting), default=None)


def _no_pod(labels: _Labels, service: Service, finished: tuple[Pod, ...]) -> tuple[str, Certainty]:
    """What is there instead of a pod, and how sure that is."""
    namespace = service.metadata.namespace
    if finished:
        names = ", ".join(f"{one.metadata.name} ({one.status.phase})" for one in finished[:3])
        return f"only {names}", Certainty.DEFINITE
    if namespace not in labels.namespaces:
        return f"no pod of namespace {namespace} is among the objects", Certainty.POSSIBLE
    elsewhere = labels.elsewhere(service)
    if elsewhere is not None:
        return f"{elsewhere} has these labels, in another namespace", Certainty.DEFINITE
    here = labels.by_namespace.get(namespace, set())
    missing = [pair for pair in (f"{name}={value}" for name, value in (service.spec.selector or {}).items()) if pair not in here]
    if not missing:
        return "no pod has all of these labels", Certainty.DEFINITE
    return f"no pod has {missing[0]}{did_you_mean(near_matches(missing[0], here, 1, 0.85))}", Certainty.DEFINITE


def _resolves(port: ServicePort, pods: list[Pod]) -> bool:
    """Whether a targetPort means a port of one of the pods, at least (k8s.io/component-helpers, FindPort): a number always does."""
    target = port.target_port
    if not isinstance(target, str) or not target:
        return True
    protocol = port.protocol or "TCP"
    return any(one.name == target and (one.protocol or "TCP") == protocol for pod in pods for one in pod.container_ports)


def _no_target(service: Service, port: ServicePort, pods: list[Pod], references: tuple[ObjectReference, ...]) -> Oddity:
    namespace, name = service.metadata.key
    protocol = port.protocol or "TCP"
    declared = {f"{one.name} ({one.protocol or 'TCP'})": one for pod in pods for one in pod.container_ports if one.name}
    there = ", ".join(sorted(declared)[:5]) or "none with a name"
    message = (
        f"targetPort {port.target_port!r} ({protocol}) of port {port.port} of Service {namespace}/{name} is a port of none of its "
        f"{len(pods)} pod{'s' if len(pods) > 1 else ''}, which declare {there}"
        + did_you_mean(near_matches(str(port.target_port), {one.name or "" for one in declared.values()}))
    )
    pod = ObjectReference("Pod", *pods[0].metadata.key)
    return Oddity(
        "RA701",
        message,
        f"{namespace}/{name}",
        port.name or None,
        f"a container port called {port.target_port} ({protocol})",
        there,
        (*references, pod),
        subject=f"{port.port}/{protocol}",
    )


def _selector_text(selector: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))


# --- RA704 ---


def broken_ingress_backends(cluster: Cluster) -> Iterator[Oddity]:
    """RA704: an Ingress names a Service or a port that does not exist, or that cannot serve HTTP.

    Silent without Services among the objects, and about resource backends. An ExternalName, and a Service of a namespace of which no Service
    was given, are possible faults only. A backend that several paths name is one oddity.
    """
    for (namespace, name), ingress in cluster.ingresses.items():
        if ingress.metadata.deletion_timestamp:
            continue
        said: dict[tuple[str, int | str | None], Oddity] = {}
        for path in ingress_paths(ingress):
            backend = backend_of(cluster, namespace, path.backend)
            key = backend.name, backend.port
            if not backend.broken or key in said:
                continue
            references = [ObjectReference("Ingress", namespace, name)]
            if backend.service is not None:
                references.append(ObjectReference("Service", namespace, backend.name))
            said[key] = Oddity(
                "RA704",
                f"Ingress {namespace}/{name} leads {path} to {backend}: {backend.message}",
                f"{namespace}/{backend.name}" if backend.service is not None else None,
                None,
                f"a Service port {backend}",
                backend.problem.value if backend.problem is not None else "",
                tuple(references),
                f"{namespace}/{name} {backend}",
                backend.certainty,
            )
        yield from said.values()
