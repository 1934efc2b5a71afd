"""The controller behind an Ingress: which pods, and how they are reached from outside. Found from the objects alone.

A table of well-known controllers says which labels the pods of each carry; the status of Ingresses, which controllers write, tells their
Services. Everything that was looked at is kept, so that "not found" can say so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import canonical, known_family
from ruleaudit.findings import Certainty
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Ingress, Pod, Service, ServicePort
    from ruleaudit.ways.ingress import URL, ClassChoice

__all__ = [
    "Controller",
    "ControllerSearch",
    "Entry",
    "EntryKind",
    "Product",
    "find_controller",
    "known_controller",
    "known_products",
]

Key = tuple[str, str]


# --- Well-known controllers ---


class Product(NamedTuple):
    """A controller that many clusters run.

    `controllers`: what IngressClasses name it by, alone or followed by "/..." or "-...". `classes`: the class names that it takes by custom.
    `labels`: each a set of labels that its pods carry. `outside`: why it has no pods to lead to, "" where it has.
    """

    name: str
    controllers: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[Mapping[str, str], ...] = ()
    outside: str = ""


_NAME: Final = "app.kubernetes.io/name"
_BALANCER: Final = "the cloud's load balancer serves it, outside of the cluster"
_PRODUCTS: Final = (
    Product(
        "ingress-nginx",
        ("k8s.io/ingress-nginx", "k8s.io/internal-ingress-nginx", "webapprouting.kubernetes.azure.com/nginx"),
        ("nginx",),
        (
            {_NAME: "ingress-nginx"},
            {_NAME: "rke2-ingress-nginx"},
            {"app": "ingress-nginx"},
            {"name": "nginx-ingress-microk8s"},
            {"app": "nginx-ingress", "component": "controller"},
        ),
    ),
    Product(
        "NGINX Ingress Controller",
        ("nginx.org/ingress-controller",),
        ("nginx",),
        ({_NAME: "nginx-ingress"}, {"app": "nginx-ingress"}),
    ),
    Product(
        "Traefik",
        ("traefik.io/ingress-controller",),
        ("traefik",),
        ({_NAME: "traefik"}, {"app": "traefik"}, {"k8s-app": "traefik-ingress-lb"}),
    ),
    Product(
        "HAProxy Ingress",
        ("haproxy-ingress.github.io/controller",),
        ("haproxy",),
        ({_NAME: "haproxy-ingress"}, {"run": "haproxy-ingress"}),
    ),
    Product(
        "HAProxy Kubernetes Ingress Controller",
        ("haproxy.org/ingress-controller",),
        ("haproxy",),
        ({_NAME: "kubernetes-ingress"}, {"run": "haproxy-ingress"}),
    ),
    Product(
        "Contour",
        ("projectcontour.io/ingress-controller", "projectcontour.io"),
        ("contour",),
        # Contour itself only configures: Envoy serves.
        ({"app": "envoy"}, {_NAME: "contour", "app.kubernetes.io/component": "envoy"}),
    ),
    Product(
        "Emissary",
        ("getambassador.io/ingress-controller",),
        ("ambassador",),
        ({_NAME: "emissary-ingress"}, {_NAME: "ambassador"}, {_NAME: "edge-stack"}, {"service": "ambassador"}),
    ),
    Product(
        "Kong",
        ("ingress-controllers.konghq.com/kong",),
        ("kong",),
        ({_NAME: "kong"}, {"app": "ingress-kong"}, {"app": "proxy-kong"}, {"app": "kong"}),
    ),
    Product(
        "Istio",
        ("istio.io/ingress-controller",),
        ("istio",),
        ({"istio": "ingressgateway"}, {"app": "istio-ingressgateway"}, {"app": "istio-ingress"}),
    ),
    Product(
        "OpenShift router",
        ("openshift.io/ingress-to-route",),
        ("openshift-default",),
        ({"ingresscontroller.operator.openshift.io/deployment-ingresscontroller": "default"},),
    ),
    Product(
        "Cilium", ("cilium.io/ingress-controller",), ("cilium",), outside="Cilium's agent serves it on every node, past the rules"
    ),
    Product("GCE", ("k8s.io/ingress-gce", "networking.gke.io/ingress-controller"), ("gce", "gce-internal"), outside=_BALANCER),
    Product("AWS Load Balancer Controller", ("ingress.k8s.aws/alb", "eks.amazonaws.com/alb"), ("alb",), outside=_BALANCER),
    Product(
        "Azure Application Gateway",
        ("azure/application-gateway", "alb.networking.azure.io/alb-controller"),
        ("azure/application-gateway", "azure-application-gateway"),
        outside=_BALANCER,
    ),
)
_NOT_SERVING: Final[frozenset[str | None]] = frozenset(
    ("default-backend", "defaultbackend", "admission-webhook", "contour", "certgen")
)
"""Values of component labels of pods that belong to a controller and serve no Ingress."""


def known_products(controller: str | None, class_name: str | None) -> tuple[Product, ...]:
    """The well-known controllers that an IngressClass's spec.controller means; without one, those that a class name stands for by custom."""
    if controller:
        name = known_controller(controller)
        return tuple(one for one in _PRODUCTS if name in one.controllers)
    return tuple(one for one in _PRODUCTS if class_name in one.classes) if class_name else ()


def known_controller(controller: str) -> str | None:
    """The name of a well-known controller that a spec.controller is, or begins with; None where it is another one."""
    found = [name for one in _PRODUCTS for name in one.controllers if re.match(rf"{re.escape(name)}(?:$|[/-])", controller)]
    return max(found, key=len, default=None)


# --- What is found ---


class EntryKind(str, Enum):
    """How a client outside comes to a controller."""

    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_IP = "ExternalIP"
    NODE_PORT = "NodePort"
    CLUSTER_IP = "ClusterIP"
    """Reached from within the cluster only."""
    HOST_NETWORK = "HostNetwork"
    HOST_PORT = "HostPort"

    @property
    def through_service(self) -> bool:
        """Whether the node's rules lead there by a Service."""
        return self not in (EntryKind.HOST_NETWORK, EntryKind.HOST_PORT)


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to a controller: addresses (canonical, of either family) and host names at which it listens, with the port.

    `scheme`: "http", "https", or None when names and numbers do not tell. `service` and `service_port`: the Service that leads there.
    `pod` and `node`: of a host network or host port. `target`: the port on the pod, a number or a container port's name.
    """

    kind: EntryKind
    scheme: str | None
    addresses: tuple[str, ...]
    port: int
    hostnames: tuple[str, ...] = ()
    service: Key | None = None
    service_port: ServicePort | None = None
    pod: Key | None = None
    node: str | None = None
    target: int | str | None = None

    def __str__(self) -> str:
        """As messages name it."""
        where = (
            f"Service {'/'.join(self.service)}"
            if self.service is not None
            else f"pod {'/'.join(self.pod or ('', ''))} on node {self.node}"
        )
        return f"{self.kind.value} {', '.join((*self.addresses, *self.hostnames)) or 'without an address'} port {self.port} ({where})"


@dataclass(frozen=True, slots=True)
class Controller:
    """The pods that serve Ingresses, the Services that lead to them, and the ways in."""

    products: tuple[str, ...]
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    entries: tuple[Entry, ...]
    found_by: str

    def entries_for(self, url: URL) -> tuple[Entry, ...]:
        """The ways in for a URL: those of its scheme, and those of its port whose scheme is not known. Those of its very port come first; the
        others need something in front that leads to their port.
        """
        fitting = [one for one in self.entries if one.scheme == url.scheme or (one.scheme is None and one.port == url.port)]
        return tuple(sorted(fitting, key=lambda one: (one.port != url.port, list(EntryKind).index(one.kind))))


@dataclass(frozen=True, slots=True)
class ControllerSearch:
    """How the search for a controller ended. `outside`: why it has no pods in the cluster, "" otherwise. `looked_at`: in words, in order."""

    controller: Controller | None
    looked_at: tuple[str, ...]
    outside: str = ""
    certainty: Certainty = Certainty.DEFINITE
    notes: tuple[str, ...] = ()


# --- The search ---


def find_controller(
    cluster: Cluster, *, choice: ClassChoice | None = None, ingresses: Sequence[Ingress] = (), given: str | None = None
) -> ControllerSearch:
    """The controller that serves Ingresses of a class.

    `ingresses`: the Ingresses concerned, whose status tells addresses. `given`: "[KIND/]NAMESPACE/NAME" of a Service, a pod, or what pods are
    named after (a Deployment, a DaemonSet), where the user names it. Raises UnknownNameError when `given` names nothing.
    """
    search = _Search(cluster)
    if given is not None:
        return search.given(given)
    return search.found(choice, ingresses)


class _Search:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.looked_at: list[str] = []

    def given(self, text: str) -> ControllerSearch:
        cluster = self.cluster
        parts = text.split("/")
        if len(parts) == 3:
            kind, namespace, name = parts[0].lower().removesuffix("s"), parts[1], parts[2]
        elif len(parts) == 2:
            kind, (namespace, name) = "", parts
        else:
            raise UnknownNameError(
                f"{text!r} names no controller: give NAMESPACE/NAME of a Service, a Deployment, a DaemonSet or a pod"
            )
        service = cluster.services.get((namespace, name))
        if service is not None and kind in ("", "service", "svc"):
            pods = self._pods_behind(service)
            controller = self._controller((), pods, (service,), f"given: Service {namespace}/{name}")
            notes = () if pods else (f"no pod is behind Service {namespace}/{name}",)
            return ControllerSearch(controller, tuple(self.looked_at), notes=notes)
        pod = cluster.pods.get((namespace, name))
        if pod is not None and kind in ("", "pod", "po"):
            return self._search_result((), (pod,), f"given: pod {namespace}/{name}")
        workload = re.compile(rf"{re.escape(name)}-[a-z0-9]+(?:-[a-z0-9]+)?")
        pods = tuple(
            one
            for (place, own), one in cluster.pods.items()
            if place == namespace and workload.fullmatch(own) and not one.finished and kind not in ("service", "svc", "pod", "po")
        )
        if pods:
            return self._search_result((), pods, f"given: pods of {namespace}/{name}")
        known = {"/".join(key) for key in (*cluster.services, *cluster.pods)}
        raise UnknownNameError(
            f"no Service, no pod and no pods of a workload are called {namespace}/{name}"
            + did_you_mean(near_matches(f"{namespace}/{name}", known - {f"{namespace}/{name}"}))
        )

    def found(self, choice: ClassChoice | None, ingresses: Sequence[Ingress]) -> ControllerSearch:
        products = self._products(choice)
        outside = next((one for one in products if one.outside), None)
        if outside is not None:
            return ControllerSearch(None, tuple(self.looked_at), outside=f"{outside.name}: {outside.outside}")
        by_status = self._by_status(ingresses)
        pods: tuple[Pod, ...] = ()
        certainty = Certainty.DEFINITE
        found_by = ""
        if products:
            pods = self._labelled(products)
            found_by = f"labels of {' or '.join(one.name for one in products)}"
            if choice is None or choice.controller is None or len(products) > 1:
                certainty = Certainty.POSSIBLE  # only custom connects a class name with a controller
        if not pods and not by_status and (choice is None or choice.ingress_class is None or not products):
            # Nobody says which controller it is: any that the cluster runs may be it.
            others = tuple(one for one in _PRODUCTS if one not in products and not one.outside)
            pods = self._labelled(others)
            found_by = "labels of well-known controllers"
            certainty = Certainty.POSSIBLE
        notes: list[str] = []
        if by_status:
            held = {pod.metadata.key for pod in by_status}
            both = tuple(pod for pod in pods if pod.metadata.key in held)
            if both or not pods:
                pods, found_by = both or by_status, "the status of the Ingress"
                certainty = Certainty.DEFINITE
            else:
                notes.append("the status of the Ingress leads to other pods than the controller's labels")
                certainty = Certainty.POSSIBLE
        groups = sorted({_group(pod) for pod in pods})
        if len(groups) > 1:
            certainty = Certainty.POSSIBLE
            notes.append(f"several controllers fit: {', '.join('/'.join(one) for one in groups)}; --controller names one")
        if not pods:
            return ControllerSearch(None, tuple(self.looked_at), certainty=certainty, notes=tuple(notes))
        names = tuple(one.name for one in products or _PRODUCTS if any(_carries(pod, one) for pod in pods))
        return self._search_result(names, pods, found_by, certainty, notes)

    def _search_result(
        self,
        products: tuple[str, ...],
        pods: tuple[Pod, ...],
        found_by: str,
        certainty: Certainty = Certainty.DEFINITE,
        notes: Iterable[str] = (),
    ) -> ControllerSearch:
        services = self._services_of(pods)
        controller = self._controller(products, pods, services, found_by)
        notes = list(notes)
        if not controller.entries:
            notes.append("the controller's pods are behind no Service and on no port of a node")
        return ControllerSearch(controller, tuple(self.looked_at), certainty=certainty, notes=tuple(notes))

    def _controller(
        self, products: tuple[str, ...], pods: tuple[Pod, ...], services: tuple[Service, ...], found_by: str
    ) -> Controller:
        entries = [entry for service in services for entry in self._service_entries(service, pods)]
        entries += [entry for pod in pods for entry in self._host_entries(pod)]
        return Controller(products, pods, services, tuple(entries), found_by)

    # Where to look

    def _products(self, choice: ClassChoice | None) -> tuple[Product, ...]:
        if choice is None or choice.name is None:
            self.looked_at.append("the Ingress has no class")
            return ()
        controller = choice.controller
        if choice.ingress_class is None:
            known = self.cluster.has_kind("IngressClass")
            self.looked_at.append(
                f"IngressClass {choice.name}: {'there is none' if known else 'no IngressClasses are given (kubectl get ingressclasses)'}"
            )
        products = known_products(controller, choice.name)
        what = f"controller {controller} of IngressClass {choice.name}" if controller else f"the class name {choice.name}"
        self.looked_at.append(f"{what}: {' or '.join(one.name for one in products) if products else 'no well-known controller'}")
        return products

    def _labelled(self, products: Sequence[Product]) -> tuple[Pod, ...]:
        wanted = [labels for product in products for labels in product.labels]
        pods = [
            pod for pod in self.cluster.pods.values() if not pod.finished and any(_carries(pod, product) for product in products)
        ]
        shown = ", ".join("+".join(f"{name}={value}" for name, value in labels.items()) for labels in wanted[:6])
        more = " and more" if len(wanted) > 6 else ""
        given = "" if self.cluster.has_kind("Pod") else "; no pods are given"
        self.looked_at.append(f"pods with the labels {shown}{more}: {len(pods) or 'none'}{given}")
        return tuple(pods)

    def _by_status(self, ingresses: Sequence[Ingress]) -> tuple[Pod, ...]:
        """The pods behind what the status of Ingresses names: a Service's addresses, or those of nodes."""
        texts = {
            text
            for ingress in ingresses
            for one in ingress.status.load_balancer.ingress
            for text in (one.ip, one.hostname)
            if text is not None
        }
        wanted = {_address(text) for text in texts}
        if not ingresses:
            return ()
        if not wanted:
            self.looked_at.append("the status of the Ingress: it names no address")
            return ()
        pods: dict[Key, Pod] = {}
        services = [one for one in self.cluster.services.values() if wanted & _published(one)]
        for service in services:
            pods.update((pod.metadata.key, pod) for pod in self._pods_behind(service))
        nodes = {
            name for name, one in self.cluster.nodes.items() if wanted & {_address(each.address) for each in one.status.addresses}
        }
        if nodes:
            on_ports = [one for one in self.cluster.pods.values() if one.spec.node_name in nodes and _serves_on_host(one)]
            pods.update((pod.metadata.key, pod) for pod in on_ports)
        parts = [f"Service {'/'.join(one.metadata.key)}" for one in services] + [f"node {one}" for one in sorted(nodes)]
        self.looked_at.append(
            f"the status of the Ingress, {', '.join(sorted(wanted))}: {', '.join(parts) or 'nobody among the objects has it'}"
        )
        return tuple(pods.values())

    # How pods are reached

    def _pods_behind(self, service: Service) -> tuple[Pod, ...]:
        """The running pods that a Service selects; without a selector those that its slices name."""
        if service.spec.selector:
            return tuple(pod for pod in self.cluster.pods_selected_by(service) if not pod.finished)
        named = (
            (one.target_ref.namespace or service.metadata.namespace, one.target_ref.name or "")
            for entry in self.cluster.slices_of(*service.metadata.key)
            for one in entry.endpoints
            if one.target_ref is not None and one.target_ref.kind == "Pod"
        )
        return tuple(self.cluster.pods[key] for key in dict.fromkeys(named) if key in self.cluster.pods)

    def _services_of(self, pods: tuple[Pod, ...]) -> tuple[Service, ...]:
        keys = {pod.metadata.key for pod in pods}
        places = {namespace for namespace, _ in keys}
        return tuple(
            one
            for one in self.cluster.services.values()
            if one.metadata.namespace in places and any(pod.metadata.key in keys for pod in self._pods_behind(one))
        )

    def _service_entries(self, service: Service, pods: tuple[Pod, ...]) -> Iterator[Entry]:
        spec = service.spec
        if spec.type == "ExternalName":
            return
        cluster_ips = _addresses(spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ()))
        families = _families(service)
        external = _of(families, _addresses(spec.external_ips))
        published = service.status.load_balancer.ingress if spec.type == "LoadBalancer" else ()
        balanced = _addresses(one.ip for one in published if one.ip)
        hostnames = tuple(one.hostname for one in published if one.hostname)
        listed = (
            each.address
            for node in self.cluster.nodes.values()
            for each in node.status.addresses
            if each.type in ("InternalIP", "ExternalIP")
        )
        nodes = _of(families, _addresses(listed))
        for port in spec.ports:
            if (port.protocol or "TCP") != "TCP":
                continue
            scheme = _scheme(port.port, port.name, port.target_port, pods)
            if scheme == _ELSE:
                continue
            target = port.target_port or port.port

            def entry(
                kind: EntryKind,
                addresses: tuple[str, ...],
                number: int,
                hostnames: tuple[str, ...] = (),
                *,
                scheme: str = scheme,
                port: ServicePort = port,
                target: int | str = target,
            ) -> Entry:
                known = scheme or None
                return Entry(kind, known, addresses, number, hostnames, service.metadata.key, port, target=target)

            if balanced or hostnames:
                yield entry(EntryKind.LOAD_BALANCER, balanced, port.port, hostnames)
            if external:
                yield entry(EntryKind.EXTERNAL_IP, external, port.port)
            if port.node_port and spec.type in ("NodePort", "LoadBalancer"):
                yield entry(EntryKind.NODE_PORT, nodes, port.node_port)
            if cluster_ips:
                yield entry(EntryKind.CLUSTER_IP, cluster_ips, port.port)

    def _host_entries(self, pod: Pod) -> Iterator[Entry]:
        node = self.cluster.nodes.get(pod.spec.node_name or "")
        listed = (
            (one.address for one in node.status.addresses if one.type in ("InternalIP", "ExternalIP")) if node is not None else ()
        )
        addresses = _addresses(listed) or (_addresses(pod.addresses) if pod.spec.host_network else ())
        for port in pod.container_ports:
            if (port.protocol or "TCP") != "TCP":
                continue
            number = port.container_port if pod.spec.host_network else port.host_port
            if not number:
                continue
            scheme = _scheme(number, port.name, port.container_port, ())
            if scheme == _ELSE:
                continue
            held = port.host_ip if port.host_ip and _address(port.host_ip) not in ("0.0.0.0", "::") else None
            yield Entry(
                EntryKind.HOST_NETWORK if pod.spec.host_network else EntryKind.HOST_PORT,
                scheme or None,
                _addresses((held,)) if held else addresses,
                number,
                pod=pod.metadata.key,
                node=pod.spec.node_name,
                target=port.name or port.container_port,
            )


_ELSE: Final = "else"
_OTHER_USE: Final = re.compile(
    r"webhook|metric|prom|admin|health|ready|status|stat|dashboard|monitor|debug|config|manager|^traefik$"
)
_HTTPS: Final = re.compile(r"^(?:https|websecure|ssl|tls)|(?:-https|-ssl|-tls)$")
_HTTP: Final = re.compile(r"^(?:http|web|plain|h2c|proxy$|kong-proxy$)|-http$")


def _scheme(number: int, name: str | None, target: int | str | None, pods: Sequence[Pod]) -> str:
    """What a port of a controller serves: "http", "https", _ELSE for another use (metrics, webhooks), "" when nothing tells.

    Names tell more than numbers, and the container's port is looked at as well: ports of pods that serve nothing to the outside are called so.
    """
    declared = [port for pod in pods for port in pod.container_ports if target in (port.name, port.container_port)]
    names = [name, target if isinstance(target, str) else None, *(port.name for port in declared)]
    texts = [text.lower() for text in names if text]
    if any(_OTHER_USE.search(text) for text in texts):
        return _ELSE
    for text in texts:
        if _HTTPS.search(text):
            return "https"
        if _HTTP.search(text):
            return "http"
    numbers = [number, *((target,) if isinstance(target, int) else ()), *(port.container_port for port in declared)]
    for one in numbers:
        if one in (443, 8443, 9443):
            return "https"
        if one in (80, 8080, 8000, 9080):
            return "http"
    return ""


def _carries(pod: Pod, product: Product) -> bool:
    """Whether a pod carries the labels of a controller's serving pods."""
    labels = pod.metadata.labels
    if not labels or not any(one.items() <= labels.items() for one in product.labels):
        return False
    return _NOT_SERVING.isdisjoint({labels.get("app.kubernetes.io/component"), labels.get("component")})


def _serves_on_host(pod: Pod) -> bool:
    """Whether a pod listens on its node's ports for the web."""
    ports = [one for one in pod.container_ports if (one.protocol or "TCP") == "TCP"]
    numbers = {one.container_port if pod.spec.host_network else one.host_port for one in ports}
    return not pod.finished and not numbers.isdisjoint((80, 443))


def _group(pod: Pod) -> Key:
    """What tells two controllers of one kind apart: namespace and Helm release."""
    return pod.metadata.namespace, pod.metadata.label("app.kubernetes.io/instance") or pod.metadata.label("release") or ""


def _published(service: Service) -> set[str]:
    """Every address and host name at which a Service can be met, as controllers write it into the status of Ingresses."""
    spec = service.spec
    texts = [one for entry in service.status.load_balancer.ingress for one in (entry.ip, entry.hostname)]
    texts += [*spec.external_ips, *spec.cluster_ips, spec.cluster_ip]
    return {_address(text) for text in texts if text and text != "None"}


def _address(text: str) -> str:
    """An address in canonical form, a host name in lower case without a final dot."""
    return canonical(text) or text.rstrip(".").lower()


def _addresses(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in map(canonical, texts) if one is not None))


def _families(service: Service) -> frozenset[int]:
    """The families in which kube-proxy serves a Service, by its cluster IPs, else by the families that it asks for; both where neither tells."""
    spec = service.spec
    found = [known_family(one) for one in _addresses((*spec.cluster_ips, *((spec.cluster_ip,) if spec.cluster_ip else ())))]
    return frozenset(found or [6 if one == "IPv6" else 4 for one in spec.ip_families] or (4, 6))


def _of(families: Collection[int], addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses of some families."""
    return tuple(one for one in addresses if known_family(one) in families)
