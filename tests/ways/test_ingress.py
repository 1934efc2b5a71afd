"""URLs to Ingress rules and backends, on small written clusters and on every captured one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Certainty
from ruleaudit.ways.ingress import (
    BackendProblem,
    URLError,
    backend_of,
    class_of,
    ingress_paths,
    ingresses_of_class,
    parse_url,
    route,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Object = dict[str, object]


def listed(*items: Object) -> Cluster:
    return load([("objects", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode())])


def service(name: str, *ports: Object, **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "d"},
        "spec": {"ports": list(ports), **spec},
    }


def path(to: str, path: str | None = "/", kind: str = "Prefix", port: Object | None = None) -> Object:
    return {"path": path, "pathType": kind, "backend": {"service": {"name": to, "port": port or {"number": 80}}}}


def ingress(
    name: str, host: str | None, *paths: Object, created: str = "2026-01-01T00:00:00Z", meta: Object | None = None, **spec: object
) -> Object:
    rules = [{"host": host, "http": {"paths": list(paths)}}] if paths else []
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "d", "creationTimestamp": created, **(meta or {})},
        "spec": {"ingressClassName": "nginx", "rules": rules, **spec},
    }


def ingress_class(name: str, *, default: bool = False, created: str = "2026-01-01T00:00:00Z") -> Object:
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name, "annotations": annotations, "creationTimestamp": created},
        "spec": {"controller": f"example.com/{name}"},
    }


HTTP = {"port": 80, "name": "http"}
NGINX = ingress_class("nginx")
SERVICES = [service(name, HTTP) for name in ("a", "b", "c", "d", "e")]
DEFAULT = {"service": {"name": "e", "port": {"number": 80}}}


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://Shop.Example.com", ("http", "shop.example.com", 80, "/")),
        ("https://shop.example.com./cart?x=1#y", ("https", "shop.example.com", 443, "/cart")),
        ("https://shop.example.com:8443/", ("https", "shop.example.com", 8443, "/")),
        ("http://[2001:db8::1]:81/a", ("http", "2001:db8::1", 81, "/a")),
    ],
)
def test_urls(text: str, url: tuple[str, str, int, str]) -> None:
    assert tuple(parse_url(text)) == url
    assert tuple(parse_url(str(parse_url(text)))) == url


@pytest.mark.parametrize(
    "text", ["shop.example.com", "ftp://a/", "http://", "http:///a", "http://a:0/", "http://a:99999/", "http://[::/"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(URLError):
        parse_url(text)


@pytest.mark.parametrize(
    ("kind", "pattern", "asked", "taken"),
    [
        # The table of the API's documentation (Ingress, path types, examples).
        ("Prefix", "/", "/any/thing", True),
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/bar", False),
        ("Exact", "/foo", "/foo/", False),
        ("Exact", "/foo/", "/foo", False),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/foo/", "/foo/", True),
        ("Prefix", "/aaa/bb", "/aaa/bbb", False),
        ("Prefix", "/aaa/bbb", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb/", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", False),
        ("ImplementationSpecific", "/foo", "/foo/bar", True),
        ("ImplementationSpecific", "/foo", "/foobar", False),
        ("ImplementationSpecific", None, "/any", True),
        ("ImplementationSpecific", "/foo(/|$)(.*)", "/foo/bar", True),
        ("ImplementationSpecific", "/foo(/|$)(.*)", "/bar", False),
    ],
)
def test_path_types(kind: str, pattern: str | None, asked: str, taken: bool) -> None:
    cluster = listed(NGINX, *SERVICES, ingress("i", "h.example.com", path("a", pattern, kind)))
    found = route(cluster, parse_url(f"http://h.example.com{asked}")).route
    assert (found is not None) is taken
    if found is not None:
        specific = any("ImplementationSpecific" in note for note in found.notes)
        assert specific is (kind == "ImplementationSpecific")
        assert found.certainty is (Certainty.POSSIBLE if "(" in (pattern or "") else Certainty.DEFINITE)


OTHERS = [ingress("other", "*.example.com", path("b")), ingress("any", None, path("c"))]


@pytest.mark.parametrize(
    ("ingresses", "url", "to"),
    [
        pytest.param([ingress("i", "h.example.com", path("a")), *OTHERS], "http://h.example.com/", "a", id="exact host first"),
        pytest.param(OTHERS, "http://x.example.com/", "b", id="wildcard before any"),
        pytest.param(OTHERS, "http://x.y.example.com/", "c", id="a wildcard is one label"),
        pytest.param(OTHERS, "http://example.com/", "c", id="a wildcard needs a label"),
        pytest.param(OTHERS, "http://192.0.2.1/", "c", id="an address is no host of a rule"),
        pytest.param([ingress("i", "H.Example.com", path("a"))], "http://h.example.com/", "a", id="case"),
        pytest.param(
            [ingress("i", "h.example.com", path("a", "/"), path("b", "/api"), path("c", "/api/v1"))],
            "http://h.example.com/api/v1/x",
            "c",
            id="longest",
        ),
        pytest.param(
            [ingress("i", "h.example.com", path("a", "/api"), path("b", "/api", "Exact"))],
            "http://h.example.com/api",
            "b",
            id="Exact first",
        ),
        pytest.param(
            [
                ingress("new", "h.example.com", path("a"), created="2026-02-01T00:00:00Z"),
                ingress("old", "h.example.com", path("b")),
            ],
            "http://h.example.com/",
            "b",
            id="the oldest Ingress",
        ),
        pytest.param(
            [ingress("i", "h.example.com", path("a", "/a"), defaultBackend=DEFAULT)],
            "http://h.example.com/b",
            "e",
            id="default backend",
        ),
        pytest.param(
            [ingress("i", "h.example.com", path("a", "/a")), ingress("all", None, defaultBackend=DEFAULT)],
            "http://other.example.org/b",
            "e",
            id="default backend for every host",
        ),
        pytest.param([ingress("i", "h.example.com", path("a", "/a"))], "http://h.example.com/b", None, id="no path"),
        pytest.param([ingress("i", "h.example.com", path("a", "/a"))], "http://g.example.com/a", None, id="no host"),
        pytest.param(
            [
                ingress(
                    "canary", "h.example.com", path("b"), meta={"annotations": {"nginx.ingress.kubernetes.io/canary": "true"}}
                ),
                ingress("main", "h.example.com", path("a"), created="2026-03-01T00:00:00Z"),
            ],
            "http://h.example.com/",
            "a",
            id="a canary is passed over",
        ),
    ],
)
def test_which_rule(ingresses: Sequence[Object], url: str, to: str | None) -> None:
    found = route(listed(NGINX, *SERVICES, *ingresses), parse_url(url))
    assert [one.backend.name for one in found.routes] == ([] if to is None else [to])
    assert found.looked_at


@pytest.mark.parametrize(
    ("ingresses", "url", "note"),
    [
        (
            [
                ingress("new", "h.example.com", path("a"), created="2026-02-01T00:00:00Z"),
                ingress("old", "h.example.com", path("b")),
            ],
            "http://h.example.com/",
            "Ingress d/new asks for the same host and path",
        ),
        ([ingress("i", "h.example.com", path("a", "/a"), defaultBackend=DEFAULT), *OTHERS], "http://h.example.com/b", "Traefik"),
        ([ingress("i", "h.example.com", path("a"))], "https://h.example.com/", "no tls entry is for h.example.com"),
        (
            [ingress("i", "h.example.com", path("a"), tls=[{"hosts": ["h.example.com"]}])],
            "http://h.example.com/",
            "redirection to https",
        ),
        (
            [ingress("i", "h.example.com", path("a"), meta={"annotations": {"nginx.ingress.kubernetes.io/rewrite-target": "/"}})],
            "http://h.example.com/",
            "rewrite-target: not followed",
        ),
        ([ingress("i", "h.example.com", path("a"), defaultBackend=DEFAULT)], "http://g.example.com/", "not every controller"),
    ],
)
def test_what_is_said_of_a_route(ingresses: Sequence[Object], url: str, note: str) -> None:
    found = route(listed(NGINX, *SERVICES, *ingresses), parse_url(url)).route
    assert found is not None
    assert note in "; ".join(found.notes)


@pytest.mark.parametrize(
    ("tls", "covered"),
    [
        ([{"hosts": ["h.example.com"], "secretName": "s"}], True),
        ([{"hosts": ["*.example.com"], "secretName": "s"}], True),
        ([{"secretName": "s"}], True),
        ([{"hosts": ["g.example.com"], "secretName": "s"}], False),
        ([], False),
    ],
)
def test_tls_hosts(tls: list[Object], covered: bool) -> None:
    found = route(
        listed(NGINX, *SERVICES, ingress("i", "h.example.com", path("a"), tls=tls)), parse_url("https://h.example.com/")
    ).route
    assert found is not None
    assert (found.tls is not None) is covered
    assert any("tls" in note for note in found.notes) is not covered


BACKENDS = [
    service("a", HTTP, {"port": 53, "name": "dns", "protocol": "UDP"}),
    service("outside", type="ExternalName", externalName="db.example.com"),
    service("headless", HTTP, clusterIP="None"),
]
V1 = {"service": {"name": "a", "port": {"number": 80}}}


@pytest.mark.parametrize(
    ("backend", "problem", "message"),
    [
        pytest.param(V1, None, "", id="number"),
        pytest.param({"service": {"name": "a", "port": {"name": "http"}}}, None, "", id="name"),
        pytest.param({"service": {"name": "headless", "port": {"number": 80}}}, None, "", id="headless"),
        pytest.param({"serviceName": "a", "servicePort": 80}, None, "", id="v1beta1 number"),
        pytest.param({"serviceName": "a", "servicePort": "http"}, None, "", id="v1beta1 name"),
        pytest.param({"serviceName": "a", "servicePort": "80"}, None, "", id="v1beta1 number in quotes"),
        pytest.param(
            {"resource": {"kind": "StorageBucket", "name": "s"}}, BackendProblem.RESOURCE, "not followed", id="resource"
        ),
        pytest.param(
            {"service": {"name": "b", "port": {"number": 80}}}, BackendProblem.NO_SERVICE, "d/b does not exist", id="no Service"
        ),
        pytest.param(
            {"service": {"name": "headles", "port": {"number": 80}}},
            BackendProblem.NO_SERVICE,
            "did you mean headless",
            id="near",
        ),
        pytest.param(
            {"service": {"name": "a", "port": {"number": 8080}}}, BackendProblem.NO_PORT, "it has 80 (http)", id="no port"
        ),
        pytest.param(
            {"service": {"name": "a", "port": {"name": "web"}}}, BackendProblem.NO_PORT, "no port 'web'", id="no port name"
        ),
        pytest.param({"service": {"name": "a"}}, BackendProblem.NO_PORT, "names no port", id="port left out"),
        pytest.param({"service": {"name": "a", "port": {"name": "dns"}}}, BackendProblem.NOT_TCP, "is UDP", id="UDP"),
        pytest.param(
            {"service": {"name": "outside", "port": {"number": 80}}},
            BackendProblem.EXTERNAL_NAME,
            "db.example.com",
            id="ExternalName",
        ),
        pytest.param({}, BackendProblem.NO_BACKEND, "names no backend", id="nothing"),
    ],
)
def test_backends(backend: Object, problem: BackendProblem | None, message: str) -> None:
    one = ingress("i", "h.example.com", {"path": "/", "pathType": "Prefix", "backend": backend})
    cluster = listed(*BACKENDS, one)
    found = backend_of(cluster, "d", next(ingress_paths(cluster.ingresses["d", "i"])).backend)
    assert found.problem is problem
    assert message in found.message
    assert found.broken is (problem not in (None, BackendProblem.RESOURCE))
    assert (found.service_port is not None) is (problem in (None, BackendProblem.NOT_TCP))


def test_without_services_no_backend_is_called_broken() -> None:
    cluster = listed(ingress("i", "h.example.com", path("a")))
    found = backend_of(cluster, "d", next(ingress_paths(cluster.ingresses["d", "i"])).backend)
    assert (found.problem, found.broken) == (BackendProblem.UNKNOWN, False)


def test_v1beta1_default_backend() -> None:
    old = ingress("i", None, backend={"serviceName": "a", "servicePort": 80}) | {"apiVersion": "extensions/v1beta1"}
    found = route(listed(*BACKENDS, old), parse_url("http://any.example.com/")).route
    assert found is not None
    assert found.is_default
    assert str(found.backend) == "d/a:80"
    assert found.backend.described == "Service port d/a:80"


@pytest.mark.parametrize(
    ("backend", "described"),
    [
        ({"resource": {"kind": "StorageBucket", "name": "s"}}, "StorageBucket s, which is no Service"),
        ({}, "no backend"),
        ({"service": {"name": "x", "port": {"name": "http"}}}, "Service port d/x:http"),
    ],
)
def test_backends_in_words(backend: Object, described: str) -> None:
    one = ingress("i", "h.example.com", {"path": "/", "pathType": "Prefix", "backend": backend})
    cluster = listed(*BACKENDS, one)
    assert backend_of(cluster, "d", next(ingress_paths(cluster.ingresses["d", "i"])).backend).described == described


ANNOTATED: Object = {"annotations": {"kubernetes.io/ingress.class": "old"}}
NEWEST = ingress_class("newest", default=True, created="2026-05-01T00:00:00Z")


@pytest.mark.parametrize(
    ("classes", "meta", "field", "name", "source", "note"),
    [
        pytest.param([NGINX], {}, "nginx", "nginx", "ingressClassName", "", id="field"),
        pytest.param([NGINX], {}, "ngnix", "ngnix", "ingressClassName", "did you mean nginx", id="no such class"),
        pytest.param([NGINX], ANNOTATED, None, "old", "annotation", "", id="annotation"),
        pytest.param([NGINX], ANNOTATED, "nginx", "nginx", "ingressClassName", "class old, too", id="both"),
        pytest.param([NGINX, NEWEST], {}, None, "newest", "default class", "only when an Ingress is created", id="default"),
        pytest.param(
            [NEWEST, ingress_class("b", default=True)], {}, None, "newest", "default class", "more than one", id="two defaults"
        ),
        pytest.param([NGINX], {}, None, None, "none", "no IngressClass is the default", id="no class"),
        pytest.param([NEWEST], {}, "", None, "none", "asks for no class", id="empty"),
    ],
)
def test_classes(classes: list[Object], meta: Object, field: str | None, name: str | None, source: str, note: str) -> None:
    cluster = listed(*classes, ingress("i", "h.example.com", path("a"), meta=meta, ingressClassName=field))
    found = class_of(cluster, cluster.ingresses["d", "i"])
    assert (found.name, found.source) == (name, source)
    assert note in "; ".join(found.notes)
    assert found.certainty is (Certainty.POSSIBLE if source == "default class" else Certainty.DEFINITE)


def test_each_class_has_its_own_route() -> None:
    both = [ingress("any", None, path("a")), ingress("t", "h.example.com", path("b"), ingressClassName="traefik")]
    cluster = listed(*SERVICES, NGINX, ingress_class("traefik"), *both)
    found = route(cluster, parse_url("http://h.example.com/"))
    assert [(one.choice.name, one.backend.name) for one in found.routes] == [("traefik", "b"), ("nginx", "a")]
    assert "the address that a client connects to decides" in found.notes[0]
    assert [one.backend.name for one in route(cluster, parse_url("http://h.example.com/"), "nginx").routes] == ["a"]
    assert [one.metadata.name for one in ingresses_of_class(cluster, "traefik")] == ["t"]
    assert route(cluster, parse_url("http://h.example.com/"), "kong").looked_at == ("no Ingress is of class kong",)


@pytest.mark.parametrize(
    ("times", "certainty"),
    [
        (("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"), Certainty.DEFINITE),
        (("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), Certainty.POSSIBLE),
        ((None, None), Certainty.POSSIBLE),
        ((None, "2026-01-01T00:00:00Z"), Certainty.DEFINITE),
    ],
)
def test_two_ingresses_for_one_path(times: tuple[str | None, str | None], certainty: Certainty) -> None:
    both = [ingress(name, "h.example.com", path("a"), created=time or "") for name, time in zip("xy", times, strict=True)]
    for one, time in zip(both, times, strict=True):
        if time is None:
            del one["metadata"]["creationTimestamp"]  # type: ignore[attr-defined]
    found = route(listed(NGINX, *SERVICES, *both), parse_url("http://h.example.com/")).route
    assert found is not None
    assert found.certainty is certainty
    assert found.ingress.metadata.name == ("y" if times[0] is None and times[1] else "x")
    assert len(found.shadowed) == 1


def test_unknown_hosts_have_near_matches() -> None:
    cluster = listed(NGINX, *SERVICES, ingress("i", "shop.example.com", path("a")))
    assert route(cluster, parse_url("http://shpo.example.com/")).near == ("shop.example.com",)
    assert "no Ingresses are given" in route(listed(*SERVICES), parse_url("http://a/")).looked_at[0]


def test_ingresses_of_every_captured_cluster(capture_folders: list[Path]) -> None:
    """Every path of every Ingress is reached by its URL, and leads to a Service port that is there or is told broken."""
    folders = [one for one in capture_folders if one.name.startswith("features-")]
    broken: set[tuple[str, str]] = set()
    for folder in folders:
        cluster = load([("objects.json", (folder / "objects.json").read_bytes())])
        for one in cluster.ingresses.values():
            for entry in ingress_paths(one):
                found = route(cluster, parse_url(f"http://{entry.host}{entry.path}")).route
                assert found is not None
                assert found.path == entry
                assert found.choice.ingress_class is not None
                backend = found.backend
                if backend.problem is None:
                    assert cluster.services["demo", backend.name].spec.ports.index(backend.service_port) >= 0
                else:
                    broken.add((one.metadata.name, backend.problem.value))
    if folders:
        assert broken == {("badport", "no such port"), ("tools", "no such Service")}
