"""A name to addresses, as cluster DNS would answer a client: from the objects alone, step by step.

Follows the specification (github.com/kubernetes/dns, docs/specification.md), CoreDNS (plugin/kubernetes: parse.go, kubernetes.go), kubelet
(pkg/kubelet/network/dns/dns.go) and resolv.conf(5) for search lists. What the objects cannot tell, names outside of the cluster domain
and the resolvers of nodes, is said as a value.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import canonical, known_family
from ruleaudit.documents import yaml_documents
from ruleaudit.errors import InputError
from ruleaudit.findings import Certainty
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import ObjectReference, Pod, Service, ServicePort

__all__ = [
    "Answer",
    "ClusterDNS",
    "Question",
    "Record",
    "Resolution",
    "ResolvedAddress",
    "ServiceTarget",
    "cluster_dns",
    "pod_named",
    "resolve",
]

DEFAULT_DOMAIN: Final = "cluster.local"
_OUTSIDE_TOO: Final = "the servers outside are asked as well, and may know the name"
MAX_ALIASES: Final = 8
"""So many CNAMEs are followed, as CoreDNS does (plugin/pkg/upstream follows eight)."""

Key = tuple[str, str]


# --- What cluster DNS is like ---


@dataclass(frozen=True, slots=True)
class ClusterDNS:
    """What the objects tell of cluster DNS.

    `domain`: the cluster domain that kubelet gives to pods, without a final dot. `source`: where it was found ("assumed" when nowhere).
    `zones`: the domains that the kubernetes plugin answers for. `pods`: its mode for pod names ("insecure", "verified", "disabled").
    `endpoint_pod_names`: whether pods give endpoints their names. `ignore_empty_service`: whether a Service without endpoints has no name.
    `others`: plugins that may answer before it. `service`: the Service of cluster DNS, None when none is known. `ready`: whether an
    endpoint of it is ready, None when nothing says so.
    """

    domain: str = DEFAULT_DOMAIN
    source: str = "assumed"
    zones: tuple[str, ...] = (DEFAULT_DOMAIN,)
    pods: str = "insecure"
    endpoint_pod_names: bool = False
    ignore_empty_service: bool = False
    others: tuple[str, ...] = ()
    service: Key | None = None
    ready: bool | None = None

    @property
    def assumed(self) -> bool:
        """Whether nothing in the objects names the cluster domain."""
        return self.source == "assumed"


_MAY_ANSWER: Final = ("hosts", "rewrite", "template", "file", "auto", "etcd")
_DNS_NAMES: Final = ("kube-dns", "coredns", "rke2-coredns-rke2-coredns", "dns-default")
_DNS_NAMESPACES: Final = ("kube-system", "openshift-dns")


def cluster_dns(cluster: Cluster, domain: str | None = None) -> ClusterDNS:
    """What the objects tell of cluster DNS. `domain`: the cluster domain where the user gives it, with or without a final dot.

    Otherwise it is looked for in CoreDNS's and kubelet's ConfigMaps and in the search lists of pods, and assumed when it is nowhere.
    """
    maps = [(f"ConfigMap {'/'.join(key)}", one.data) for key, one in sorted(cluster.config_maps.items())]
    corefiles = ((where, _read_corefile(data.corefile)) for where, data in maps if data.corefile is not None)
    where, found = next(((where, one) for where, one in corefiles if one is not None), ("assumed", None))
    kubelets = ((place, _kubelet_domain(data.kubelet, place)) for place, data in maps if data.kubelet is not None)
    place, own = next(((place, one) for place, one in kubelets if one is not None), ("", None))
    if domain is not None:
        own, place = _plain(domain), "given"
    elif own is None and found is None:
        own, place = _searched_domain(cluster), "search lists of pods"
    found = replace(found if found is not None else ClusterDNS(zones=(own or DEFAULT_DOMAIN,)), source=where)
    if own is not None:  # what pods are told; CoreDNS's zones stay as they are, and a difference shows in the answers
        found = replace(found, domain=own, source=place)
    service = _dns_service(cluster)
    if service is None:
        return found
    ready = _has_ready_endpoint(cluster, service)
    return replace(found, service=service.metadata.key, ready=ready)


def _dns_service(cluster: Cluster) -> Service | None:
    labelled = [one for one in cluster.services.values() if one.metadata.label("k8s-app") == "kube-dns"]
    named = [
        cluster.services[namespace, name]
        for namespace in _DNS_NAMESPACES
        for name in _DNS_NAMES
        if (namespace, name) in cluster.services
    ]
    serving = [one for one in (*named, *labelled) if any(port.port == 53 for port in one.spec.ports)]
    return serving[0] if serving else None


def _has_ready_endpoint(cluster: Cluster, service: Service) -> bool | None:
    if not (cluster.has_kind("EndpointSlice") or cluster.has_kind("Endpoints")):
        return None
    return any(True for _ in _published(cluster, service.metadata.key))


def _kubelet_domain(text: str, where: str) -> str | None:
    try:
        documents = list(yaml_documents(text.encode(), where))
    except InputError:
        return None  # a ConfigMap that cannot be read names no domain
    for document in documents:
        domain = document.get("clusterDomain") if isinstance(document, dict) else None
        if isinstance(domain, str) and domain:
            return _plain(domain)
    return None


def _searched_domain(cluster: Cluster) -> str | None:
    """The cluster domain that the search lists of pods name most often: "svc.DOMAIN" or "NAMESPACE.svc.DOMAIN"."""
    counted: Counter[str] = Counter()
    for pod in cluster.pods.values():
        if pod.spec.dns_config is None:
            continue
        for search in map(_plain, pod.spec.dns_config.searches):
            _, middle, domain = search.rpartition("svc.")
            before = search[: len(search) - len(domain) - len(middle)]
            if middle and domain and (not before or before.endswith(".")):
                counted[domain] += 1
    return min(counted, key=lambda one: (-counted[one], one)) if counted else None


_TOKENS: Final = re.compile(r'#[^\n]*|"(?:[^"\\]|\\.)*"|\n|[^\s#]+')


def _read_corefile(text: str) -> ClusterDNS | None:
    """What the first server block with the kubernetes plugin says, None without one. As coredns/caddy's Caddyfile is read: words,
    a directive a line, blocks in braces at a line's end.
    """
    lines: list[list[str]] = [[]]
    for token in _TOKENS.findall(text):
        if token == "\n":
            lines.append([])
        elif not token.startswith("#"):
            lines[-1].append(token.strip('"'))
    depth = 0
    others: list[str] = []
    zones: tuple[str, ...] | None = None
    options: list[list[str]] = []
    in_plugin = False
    for line in lines:
        if not line:
            continue
        if depth == 0:
            others = []
        elif depth == 1 and line[0] == "kubernetes":
            zones = tuple(_plain(one) for one in line[1:] if one != "{" and not _plain(one).endswith(".arpa"))
            in_plugin = line[-1] == "{"
        elif depth == 1 and line[0] in _MAY_ANSWER:
            others.append(line[0])
        elif depth == 2 and in_plugin:
            options.append(line)
        depth += line.count("{") - line.count("}")
        if depth <= 1:
            in_plugin = False
        if depth <= 0 and zones is not None:
            break
    if zones is None:
        return None
    values = {line[0]: line[1:] for line in options}
    domains = tuple(zone for zone in zones if zone) or (DEFAULT_DOMAIN,)
    return ClusterDNS(
        domain=domains[0],
        zones=domains,
        pods=(values.get("pods") or ["disabled"])[0],
        endpoint_pod_names="endpoint_pod_names" in values,
        ignore_empty_service=values.get("ignore") == ["empty_service"],
        others=tuple(dict.fromkeys(others)),
    )


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


# --- What is answered ---


class Answer(str, Enum):
    """How a question ended."""

    ANSWERED = "answered"
    NO_SUCH_NAME = "no such name"
    NO_ADDRESS = "no address"
    """The name is there and has no address: NODATA."""
    UNKNOWN = "unknown"
    """Somebody else is asked, outside of the cluster or on the node: the objects do not tell."""


class Record(str, Enum):
    """What a name stands for."""

    ADDRESS = "address"
    """The name was an address: nobody is asked."""
    CLUSTER_IP = "cluster IP"
    HEADLESS = "headless Service"
    ENDPOINT = "endpoint"
    POD = "pod"
    EXTERNAL_NAME = "external name"


@dataclass(frozen=True, slots=True)
class ResolvedAddress:
    """One address of an answer, canonical; the pod (namespace, name) and the node that have it where they are known; the endpoint's own
    name in a headless Service.
    """

    address: str
    family: int
    pod: Key | None = None
    node: str | None = None
    hostname: str | None = None


class ServiceTarget(NamedTuple):
    """One SRV record: the port, its name ("" without one), its protocol ("TCP"), and the name that it leads to."""

    port: int
    name: str
    protocol: str
    target: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question that is put: the full name without its final dot, the search domain that was added (None: the name as it was given), how it
    ended, and what was answered in words.
    """

    name: str
    search: str | None
    answer: Answer
    text: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What becomes of a name.

    `canonical`: the full name that was answered, behind all aliases. `targets`: SRV records, of the one port when the name names one, else of
    all ports of the Service. `port_named`: whether the name names a port ("_http._tcp."). `questions`: in the order in which they are asked.
    `aliases`: the CNAMEs that were followed. `near`: names that may have been meant. `mistyped`: the name names a port or an endpoint of
    `service` that the objects do not know at all.
    """

    name: str
    answer: Answer
    record: Record | None = None
    canonical: str | None = None
    service: Key | None = None
    addresses: tuple[ResolvedAddress, ...] = ()
    targets: tuple[ServiceTarget, ...] = ()
    port_named: bool = False
    aliases: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    certainty: Certainty = Certainty.DEFINITE
    notes: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    mistyped: bool = False

    def of_family(self, family: int) -> tuple[str, ...]:
        """The addresses of one family (4 or 6): its A or AAAA records."""
        return tuple(one.address for one in self.addresses if one.family == family)

    @property
    def port(self) -> int | None:
        """The port that the name itself gives, None when it names none or names several."""
        ports = {one.port for one in self.targets}
        return ports.pop() if self.port_named and len(ports) == 1 else None


# --- The client ---


class _Client(NamedTuple):
    """`dns`: True cluster DNS is asked, False somebody else, None not known. `node_searches`: whether the node's own search list follows."""

    dns: bool | None
    searches: tuple[str, ...]
    ndots: int
    node_searches: bool
    notes: tuple[str, ...]


def pod_named(cluster: Cluster, name: str) -> Pod:
    """The pod of "namespace/name" (a pod/ before it is passed over). Raises UnknownNameError with near matches."""
    wanted = name.removeprefix("pod/").removeprefix("pods/")
    namespace, slash, own = wanted.partition("/")
    if not slash or not own:
        raise UnknownNameError(f"{name!r} names no pod: give NAMESPACE/NAME")
    pod = cluster.pods.get((namespace, own))
    if pod is None:
        told = unknown("pod", wanted, (f"{one[0]}/{one[1]}" for one in cluster.pods))
        raise UnknownNameError(told if ";" in told or not cluster.pods else f"{told}; {_pods_in(cluster, namespace)}")
    return pod


def _pods_in(cluster: Cluster, namespace: str) -> str:
    """Which pods there are in a namespace, where no name is near: some of them."""
    there = sorted(name for space, name in cluster.pods if space == namespace)
    if not there:
        near = did_you_mean(near_matches(namespace, {space for space, _ in cluster.pods}))
        return f"no pod is in namespace {namespace!r}{near}"
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    return f"in namespace {namespace} there are {', '.join(there[:3])}{more}"


def _client_of(pod: Pod | None, cluster: Cluster, dns: ClusterDNS) -> _Client:
    """What a pod's resolv.conf says (kubelet, pkg/kubelet/network/dns/dns.go, GetPodDNS); None: no pod."""
    if pod is None:
        return _Client(None, (), 1, True, ("the client is no pod: its own resolver is asked, which the objects do not show",))
    spec = pod.spec
    config = spec.dns_config
    policy = spec.dns_policy or "ClusterFirst"
    added = tuple(_plain(one) for one in config.searches) if config is not None else ()
    options = {one.name: one.value for one in (config.options if config is not None else ())}
    given = options.get("ndots")
    ndots = min(int(given), 15) if given and given.isascii() and given.isdigit() else None
    name = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    if policy == "None":
        servers = config.nameservers if config is not None else ()
        known = _addresses_of_dns(cluster, dns)
        asked = True if servers and servers[0] in known else None
        notes = (
            () if asked else (f"{name} asks {', '.join(servers) or 'nobody'} (dnsPolicy None), which the objects do not show",)
        )
        return _Client(asked, added, ndots if ndots is not None else 1, False, notes)
    if policy == "ClusterFirst" and spec.host_network:
        why = f"{name} is on the host network with dnsPolicy ClusterFirst: kubelet gives it the node's resolver (ClusterFirstWithHostNet would not)"
        return _Client(None, added, ndots if ndots is not None else 1, True, (why,))
    if policy not in ("ClusterFirst", "ClusterFirstWithHostNet"):
        return _Client(
            None,
            added,
            ndots if ndots is not None else 1,
            True,
            (f"{name} has dnsPolicy {policy}: the node's resolver is asked",),
        )
    searches = (f"{pod.metadata.namespace}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain, *added)
    return _Client(True, tuple(dict.fromkeys(searches)), ndots if ndots is not None else 5, True, ())


def _addresses_of_dns(cluster: Cluster, dns: ClusterDNS) -> frozenset[str]:
    service = cluster.services.get(dns.service) if dns.service is not None else None
    return frozenset() if service is None else frozenset(service.spec.cluster_ips) | {service.spec.cluster_ip or ""}


# --- Asking ---


def resolve(cluster: Cluster, name: str, client: Pod | None = None, *, dns: ClusterDNS | None = None) -> Resolution:
    """What `name` stands for to a client: a pod, or None for the node or somebody outside.

    `dns`: as `cluster_dns` gives it; worked out when absent. Never raises: a name that cannot be answered is a value.
    """
    dns = cluster_dns(cluster) if dns is None else dns
    address = canonical(name.strip("[]"))
    if address is not None:
        return Resolution(name, Answer.ANSWERED, Record.ADDRESS, addresses=(_with_pod(cluster, address),))
    resolver = _Resolver(
        cluster, dns, _client_of(client, cluster, dns), client.metadata.namespace if client is not None else None
    )
    return resolver.resolve(name)


class _Resolver:
    """Answers one client."""

    def __init__(self, cluster: Cluster, dns: ClusterDNS, client: _Client, namespace: str | None) -> None:
        self.cluster = cluster
        self.dns = dns
        self.client = client
        self.namespace = namespace

    def resolve(self, name: str) -> Resolution:
        plain = _plain(name)
        if not plain or len(plain) > 253 or any(not 0 < len(label) < 64 for label in plain.split(".")):
            return Resolution(name, Answer.NO_SUCH_NAME, notes=(f"{name!r} is no name that can be asked for",))
        questions: list[Question] = []
        best: Resolution | None = None
        missed: Resolution | None = None
        unsure = False
        for full, search in self._candidates(name, plain):
            if self._zone_of(full) is None:
                questions.append(
                    Question(full, search, Answer.UNKNOWN, "outside of the cluster domain: cannot be known from the objects")
                )
                continue
            answered, asked = self._follow(full)
            questions += [replace(one, search=search) for one in asked]
            if answered.answer is Answer.NO_SUCH_NAME:
                missed = answered if missed is None and (answered.service or answered.notes) else missed
                continue
            if best is None:
                best = answered
                unsure = any(one.answer is Answer.UNKNOWN for one in questions[: -len(asked)])
            if answered.answer is not Answer.NO_ADDRESS:  # without one a resolver goes on, and comes back to it
                best = answered
                break
        if best is None:
            result = self._unanswered(name, plain, missed, outside=any(one.answer is Answer.UNKNOWN for one in questions))
        else:
            later = best.answer is Answer.NO_ADDRESS and any(one.answer is Answer.UNKNOWN for one in questions)
            result = self._answered(plain, best, unsure=unsure, later=later and not unsure)
        return replace(
            result, name=name, questions=tuple(questions), notes=tuple(dict.fromkeys((*result.notes, *self.client.notes)))
        )

    def _candidates(self, name: str, plain: str) -> Iterator[tuple[str, str | None]]:
        """The full names in the order in which a resolver asks for them (resolv.conf(5), ndots and search)."""
        if name.endswith("."):
            yield plain, None
            return
        searched = [(f"{plain}.{search}", search) for search in self.client.searches]
        if plain.count(".") >= self.client.ndots:
            yield plain, None
            yield from searched
        else:
            yield from searched
            yield plain, None

    def _zone_of(self, full: str) -> str | None:
        zones = [zone for zone in self.dns.zones if full == zone or full.endswith(f".{zone}")]
        return max(zones, key=len, default=None)

    def _answered(self, plain: str, best: Resolution, *, unsure: bool, later: bool) -> Resolution:
        """`unsure`: somebody outside is asked before; `later`: afterwards, as the name has no address."""
        dns = self.dns
        doubts: list[str] = []
        notes: list[str] = []
        if unsure:
            doubts.append("names outside of the cluster domain are asked before this one, and one of them may be answered")
        if later:
            doubts.append(_OUTSIDE_TOO)
        if plain.count(".") >= self.client.ndots and not self._is_full(plain):
            notes.append("the search list is tried after the name itself, as glibc does; musl (Alpine) does not try it")
        if dns.assumed:
            notes.append(f"the cluster domain is not in the objects: {dns.domain} is assumed")
        return self._doubted(replace(best, notes=(*best.notes, *doubts, *notes)), doubted=bool(doubts))

    def _doubted(self, result: Resolution, *, doubted: bool) -> Resolution:
        """The result with what makes any answer of cluster DNS doubtful."""
        dns = self.dns
        doubts: list[str] = []
        if self.client.dns is None:
            doubts.append("this is what cluster DNS answers, if it is asked")
        if dns.others:
            doubts.append(f"CoreDNS's plugins {', '.join(dns.others)} may answer otherwise")
        if dns.ready is False and dns.service is not None:
            doubts.append(f"cluster DNS, Service {'/'.join(dns.service)}, has no ready endpoint: nobody may answer at all")
        certainty = Certainty.POSSIBLE if doubts or doubted else result.certainty
        return replace(result, certainty=certainty, notes=(*result.notes, *doubts))

    def _unanswered(self, name: str, plain: str, missed: Resolution | None, *, outside: bool) -> Resolution:
        domain = self.dns.domain
        near, meant = self._meant(plain) if missed is None else (missed.near, "")
        if not self.cluster.has_kind("Service"):
            return Resolution(name, Answer.UNKNOWN, notes=("no Services are given: what cluster DNS knows is not known",))
        if missed is None and outside and not self._seems_inside(plain, near):
            note = f"{plain} lies outside of the cluster domain {domain}: its addresses cannot be known from the objects"
            return Resolution(name, Answer.UNKNOWN, notes=(note,), near=near)
        if self.client.dns is None and not self._is_full(plain) and not meant:
            note = (
                f"a resolver without the cluster's search domains does not complete {plain} to a name in {domain}: give the full name, or "
                "ask from a pod that asks cluster DNS"
            )
            return Resolution(name, Answer.UNKNOWN, notes=(note,), near=near)
        found = missed if missed is not None else Resolution(name, Answer.NO_SUCH_NAME, notes=(meant,) if meant else ())
        notes = (_OUTSIDE_TOO,) if outside else ()
        return self._doubted(replace(found, near=near, notes=(*found.notes, *notes)), doubted=outside)

    def _is_full(self, plain: str) -> bool:
        return self._zone_of(plain) is not None

    def _seems_inside(self, plain: str, near: tuple[str, ...]) -> bool:
        """Whether a name that nobody answered was meant for cluster DNS: full, or one that its search domains would complete."""
        labels = plain.split(".")
        if self._is_full(plain) or len(labels) == 1 or not {"svc", "pod"}.isdisjoint(labels[1:]):
            return True
        return len(labels) == 2 and (bool(near) or any(namespace == labels[1] for namespace, _ in self.cluster.services))

    def _meant(self, plain: str) -> tuple[tuple[str, ...], str]:
        """The names that may have been meant, as this client can ask for them, and why where it is the domain that is wrong ("" else)."""
        zone = self._zone_of(self.dns.domain) or self.dns.zones[0]
        inner, domain = _under_other_domain(plain) if self._zone_of(plain) is None else ("", "")
        if domain:
            how = "is taken to be" if self.dns.assumed else "is"
            why = f"the cluster domain {how} {zone}, not {domain}"
            same = f"{inner}.{zone}"
            if self._ask(same).answer is Answer.ANSWERED:
                return (same,), why
            return tuple(f"{one}.svc.{zone}" for one in self._near(inner)), why
        near = self._near(plain)
        # Only this search domain completes NAME.NAMESPACE; without it only the full name leads anywhere.
        return near if f"svc.{zone}" in self.client.searches else tuple(f"{one}.svc.{zone}" for one in near), ""

    def _near(self, plain: str) -> tuple[str, ...]:
        """Services that may have been meant, as "name.namespace", those of the client's namespace first."""
        zone = self._zone_of(plain)
        labels = (plain[: -len(zone) - 1] if zone is not None else plain).split(".")
        if labels[-1] in ("svc", "pod"):
            labels = labels[:-1]
        if not labels or not labels[0]:
            return ()
        if len(labels) == 1:
            own, namespace = labels[0], self.namespace
            if zone is not None:
                return ()
        else:
            own, namespace = labels[-2], labels[-1]
        services = self.cluster.services
        there = [one for one in services if one[0] == namespace]
        found = [(namespace or "", one) for one in near_matches(own, (one[1] for one in there))] if there else []
        same = sorted(one for one in services if one[1] == own and one[0] != namespace)
        if not there and namespace is not None:
            close = near_matches(namespace, (one[0] for one in services))
            same.sort(key=lambda one: (one[0] not in close, one))
        exact = [(namespace, own)] if namespace is not None and (namespace, own) in services else []  # asked for as NAME.svc
        near = list(dict.fromkeys((*exact, *same[:2], *found)))
        if not near:
            near = [
                (one.partition("/")[0], one.partition("/")[2])
                for one in near_matches(f"{namespace or ''}/{own}", map("/".join, services))
            ]
        return tuple(f"{name}.{place}" for place, name in near[:3])

    # One question

    def _follow(self, full: str) -> tuple[Resolution, list[Question]]:
        """The answer to one full name in a zone, and every question on the way along its aliases."""
        asked: list[Question] = []
        aliases: list[str] = []
        name = full
        service: Key | None = None
        while True:
            result = self._ask(name)
            alias = result.canonical if result.record is Record.EXTERNAL_NAME else None
            if alias is None:
                asked.append(Question(name, None, result.answer, _words(result)))
                return replace(result, aliases=tuple(aliases), service=result.service or service), asked
            service = service or result.service
            asked.append(Question(name, None, Answer.ANSWERED, f"CNAME {alias}"))
            aliases.append(alias)
            if self._zone_of(alias) is None or len(aliases) > MAX_ALIASES or alias == name or alias in aliases[:-1]:
                loop = self._zone_of(alias) is not None
                note = (
                    f"the aliases lead in a circle or on without end ({alias})"
                    if loop
                    else f"{alias} lies outside of the cluster domain {self.dns.domain}: its addresses cannot be known from the objects"
                )
                answer = Answer.NO_ADDRESS if loop else Answer.UNKNOWN
                certainty = Certainty.DEFINITE if loop else Certainty.POSSIBLE
                found = Resolution(full, answer, Record.EXTERNAL_NAME, alias, service)
                return replace(found, aliases=tuple(aliases), certainty=certainty, notes=(note,)), asked
            name = alias

    def _ask(self, full: str) -> Resolution:
        """What the kubernetes plugin answers to a full name in one of its zones (parse.go, kubernetes.go)."""
        zone = self._zone_of(full) or ""
        rest = full[: -len(zone)].rstrip(".")
        if not rest:
            return Resolution(full, Answer.NO_ADDRESS, canonical=full)
        labels = rest.split(".")
        kind = labels.pop()
        if kind not in ("svc", "pod"):
            return Resolution(full, Answer.NO_SUCH_NAME)
        if len(labels) < 2:
            return Resolution(full, Answer.NO_ADDRESS if self._namespace_known(labels) else Answer.NO_SUCH_NAME, canonical=full)
        namespace, name = labels.pop(), labels.pop()
        if kind == "pod":
            return self._pod(full, namespace, name) if not labels else Resolution(full, Answer.NO_SUCH_NAME)
        service = self.cluster.services.get((namespace, name))
        if service is None or len(labels) > 2:
            return Resolution(full, Answer.NO_SUCH_NAME)
        endpoint = labels[0] if len(labels) == 1 else None
        protocol, port = (labels[1].removeprefix("_"), labels[0].removeprefix("_")) if len(labels) == 2 else ("", "")
        return self._service(full, zone, service, endpoint, port, protocol)

    def _namespace_known(self, labels: Sequence[str]) -> bool:
        return not labels or any(namespace == labels[0] for namespace, _ in self.cluster.services)

    def _pod(self, full: str, namespace: str, name: str) -> Resolution:
        if self.dns.pods == "disabled":
            return Resolution(full, Answer.NO_SUCH_NAME, notes=("CoreDNS's Corefile does not ask for pod names",))
        text = name.replace("-", ".") if name.count("-") == 3 and "--" not in name else name.replace("-", ":")
        address = canonical(text)
        if address is None:
            return Resolution(full, Answer.NO_SUCH_NAME)
        held = [pod for pod in self.cluster.pods_at(address) if pod.metadata.namespace == namespace]
        found = ResolvedAddress(address, known_family(address))
        if held:
            found = replace(found, pod=held[0].metadata.key, node=held[0].spec.node_name)
        notes: tuple[str, ...] = ()
        if not held and self.cluster.has_kind("Pod"):
            if self.dns.pods == "verified":
                return Resolution(full, Answer.NO_SUCH_NAME, notes=(f"no pod of namespace {namespace} has {address}",))
            notes = (f"no pod of namespace {namespace} has {address}: CoreDNS answers without looking (pods insecure)",)
        return Resolution(full, Answer.ANSWERED, Record.POD, full, addresses=(found,), notes=notes)

    def _service(self, full: str, zone: str, service: Service, endpoint: str | None, port: str, protocol: str) -> Resolution:
        key = service.metadata.key
        own = f"{key[1]}.{key[0]}.svc.{zone}"
        if service.spec.type == "ExternalName":
            name = _plain(service.spec.external_name or "")
            if not name or canonical(name) is not None:
                what = f"{name}, an address" if name else "no name"
                note = f"Service {'/'.join(key)} is an ExternalName for {what}: cluster DNS answers for one with another name only (CNAME)"
                return Resolution(full, Answer.NO_SUCH_NAME, service=key, notes=(note,))
            if endpoint is not None:
                return Resolution(full, Answer.NO_SUCH_NAME, service=key)
            return Resolution(full, Answer.ANSWERED, Record.EXTERNAL_NAME, name, key)
        headless = (service.spec.cluster_ip or "") == "None" or (
            not service.spec.cluster_ip and service.spec.cluster_ips[:1] == ("None",)
        )
        if not (headless or endpoint is not None):
            if self.dns.ignore_empty_service and _has_ready_endpoint(self.cluster, service) is False:
                return Resolution(
                    full,
                    Answer.NO_SUCH_NAME,
                    service=key,
                    notes=("CoreDNS hides Services without endpoints (ignore empty_service)",),
                )
            return _cluster_ips(full, own, service, port, protocol)
        return self._endpoints(full, own, service, endpoint, port, protocol, headless=headless)

    def _endpoints(
        self, full: str, own: str, service: Service, endpoint: str | None, port: str, protocol: str, *, headless: bool
    ) -> Resolution:
        key = service.metadata.key
        if not (self.cluster.has_kind("EndpointSlice") or self.cluster.has_kind("Endpoints")):
            return Resolution(
                full,
                Answer.UNKNOWN,
                Record.HEADLESS if headless else Record.ENDPOINT,
                full,
                key,
                notes=("no EndpointSlices are given",),
            )
        addresses: dict[tuple[str, str | None], ResolvedAddress] = {}
        targets: dict[ServiceTarget, None] = {}
        for one in _published(self.cluster, key):
            hostname = _hostname(one, pod_names=self.dns.endpoint_pod_names)
            if endpoint is not None and hostname != endpoint:
                continue
            ports = [each for each in one.ports if _matches(port, each.name, protocol, each.protocol)]
            if not ports and (one.ports or port or protocol):
                continue
            address = canonical(one.address)
            if address is None:
                continue
            addresses[address, hostname] = ResolvedAddress(address, known_family(address), one.pod, one.node, hostname)
            for each in ports:
                targets[ServiceTarget(each.port, each.name, each.protocol, f"{hostname}.{own}")] = None
        record = Record.ENDPOINT if endpoint is not None else Record.HEADLESS
        if not addresses and endpoint is not None and not self._may_be_named(service, endpoint):
            names = _hostnames(self.cluster, key, pod_names=self.dns.endpoint_pod_names)
            near = near_matches(endpoint, names) or names[:3]
            return _mistyped(full, key, f"no endpoint has the name {endpoint}", tuple(f"{one}.{own}" for one in near))
        if not addresses and (port or protocol):
            listed = [one for each in _listed(self.cluster, key) for one in each.ports]
            known = [(one.name, one.protocol) for one in listed] + [_named(one) for one in service.spec.ports]
            if not any(_matches(port, name, protocol, of) for name, of in known):
                return _without_port(full, own, key, port, protocol, known)
        if not addresses:
            note = "no ready endpoint has that name" if endpoint is not None else "the headless Service has no ready endpoint"
            return Resolution(full, Answer.NO_SUCH_NAME, record, service=key, notes=(note,))
        notes: tuple[str, ...] = ()
        if service.spec.publish_not_ready_addresses:
            notes = ("the Service publishes its endpoints before they are ready (publishNotReadyAddresses)",)
        return Resolution(
            full,
            Answer.ANSWERED,
            record,
            full,
            key,
            tuple(addresses.values()),
            tuple(targets),
            port_named=bool(port),
            notes=notes,
        )

    def _may_be_named(self, service: Service, endpoint: str) -> bool:
        """Whether an endpoint of a Service may have a name once it is ready: one that is listed or its pod has it, or nothing is listed yet."""
        names = _hostnames(self.cluster, service.metadata.key, pod_names=self.dns.endpoint_pod_names)
        pods = self.cluster.pods_selected_by(service)
        return not names or endpoint in names or any(endpoint in (one.metadata.name, one.spec.hostname) for one in pods)


def _mistyped(full: str, key: Key, what: str, near: tuple[str, ...]) -> Resolution:
    """No answer to a name below a Service's; `what` says which part of it the Service does not have."""
    note = f"Service {'/'.join(key)}: {what}"
    return Resolution(full, Answer.NO_SUCH_NAME, service=key, notes=(note,), near=near, mistyped=True)


def _without_port(full: str, own: str, key: Key, port: str, protocol: str, known: Iterable[tuple[str, str]]) -> Resolution:
    """No answer to the name of a port; `known`: the names and protocols of the ports that there are."""
    names = list(dict.fromkeys(f"_{name.lower()}._{of.lower()}" for name, of in known if name))
    near = near_matches(f"_{port}._{protocol}", names) or names[:3]
    return _mistyped(full, key, f"it has no port {port!r} of protocol {protocol!r}", tuple(f"{one}.{own}" for one in near))


def _named(port: ServicePort) -> tuple[str, str]:
    """The name ("" without one) and the protocol of a port."""
    return port.name or "", port.protocol or "TCP"


def _cluster_ips(full: str, own: str, service: Service, port: str, protocol: str) -> Resolution:
    key = service.metadata.key
    targets = tuple(
        ServiceTarget(one.port, one.name or "", one.protocol or "TCP", own)
        for one in service.spec.ports
        if _matches(port, one.name or "", protocol, one.protocol or "TCP")
    )
    if not targets and port:
        return _without_port(full, own, key, port, protocol, map(_named, service.spec.ports))
    if not targets:
        return Resolution(full, Answer.NO_SUCH_NAME, service=key, notes=(f"Service {'/'.join(key)} has no port",))
    texts = service.spec.cluster_ips or ((service.spec.cluster_ip,) if service.spec.cluster_ip else ())
    addresses = [ResolvedAddress(one, known_family(one)) for one in map(canonical, texts) if one is not None]
    if not addresses:
        return Resolution(full, Answer.NO_ADDRESS, Record.CLUSTER_IP, full, key, notes=("the Service has no cluster IP yet",))
    return Resolution(full, Answer.ANSWERED, Record.CLUSTER_IP, full, key, tuple(addresses), targets, port_named=bool(port))


def _matches(port: str, port_name: str, protocol: str, port_protocol: str) -> bool:
    return (not port or port == port_name.lower()) and (not protocol or protocol == port_protocol.lower())


def _under_other_domain(plain: str) -> tuple[str, str]:
    """The parts "web.demo.svc" and "corp.lan" of web.demo.svc.corp.lan, a name as cluster DNS has them; two empty texts of any other."""
    labels = plain.split(".")
    place = next((number for number, one in enumerate(labels) if number > 1 and one in ("svc", "pod")), len(labels))
    return (".".join(labels[: place + 1]), ".".join(labels[place + 1 :])) if place + 1 < len(labels) else ("", "")


def _words(result: Resolution) -> str:
    if result.answer is not Answer.ANSWERED:
        return "; ".join((result.answer.value, *result.notes))
    return f"{result.record.value if result.record else 'answer'}: {', '.join(one.address for one in result.addresses)}"


def _with_pod(cluster: Cluster, address: str) -> ResolvedAddress:
    pods = cluster.pods_at(address)
    if len(pods) != 1:
        return ResolvedAddress(address, known_family(address))
    return ResolvedAddress(address, known_family(address), pods[0].metadata.key, pods[0].spec.node_name)


# --- Endpoints as cluster DNS publishes them ---


class _Port(NamedTuple):
    name: str
    port: int
    protocol: str


class _Published(NamedTuple):
    address: str
    hostname: str | None
    pod: Key | None
    node: str | None
    ports: tuple[_Port, ...]
    ready: bool


def _published(cluster: Cluster, key: Key) -> Iterator[_Published]:
    """The endpoints of a Service that have a name: those that the slices call ready, absent counting as ready (CoreDNS, object/endpoint.go)."""
    return (one for one in _listed(cluster, key) if one.ready)


def _listed(cluster: Cluster, key: Key) -> Iterator[_Published]:
    """The endpoints of a Service, ready or not."""
    if cluster.has_kind("EndpointSlice"):
        for entry in cluster.slices_of(*key):
            if entry.address_type == "FQDN":
                continue
            ports = tuple(_Port(one.name or "", one.port or 0, one.protocol or "TCP") for one in entry.ports if one.port)
            for endpoint in entry.endpoints:
                ready = endpoint.conditions is None or endpoint.conditions.ready is not False
                pod = _pod_of(endpoint.target_ref, key[0])
                node = endpoint.node_name or (endpoint.topology or {}).get("kubernetes.io/hostname")
                for address in endpoint.addresses:
                    yield _Published(address, endpoint.hostname, pod, node, ports, ready)
        return
    endpoints = cluster.endpoints.get(key)
    for subset in endpoints.subsets if endpoints is not None else ():
        ports = tuple(_Port(one.name or "", one.port or 0, one.protocol or "TCP") for one in subset.ports if one.port)
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for held in addresses:
                yield _Published(held.ip, held.hostname, _pod_of(held.target_ref, key[0]), held.node_name, ports, ready)


def _hostnames(cluster: Cluster, key: Key, *, pod_names: bool) -> tuple[str, ...]:
    """The names of a Service's endpoints, of those that are ready first."""
    listed = sorted(_listed(cluster, key), key=lambda one: not one.ready)
    return tuple(dict.fromkeys(_hostname(one, pod_names=pod_names) for one in listed))


def _pod_of(reference: ObjectReference | None, namespace: str) -> Key | None:
    if reference is None or reference.kind != "Pod" or not reference.name:
        return None
    return reference.namespace or namespace, reference.name


def _hostname(endpoint: _Published, *, pod_names: bool) -> str:
    """The name of an endpoint within its Service (kubernetes.go, endpointHostname)."""
    if endpoint.hostname:
        return endpoint.hostname.lower()
    if pod_names and endpoint.pod is not None and len(endpoint.pod[1]) < 64:
        return endpoint.pod[1]
    if ":" not in endpoint.address:
        return endpoint.address.replace(".", "-")
    name = endpoint.address.replace(":", "-")
    return f"{name}0" if name.endswith("-") else name
