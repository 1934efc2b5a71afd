"""Whatever is asked for: a value or a clear message, never anything else."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ruleaudit.cluster import load
from ruleaudit.ways.ingress import URLError, parse_url, route
from ruleaudit.ways.names import Answer, resolve

LABELS = st.sampled_from(["web", "db", "demo", "other", "svc", "pod", "cluster", "local", "_http", "_tcp", "10-244-1-5", "x", ""])
NAMES = st.lists(LABELS, max_size=7).map(".".join) | st.text(max_size=40)
PATHS = st.lists(st.sampled_from(["", "a", "b", "(", "*", "a+"]), max_size=4).map(lambda parts: "/" + "/".join(parts))
KINDS = st.sampled_from(["Exact", "Prefix", "ImplementationSpecific", None])


def objects(name: str = "web", external: str | None = None, paths: list[tuple[str, str | None]] | None = None) -> bytes:
    spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "name": "http"}]}
    if external is not None:
        spec = {"type": "ExternalName", "externalName": external}
    entries = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": "web", "port": {"number": 80 + number}}}}
        for number, (path, kind) in enumerate(paths or [])
    ]
    items = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client", "namespace": "demo"},
            "status": {"podIP": "10.244.1.5"},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "i", "namespace": "demo"},
            "spec": {"rules": [{"host": "h.example.com", "http": {"paths": entries}}]},
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()


@given(NAMES, NAMES)
def test_every_name_has_an_answer(name: str, external: str) -> None:
    for cluster in (load([("o", objects())]), load([("o", objects(external=external))])):
        for client in (None, cluster.pods["demo", "client"]):
            found = resolve(cluster, name, client)
            assert bool(found.addresses) == (found.answer is Answer.ANSWERED)
            assert found.answer is Answer.ANSWERED or found.answer is Answer.NO_SUCH_NAME or found.notes or found.canonical


@given(st.text(max_size=40) | st.tuples(NAMES, PATHS).map(lambda pair: f"http://{pair[0]}{pair[1]}"))
def test_every_url_is_read_or_refused(text: str) -> None:
    try:
        url = parse_url(text)
    except URLError:
        return
    assert url.path.startswith("/")
    assert route(load([("o", objects())]), url).looked_at


@given(st.lists(st.tuples(PATHS, KINDS), min_size=1, max_size=5), PATHS)
def test_an_exact_path_takes_its_own_url(paths: list[tuple[str, str | None]], asked: str) -> None:
    """What is taken is a path of the Ingress; an Exact path that is asked for always wins."""
    found = route(load([("o", objects(paths=paths))]), parse_url(f"http://h.example.com{asked}")).route
    if (asked, "Exact") in paths:
        assert found is not None
        assert (found.path.path, found.path.path_type) == (asked, "Exact")
    elif found is not None:
        assert found.path.path in {path for path, _ in paths}
