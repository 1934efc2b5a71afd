from __future__ import annotations

import gc
import json

import pytest

from ruleaudit.cluster import Cluster, load
from ruleaudit.errors import InputError

Object = dict[str, object]
SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "d", "resourceVersion": "9", "managedFields": [{"manager": "kubectl"}]},
    "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "targetPort": "http"}]},
}
NODE: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
KNATIVE: Object = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "web", "namespace": "d"}}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def listed(*items: object, kind: str = "List") -> bytes:
    return text({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": ""}, "items": list(items)})


def one(data: bytes) -> Cluster:
    return load([("objects", data)])


YAML = b"""\
# kubectl get services -o yaml
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: d
  creationTimestamp: 2026-01-02T03:04:05Z
spec:
  clusterIP: 10.96.0.1
  selector: {version: "1.0", on: "yes"}
  ports:
  - {port: 80, targetPort: http}
"""
KYAML = b"""\
---
{
  apiVersion: "v1",
  kind: "Service",
  metadata: {name: "web", namespace: "d",},
  spec: {ports: [{port: 80, targetPort: "http",}],},
}
"""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(text(SERVICE), id="one object"),
        pytest.param(listed(SERVICE), id="a List"),
        pytest.param(listed(SERVICE, KNATIVE, {"apiVersion": "v1", "kind": "Secret", "data": 1}), id="a List with other kinds"),
        pytest.param(listed({key: SERVICE[key] for key in ("metadata", "spec")}, kind="ServiceList"), id="a typed list"),
        pytest.param(text([SERVICE]), id="an array"),
        pytest.param(text(SERVICE) + b"\n\n" + text(NODE) + text(KNATIVE), id="documents one after the other"),
        pytest.param(b"\xef\xbb\xbf" + text(SERVICE), id="byte order mark"),
        pytest.param(text(SERVICE).decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b"  \r\n" + text(SERVICE) + b"\r\n", id="white space around"),
        pytest.param(YAML, id="YAML"),
        pytest.param(b"---\n---\n" + YAML + b"---\n" + text(NODE) + b"\n...\n", id="YAML documents"),
        pytest.param(
            b"kind: List\napiVersion: v1\nitems:\n- " + YAML.replace(b"\n", b"\n  ").split(b"\n", 1)[1].lstrip(), id="YAML List"
        ),
        pytest.param(KYAML, id="KYAML"),
    ],
)
def test_every_way_of_writing_a_service(data: bytes) -> None:
    cluster = one(data)
    assert list(cluster.services) == [("d", "web")]
    (port,) = cluster.services["d", "web"].spec.ports
    assert (port.port, port.target_port, port.name, port.protocol) == (80, "http", None, None)
    assert cluster.has_kind("Service")
    assert not cluster.has_kind("EndpointSlice")
    assert not cluster.problems


def test_yaml_scalars_are_read_as_the_api_has_them() -> None:
    service = one(YAML).services["d", "web"]
    assert service.metadata.creation_timestamp == "2026-01-02T03:04:05Z"
    assert service.spec.selector == {"version": "1.0", "on": "yes"}


def test_several_parts_are_one_cluster() -> None:
    cluster = load([("services.json", text(SERVICE)), ("nodes.yaml", b"kind: Node\napiVersion: v1\nmetadata: {name: node-a}\n")])
    assert list(cluster.services) == [("d", "web")]
    assert list(cluster.nodes) == ["node-a"]


def test_an_empty_typed_list_says_that_there_are_none() -> None:
    cluster = one(text({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "items": []}))
    assert cluster.has_kind("EndpointSlice")
    assert not cluster.slices


def test_a_service_of_another_api_group_is_none() -> None:
    cluster = one(text(KNATIVE))
    assert not cluster.services
    assert not cluster.has_kind("Service")


@pytest.mark.parametrize("field", ["ports", "endpoints"])
@pytest.mark.parametrize("as_yaml", [False, True])
def test_null_is_absent(field: str, *, as_yaml: bool) -> None:
    given: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "d", "labels": None},
    }
    given |= {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "hints": None}],
        "ports": [{"name": None, "port": None}],
    }
    given[field] = None
    cluster = one((b"%YAML 1.2\n---\n" if as_yaml else b"") + text(given))
    assert not cluster.problems
    found = cluster.slices["d", "s"]
    assert getattr(found, field) == ()


def with_spec(**spec: object) -> Object:
    return {**SERVICE, "metadata": {"name": "bad", "namespace": "d"}, "spec": spec}


@pytest.mark.parametrize(
    ("broken", "name", "where"),
    [
        pytest.param(with_spec(ports=[{"port": "80"}]), "bad", "$.spec.ports[0].port", id="text for a number"),
        pytest.param(with_spec(ports={}), "bad", "$.spec.ports", id="an object for a list"),
        pytest.param(with_spec(selector=["app"]), "bad", "$.spec.selector", id="a list for an object"),
        pytest.param(with_spec(clusterIP=10), "bad", "$.spec.clusterIP", id="a number for an address"),
        pytest.param(
            {**SERVICE, "spec": 1, "metadata": {"name": "bad", "namespace": "d"}}, "bad", "$.spec", id="a number for the spec"
        ),
        pytest.param({**SERVICE, "metadata": {"name": 7, "namespace": "d"}}, "", "$.metadata.name", id="a number for the name"),
        pytest.param({**SERVICE, "metadata": {}}, "", "$.metadata.name", id="no name"),
        pytest.param({"apiVersion": "v1", "kind": "Service"}, "", "", id="no metadata"),
    ],
)
@pytest.mark.parametrize("as_yaml", [False, True])
def test_a_broken_object_is_left_out_and_named(broken: Object, name: str, where: str, *, as_yaml: bool) -> None:
    cluster = one((b"# YAML\n" if as_yaml else b"") + listed(SERVICE, broken, NODE))
    assert list(cluster.services) == [("d", "web")]
    assert list(cluster.nodes) == ["node-a"]
    (problem,) = cluster.problems
    assert (problem.path, problem.kind, problem.name, problem.where) == ("objects", "Service", name, where)
    assert "left out" in problem.message
    assert "Service" in str(problem)
    assert "objects" in str(problem)


def test_an_item_that_is_no_object_is_a_problem() -> None:
    cluster = one(listed(SERVICE, 5))
    assert list(cluster.services) == [("d", "web")]
    assert len(cluster.problems) == 1


def test_text_that_is_no_utf_8_breaks_its_object_alone() -> None:
    broken = text({**SERVICE, "metadata": {"name": "bad", "namespace": "?"}}).replace(b"?", b"\xff")
    cluster = one(b'{"kind": "List", "apiVersion": "v1", "items": [' + text(SERVICE) + b"," + broken + b"]}")
    assert list(cluster.services) == [("d", "web")]
    assert [problem.name for problem in cluster.problems] == ["bad"]


def version(resource_version: object, cluster_ip: str) -> Object:
    return {
        **SERVICE,
        "metadata": {"name": "web", "namespace": "d", "resourceVersion": resource_version},
        "spec": {"clusterIP": cluster_ip},
    }


@pytest.mark.parametrize(
    ("first", "second", "used", "noted"),
    [
        pytest.param(version("9", "10.96.0.1"), version("10", "10.96.0.2"), "10.96.0.2", True, id="newer second"),
        pytest.param(version("10", "10.96.0.1"), version("9", "10.96.0.2"), "10.96.0.1", True, id="newer first"),
        pytest.param(version("9", "10.96.0.1"), version("9", "10.96.0.1"), "10.96.0.1", False, id="equal"),
        pytest.param(version(None, "10.96.0.1"), version(None, "10.96.0.2"), "10.96.0.2", True, id="no versions: the last"),
    ],
)
def test_an_object_given_twice(first: Object, second: Object, used: str, *, noted: bool) -> None:
    cluster = load([("first", text(first)), ("second", text(second))])
    assert cluster.services["d", "web"].spec.cluster_ip == used
    assert [note.path for note in cluster.notes] == (["second"] if noted else [])


def test_an_object_without_namespace_is_of_namespace_default() -> None:
    cluster = one(text({**SERVICE, "metadata": {"name": "web"}}))
    assert list(cluster.services) == [("default", "web")]
    assert cluster.services["default", "web"].metadata.key == ("default", "web")
    assert len(cluster.notes) == 1


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        pytest.param(b"", None, "empty", id="nothing"),
        pytest.param(b" \n\n", None, "empty", id="white space"),
        pytest.param(text(SERVICE)[:-5], 1, "cut short", id="truncated"),
        pytest.param(json.dumps(SERVICE, indent=1).encode()[:-5], 24, "cut short", id="truncated, on many lines"),
        pytest.param(b'{"kind": "Service",\n "metadata": {,}}', 2, "malformed JSON", id="malformed JSON"),
        pytest.param(text(SERVICE) + b"\n} rubbish", 2, "malformed JSON", id="rubbish after a document"),
        pytest.param(b"kind: [", 1, "malformed YAML", id="malformed YAML"),
        pytest.param(b"kind: Service\n\tname: x\n", 2, "malformed YAML", id="a tab in YAML"),
        pytest.param(b"a: \x00", None, "malformed YAML", id="NUL"),
        pytest.param(
            b"NAME   TYPE   CLUSTER-IP\nweb    x      10.96.0.1\n", None, "not Kubernetes objects", id="kubectl's table"
        ),
        pytest.param(b"{}", None, "kind", id="an object without kind"),
        pytest.param(b'{"kind": 1}', None, "not Kubernetes objects", id="a kind that is none"),
        pytest.param(
            b'{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "services is forbidden"}',
            None,
            "services is forbidden",
            id="the API server's refusal",
        ),
        pytest.param(b"[" * 100_000, 1, "nested too deeply", id="JSON nested without end"),
        pytest.param(b"- " * 100_000, 1, "nested too deeply", id="YAML nested without end"),
        pytest.param(b"a: [" * 100_000, 1, "nested too deeply", id="YAML in flow style nested without end"),
        pytest.param(b"? [a]\n: b\n", 1, "key", id="a list for a key"),
        pytest.param(b"a: &a 1\n*a : b\n", 2, "key", id="an alias for a key"),
        pytest.param(b"a: *b\n", 1, "anchor", id="an alias of nothing"),
    ],
)
def test_what_is_no_kubernetes_object_is_refused(data: bytes, line: int | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        one(data)
    assert caught.value.line == line
    assert message in caught.value.message
    assert str(caught.value).startswith("objects:")


def test_aliases_that_expand_without_end_are_refused() -> None:
    bomb = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12))
    with pytest.raises(InputError, match="aliases"):
        one(b"kind: Service\napiVersion: v1\n" + bomb)


def test_aliases_are_followed() -> None:
    cluster = one(YAML.replace(b"namespace: d", b"namespace: &n d") + b"  sessionAffinity: *n\n")
    assert cluster.services["d", "web"].spec.session_affinity == "d"


def pod(name: str, address: str, phase: str = "Running", **status: object) -> Object:
    metadata = {"name": name, "namespace": "d"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": address, "phase": phase, **status}}


def test_pods_by_address() -> None:
    cluster = one(
        listed(
            pod("old", "10.0.0.1", "Succeeded"), pod("new", "10.0.0.1"), pod("dual", "10.0.0.2", podIPs=[{"ip": "FD00::0002"}])
        )
    )
    assert [one.metadata.name for one in cluster.pods_by_address["10.0.0.1"]] == ["new", "old"]
    assert [one.metadata.name for one in cluster.pods_by_address["fd00::2"]] == ["dual"]
    assert [one.metadata.name for one in cluster.pods_at("fd00:0::2")] == ["dual"]
    assert cluster.pods_at("10.0.0.9") == ()
    assert cluster.pods_at("not an address") == ()


def test_slices_by_service() -> None:
    def slice_of(name: str, namespace: str, **labels: str) -> Object:
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        return {"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4"}

    label = "kubernetes.io/service-name"
    cluster = one(
        listed(
            slice_of("a", "d", **{label: "web"}),
            slice_of("b", "e", **{label: "web"}),
            slice_of("c", "d", **{label: "web"}),
            slice_of("web", "d"),
            slice_of("empty", "d", **{label: ""}),
        )
    )
    assert [one.metadata.name for one in cluster.slices_of("d", "web")] == ["a", "c"]
    assert cluster.slices_of("d", "") == ()
    assert len(cluster.slices) == 5


def test_the_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    one(text(SERVICE))
    assert gc.isenabled()
    with pytest.raises(InputError):
        one(b"")
    assert gc.isenabled()


def test_of_config_maps_only_those_of_dns_and_kubelet_are_kept() -> None:
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "d"}, "data": data}
        for name, data in (
            ("coredns", {"Corefile": "."}),
            ("kubelet-config", {"kubelet": "a: b"}),
            ("app", {"big": "text"}),
            ("none", None),
        )
    ]
    cluster = one(listed(*maps))
    assert sorted(name for _, name in cluster.config_maps) == ["coredns", "kubelet-config"]
    assert cluster.problems == ()


def test_pods_by_selector() -> None:
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels}}
        for name, namespace, labels in (
            ("a", "d", {"app": "web", "tier": "x"}),
            ("b", "d", {"app": "web"}),
            ("c", "e", {"app": "web", "tier": "x"}),
            ("d", "d", None),
        )
    ]
    selectors = [{"app": "web"}, {"app": "web", "tier": "x"}, {"app": "no"}, {}, None]
    services = [
        {"kind": "Service", "metadata": {"name": f"s{number}", "namespace": "d"}, "spec": {"selector": selector}}
        for number, selector in enumerate(selectors)
    ]
    cluster = one(listed(*pods, *services))
    found = [[pod.metadata.name for pod in cluster.pods_selected_by(service)] for service in cluster.services.values()]
    assert found == [["a", "b"], ["a"], [], [], []]
