"""A URL to the Ingress rule that serves it, and on to the Service port behind: from the objects alone.

Follows the API's documentation (k8s.io/api/networking/v1, IngressRule and HTTPIngressPath), and where it leaves a choice what most
controllers do, which a note then says. Backends that lead nowhere are values with a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from ruleaudit.addresses import canonical
from ruleaudit.errors import RuleauditError
from ruleaudit.findings import Certainty
from ruleaudit.near import did_you_mean, near_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import (
        HTTPIngressPath,
        Ingress,
        IngressBackend,
        IngressClass,
        IngressRule,
        IngressTLS,
        Service,
        ServicePort,
    )

__all__ = [
    "CLASS_ANNOTATION",
    "DEFAULT_CLASS_ANNOTATION",
    "URL",
    "Backend",
    "BackendProblem",
    "ClassChoice",
    "IngressPath",
    "Route",
    "Routing",
    "URLError",
    "backend_of",
    "changes_path",
    "class_of",
    "ingress_paths",
    "ingresses_of_class",
    "parse_url",
    "route",
]

CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
DEFAULT_CLASS_ANNOTATION: Final = "ingressclass.kubernetes.io/is-default-class"
_PORTS: Final = {"http": 80, "https": 443}
Key = tuple[str, str]


# --- URLs ---


class URLError(RuleauditError):
    """What was given as a URL is none that an Ingress serves; the message says why."""


class URL(NamedTuple):
    """A URL as a controller sees it: `host` in lower case without a final dot or brackets, `path` without query, at least "/"."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        """The URL again, its port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port == _PORTS[self.scheme] else f':{self.port}'}{self.path}"


def parse_url(text: str) -> URL:
    """Read http://HOST[:PORT][/PATH] or the same with https. Raises URLError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise URLError(f"{text!r} is no URL: {error}") from error
    if parts.scheme not in _PORTS:
        raise URLError(f"{text!r} is no http:// or https:// URL")
    host = (parts.hostname or "").rstrip(".").lower()
    if not host:
        raise URLError(f"{text!r} names no host")
    if port == 0:
        raise URLError(f"{text!r} names port 0, which nobody listens on")
    return URL(parts.scheme, host, port if port is not None else _PORTS[parts.scheme], parts.path or "/")


# --- Backends ---


class BackendProblem(str, Enum):
    """Why a backend cannot be followed to a Service port."""

    NO_BACKEND = "no backend"
    NO_SERVICE = "no such Service"
    NO_PORT = "no such port"
    NOT_TCP = "not TCP"
    EXTERNAL_NAME = "ExternalName"
    """Leads to a name outside; some controllers follow it, some refuse to."""
    RESOURCE = "resource"
    """An object that is no Service: not followed, and no fault."""
    UNKNOWN = "unknown"
    """No Services were given."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where an Ingress path leads: a Service and its port as the Ingress names them (`port`: number, name, or None), and as they were found.

    `problem` None: `service` and `service_port` are there. `name` of a resource is its kind and name. `message` says the problem in words, with near
    matches.
    """

    namespace: str
    name: str
    port: int | str | None
    service: Service | None = None
    service_port: ServicePort | None = None
    problem: BackendProblem | None = None
    message: str = ""
    certainty: Certainty = Certainty.DEFINITE

    @property
    def broken(self) -> bool:
        """Whether it is a fault of the objects (RA704): it names what does not exist or cannot serve."""
        return self.problem not in (None, BackendProblem.RESOURCE, BackendProblem.UNKNOWN)

    def __str__(self) -> str:
        """As messages name it: "namespace/name:port"."""
        return f"{self.namespace}/{self.name}" + ("" if self.port is None else f":{self.port}")

    @property
    def described(self) -> str:
        """What it is, with its name: "Service port namespace/name:port", or that it is no Service at all."""
        if self.problem is BackendProblem.RESOURCE:
            return f"{self.name}, which is no Service"
        return "no backend" if self.problem is BackendProblem.NO_BACKEND else f"Service port {self}"

    def failing(self, problem: BackendProblem, message: str, certainty: Certainty = Certainty.DEFINITE) -> Backend:
        """It with what keeps it from being followed."""
        return replace(self, problem=problem, message=message, certainty=certainty)


def backend_of(cluster: Cluster, namespace: str, backend: IngressBackend) -> Backend:
    """The Service port that a backend of an Ingress in `namespace` names."""
    if backend.resource is not None:
        what = f"{backend.resource.kind or 'object'} {backend.resource.name or ''}".rstrip()
        return Backend(namespace, what, None).failing(BackendProblem.RESOURCE, f"the backend is {what}: it is not followed")
    name, port = _named(backend)
    found = Backend(namespace, name, port)
    if not name:
        return found.failing(BackendProblem.NO_BACKEND, "the path names no backend")
    if not cluster.has_kind("Service"):
        return found.failing(BackendProblem.UNKNOWN, "no Services are given")
    service = cluster.services.get((namespace, name))
    if service is None:
        return _without_service(found, [one for place, one in cluster.services if place == namespace])
    if service.spec.type == "ExternalName":
        whose = f"Service {namespace}/{name} is an ExternalName for {service.spec.external_name}"
        message = f"{whose}: not every controller follows it"
        return replace(found, service=service).failing(BackendProblem.EXTERNAL_NAME, message, Certainty.POSSIBLE)
    return _at_port(replace(found, service=service), service)


def _without_service(backend: Backend, here: Sequence[str]) -> Backend:
    """A backend whose Service is not among the objects; `here`: the names of those of its namespace."""
    message = f"Service {backend.namespace}/{backend.name} does not exist"
    if not here:  # the objects of this namespace may not have been given
        message += f"; no Service of namespace {backend.namespace} is among the objects"
        return backend.failing(BackendProblem.NO_SERVICE, message, Certainty.POSSIBLE)
    return backend.failing(BackendProblem.NO_SERVICE, f"{message}{did_you_mean(near_matches(backend.name, here))}")


def _at_port(backend: Backend, service: Service) -> Backend:
    """A backend with the port of its Service that it names by number or name."""
    port, ports = backend.port, service.spec.ports
    whose = f"Service {backend.namespace}/{backend.name}"
    if port is None:
        return backend.failing(BackendProblem.NO_PORT, f"the Ingress names no port of {whose}")
    found = [one for one in ports if port in (one.port, one.name)]
    usable = [one for one in found if (one.protocol or "TCP") == "TCP"]
    if usable:
        return replace(backend, service_port=usable[0])
    if found:
        message = f"port {port} of {whose} is {found[0].protocol}: HTTP needs TCP"
        return replace(backend, service_port=found[0]).failing(BackendProblem.NOT_TCP, message)
    listed = ", ".join(f"{one.port} ({one.name})" if one.name else str(one.port) for one in ports) or "none"
    return backend.failing(BackendProblem.NO_PORT, f"{whose} has no port {port!r}: it has {listed}")


def _named(backend: IngressBackend) -> tuple[str, int | str | None]:
    """Service and port as either API version names them; an absent port is None."""
    port: int | str | None
    if backend.service is not None:
        name = backend.service.name
        given = backend.service.port
        port = (given.number or given.name) if given is not None else None
    else:
        name, port = backend.service_name or "", backend.service_port
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)  # a port's name holds a letter: this is a number in quotes
    return name, port or None


class IngressPath(NamedTuple):
    """One path of an Ingress: its host as it is written ("" for any), path and path type; None for the default backend."""

    ingress: Ingress
    host: str
    path: str | None
    path_type: str | None
    backend: IngressBackend

    def __str__(self) -> str:
        """As messages name it."""
        return "the default backend" if self.path is None else f"{self.host or '*'}{self.path or '/'}"


def ingress_paths(ingress: Ingress) -> Iterator[IngressPath]:
    """Every path of an Ingress, and its default backend at the end."""
    for rule in ingress.spec.rules:
        for path in _paths(rule):
            yield IngressPath(
                ingress, (rule.host or "").lower(), path.path or "", path.path_type or "ImplementationSpecific", path.backend
            )
    default = ingress.spec.default_backend or ingress.spec.backend
    if default is not None:
        yield IngressPath(ingress, "", None, None, default)


def _paths(rule: IngressRule) -> tuple[HTTPIngressPath, ...]:
    return () if rule.http is None else rule.http.paths


# --- Classes ---


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """The class of an Ingress, None for none; where it comes from ("ingressClassName", "annotation", "default class", "none"); its IngressClass,
    None when there is none of that name.
    """

    name: str | None
    source: str
    ingress_class: IngressClass | None = None
    certainty: Certainty = Certainty.DEFINITE
    notes: tuple[str, ...] = ()

    @property
    def controller(self) -> str | None:
        """The controller that the IngressClass names ("k8s.io/ingress-nginx")."""
        return None if self.ingress_class is None else self.ingress_class.spec.controller


def class_of(cluster: Cluster, ingress: Ingress) -> ClassChoice:
    """The class of an Ingress: its field, else the annotation of old, else the default class."""
    field = ingress.spec.ingress_class_name
    annotation = ingress.metadata.annotation(CLASS_ANNOTATION)
    if field is not None or annotation is not None:
        source, name = ("annotation", annotation) if field is None else ("ingressClassName", field)
        if not name:
            return ClassChoice(None, "none", notes=("the Ingress asks for no class",))
        notes: tuple[str, ...] = ()
        if field is not None and annotation is not None and annotation != field:
            notes = (f"the annotation {CLASS_ANNOTATION} names class {annotation}, too: some controllers go by it",)
        found = cluster.ingress_classes.get(name)
        if found is None and source == "ingressClassName" and cluster.has_kind("IngressClass"):
            notes += (f"there is no IngressClass {name}{did_you_mean(near_matches(name, cluster.ingress_classes))}",)
        return ClassChoice(name, source, found, notes=notes)
    defaults = sorted(
        (one for one in cluster.ingress_classes.values() if one.metadata.annotation(DEFAULT_CLASS_ANNOTATION) == "true"),
        key=lambda one: (one.metadata.creation_timestamp or "", one.metadata.name),
    )
    if not defaults:
        note = "the Ingress has no class and no IngressClass is the default: only a controller that takes Ingresses without class serves it"
        return ClassChoice(None, "none", notes=(note,))
    # The API server fills the class in when an Ingress is created (plugin/pkg/admission/network/defaultingressclass).
    notes = ("the Ingress has no class: the default one is filled in only when an Ingress is created",)
    if len(defaults) > 1:
        names = ", ".join(one.metadata.name for one in defaults)
        notes += (f"more than one IngressClass is the default ({names}): the API server may refuse Ingresses without class",)
    newest = defaults[-1]
    return ClassChoice(newest.metadata.name, "default class", newest, Certainty.POSSIBLE, notes)


def ingresses_of_class(cluster: Cluster, name: str | None) -> tuple[Ingress, ...]:
    """The Ingresses of a class (None: without class), the oldest first."""
    return tuple(one for one in sorted(cluster.ingresses.values(), key=_age) if class_of(cluster, one).name == name)


# --- Routing ---


@dataclass(frozen=True, slots=True)
class Route:
    """What one class of Ingresses does with a URL.

    `path`: the path that serves it (`path.path` None: a default backend). `tls`: the entry for its host, None without one. `shadowed`: the
    Ingresses, (namespace, name), that ask for the same host and path and are passed over.
    """

    path: IngressPath
    choice: ClassChoice
    backend: Backend
    tls: IngressTLS | None = None
    shadowed: tuple[Key, ...] = ()
    certainty: Certainty = Certainty.DEFINITE
    notes: tuple[str, ...] = ()

    @property
    def ingress(self) -> Ingress:
        """The Ingress that serves it."""
        return self.path.ingress

    @property
    def is_default(self) -> bool:
        """Whether it is a default backend, which takes what no path takes."""
        return self.path.path is None


@dataclass(frozen=True, slots=True)
class Routing:
    """What becomes of a URL: a route for each class of Ingresses that serves it, the most specific first; which controller is asked depends on
    the address that a client connects to. `looked_at`: in words, for an answer when there is none. `near`: hosts that may have been meant.
    """

    url: URL
    routes: tuple[Route, ...]
    looked_at: tuple[str, ...]
    near: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def route(self) -> Route | None:
        """The most specific route."""
        return self.routes[0] if self.routes else None


_ANY, _WILDCARD, _EXACT = 1, 2, 3
_REGEX: Final = re.compile(r"[\\^$*+?()\[\]{}|]")
_ANNOTATIONS: Final = (
    "nginx.ingress.kubernetes.io/",
    "haproxy-ingress.github.io/",
    "traefik.ingress.kubernetes.io/",
    "haproxy.org/",
    "nginx.org/",
    "konghq.com/",
)
_CHANGING: Final = frozenset(
    (
        "app-root",
        "canary",
        "configuration-snippet",
        "default-backend",
        "path-rewrite",
        "permanent-redirect",
        "plugins",
        "request-redirect",
        "rewrite-target",
        "rewrites",
        "router.middlewares",
        "server-alias",
        "server-snippet",
        "service-upstream",
        "ssl-passthrough",
        "strip-path",
        "temporal-redirect",
        "use-regex",
    )
)


def route(cluster: Cluster, url: URL, ingress_class: str | None = None) -> Routing:
    """The Ingress paths that serve `url`. `ingress_class`: only Ingresses of this class; else of every class."""
    groups: dict[str | None, list[tuple[Ingress, ClassChoice]]] = {}
    for ingress in sorted(cluster.ingresses.values(), key=_age):
        choice = class_of(cluster, ingress)
        if ingress_class is None or choice.name == ingress_class:
            groups.setdefault(choice.name, []).append((ingress, choice))
    looked_at: list[str] = []
    found: list[tuple[int, Route]] = []
    hosts: set[str] = set()
    for name, members in groups.items():
        here = sorted({(rule.host or "*").lower() for ingress, _ in members for rule in ingress.spec.rules})
        hosts.update(here)
        count = f"{len(members)} Ingress{'es' if len(members) > 1 else ''}"
        what = "without class" if name is None else f"of class {name}"
        looked_at.append(f"{count} {what}, for {', '.join(here[:5]) or 'no host'}{' and more' if len(here) > 5 else ''}")
        taken = _route(cluster, url, members)
        if taken is not None:
            found.append(taken)
    if not cluster.ingresses:
        given = cluster.has_kind("Ingress")
        looked_at.append(
            "there is no Ingress" if given else "no Ingresses are given (kubectl get ingresses,ingressclasses -A -o json)"
        )
    elif not groups:
        looked_at.append(f"no Ingress is of class {ingress_class}")
    routes = tuple(one for _, one in sorted(found, key=lambda one: -one[0]))
    notes: tuple[str, ...] = ()
    if len(routes) > 1:
        names = ", ".join(one.choice.name or "none" for one in routes)
        notes = (f"Ingresses of several classes ({names}) serve it: the address that a client connects to decides",)
    near = near_matches(url.host, hosts - {"*", url.host}) if not routes or all(one.is_default for one in routes) else ()
    return Routing(url, routes, tuple(looked_at), near, notes)


def _age(ingress: Ingress) -> tuple[bool, str, Key]:
    """Oldest first, as most controllers settle conflicts; those without a time come last."""
    created = ingress.metadata.creation_timestamp
    return created is None, created or "", ingress.metadata.key


def _is_canary(ingress: Ingress) -> bool:
    return any(ingress.metadata.annotation(f"{prefix}canary") == "true" for prefix in _ANNOTATIONS[:1])


class _Match(NamedTuple):
    """How well a path matches: ordered, the best last."""

    elements: int
    exact: bool
    length: int


@dataclass
class _Told:
    """What is said of a route, and whether something of it leaves the route in doubt."""

    notes: list[str] = field(default_factory=list)
    certainty: Certainty = Certainty.DEFINITE

    def doubt(self, note: str) -> None:
        self.notes.append(note)
        self.certainty = Certainty.POSSIBLE


def _route(cluster: Cluster, url: URL, members: Sequence[tuple[Ingress, ClassChoice]]) -> tuple[int, Route] | None:
    """How a controller that serves these Ingresses, oldest first, answers, with how well the host matches."""
    choices = {ingress.metadata.key: choice for ingress, choice in members}
    ingresses = [ingress for ingress, _ in members if not _is_canary(ingress)]
    level = max((_host_level(rule.host, url.host) for one in ingresses for rule in one.spec.rules), default=0)
    matching, passed = _matching(ingresses, url, level)
    told = _Told()
    shadowed: tuple[Key, ...] = ()
    path: IngressPath | None
    if matching:
        path, shadowed = _best(matching, told)
    else:
        path = _default_path(ingresses, url, level, passed, told)
    if path is None:
        return None
    _tell_of_path_type(path, told)
    _tell_of_more(path, [ingress for ingress, _ in members if _is_canary(ingress)], url, told)
    tls = _tls(path, ingresses, url)
    _tell_of_tls(tls, url, told)
    choice = choices[path.ingress.metadata.key]
    backend = backend_of(cluster, path.ingress.metadata.namespace, path.backend)
    doubtful = Certainty.POSSIBLE in (told.certainty, choice.certainty, backend.certainty)
    certainty = Certainty.POSSIBLE if doubtful else Certainty.DEFINITE
    return level, Route(path, choice, backend, tls, shadowed, certainty, (*choice.notes, *told.notes))


def _matching(ingresses: Iterable[Ingress], url: URL, level: int) -> tuple[list[tuple[_Match, IngressPath]], list[IngressPath]]:
    """The paths that take the URL, of the hosts that match it best (`level`), and those of hosts that match it less well."""
    matching: list[tuple[_Match, IngressPath]] = []
    passed: list[IngressPath] = []
    for one in (path for ingress in ingresses for path in ingress_paths(ingress) if path.path is not None):
        here = _host_level(one.host, url.host)
        match = _path_match(one, url.path) if here else None
        if match is not None and here == level:
            matching.append((match, one))
        elif match is not None:
            passed.append(one)
    return matching, passed


def _best(matching: Sequence[tuple[_Match, IngressPath]], told: _Told) -> tuple[IngressPath, tuple[Key, ...]]:
    """The path that is taken, of those that match best the one of the oldest Ingress, and the Ingresses that are passed over by that."""
    best = max(match for match, _ in matching)
    equal = [one for match, one in matching if match == best]
    path = equal[0]
    others = {one.ingress.metadata.key: one.ingress for one in equal[1:]}
    others.pop(path.ingress.metadata.key, None)
    if others:
        names = ", ".join("/".join(one) for one in others)
        told.notes.append(f"Ingress {names} asks for the same host and path: the oldest counts, as with most controllers")
        created = path.ingress.metadata.creation_timestamp
        if created is None or any(one.metadata.creation_timestamp == created for one in others.values()):
            told.doubt("their times do not tell which is the oldest: the first by name is taken")
    return path, tuple(others)


def _default_path(
    ingresses: Iterable[Ingress], url: URL, level: int, passed: Sequence[IngressPath], told: _Told
) -> IngressPath | None:
    """The default backend that answers where no path takes the URL, None where there is none. `passed`: paths of hosts that match less well."""
    default, sure = _default(ingresses, url.host, level)
    if default is None:
        return None
    told.notes.append("no path takes the URL: the default backend answers")
    if not sure:
        told.doubt("not every controller uses the default backend of an Ingress for hosts that are not its own")
    if passed:
        told.doubt(f"a controller that goes on to other rules for the host, as Traefik does, takes {passed[0]}")
    return default


def _tell_of_path_type(path: IngressPath, told: _Told) -> None:
    if path.path_type != "ImplementationSpecific":
        return
    told.notes.append("path type ImplementationSpecific: the controller decides what it means; taken as Prefix")
    if _REGEX.search(path.path or ""):
        told.doubt(
            f"{path.path} is a regular expression to some controllers: only what comes before its first special character is compared"
        )


def _tell_of_more(path: IngressPath, canaries: Iterable[Ingress], url: URL, told: _Told) -> None:
    """What takes a part of the requests, or tells the controller more than the rules do."""
    told.notes.extend(
        f"Ingress {'/'.join(canary.metadata.key)} takes a part of the requests (canary): not followed"
        for canary in canaries
        if any(_host_level(rule.host, url.host) for rule in canary.spec.rules)
    )
    changing = _changing_annotations(path.ingress)
    if changing:
        told.notes.append(f"the controller is told more by {', '.join(changing)}: not followed")


def _tell_of_tls(tls: IngressTLS | None, url: URL, told: _Told) -> None:
    if url.scheme == "https" and tls is None:
        told.notes.append(f"no tls entry is for {url.host}: the controller answers with its default certificate, or not at all")
    elif url.scheme == "http" and tls is not None:
        told.notes.append("the host has a tls entry: many controllers answer http with a redirection to https")


def _host_level(pattern: str | None, host: str) -> int:
    """0 no match, else how specific it is. A wildcard stands for one label (IngressRule.host)."""
    if not pattern:
        return _ANY
    pattern = pattern.lower()
    if pattern == host:
        return _EXACT
    if pattern.startswith("*.") and canonical(host) is None:
        first, _, rest = host.partition(".")
        return _WILDCARD if first and rest == pattern[2:] else 0
    return 0


def _path_match(one: IngressPath, path: str) -> _Match | None:
    """How a path of an Ingress matches, None when it does not. Prefix goes by elements: /foo takes /foo/bar, not /foobar."""
    wanted = one.path or "/"
    if one.path_type == "Exact":
        return _Match(len(_elements(wanted)), True, len(wanted)) if wanted == path else None
    special = _REGEX.search(wanted) if one.path_type != "Prefix" else None
    if special is not None:
        literal = wanted[: special.start()]
        return _Match(len(_elements(literal)), False, len(literal)) if path.startswith(literal or "/") else None
    elements = _elements(wanted)
    if _elements(path)[: len(elements)] != elements:
        return None
    return _Match(len(elements), False, len(wanted))


def _elements(path: str) -> list[str]:
    return [one for one in path.split("/") if one]


def _default(ingresses: Iterable[Ingress], host: str, level: int) -> tuple[IngressPath | None, bool]:
    """The default backend for a host, and whether controllers agree on it: of an Ingress with rules for the host, else of one without rules,
    else of any.
    """
    own: list[IngressPath] = []
    everywhere: list[IngressPath] = []
    others: list[IngressPath] = []
    for ingress in ingresses:
        default = next((one for one in ingress_paths(ingress) if one.path is None), None)
        if default is None:
            continue
        rules = ingress.spec.rules
        if not rules:
            everywhere.append(default)
        elif level and any(_host_level(rule.host, host) == level for rule in rules):
            own.append(default)
        else:
            others.append(default)
    agreed = [*own, *everywhere]
    return (agreed[0], True) if agreed else (others[0], False) if others else (None, True)


def _tls(path: IngressPath, ingresses: Sequence[Ingress], url: URL) -> IngressTLS | None:
    own = path.ingress
    for ingress in (own, *(one for one in ingresses if one is not own)):
        for entry in ingress.spec.tls:
            if any(_host_level(host, url.host) >= _WILDCARD for host in entry.hosts) or (not entry.hosts and ingress is own):
                return entry
    return None


def changes_path(annotation: str) -> bool:
    """Whether an annotation of this name changes where its Ingress leads, beside its rules."""
    prefix, _, last = annotation.rpartition("/")
    return f"{prefix}/" in _ANNOTATIONS and last in _CHANGING


def _changing_annotations(ingress: Ingress) -> list[str]:
    return sorted(name for name in ingress.metadata.annotations or {} if changes_path(name))
