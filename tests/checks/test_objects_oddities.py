"""RA701 and RA704: said where the objects lead nowhere, silent on what looks like it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ruleaudit.checks.objects_oddities import broken_ingress_backends, services_without_pods
from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Certainty, ObjectReference

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, object]


def cluster_of(*items: Object) -> Cluster:
    return load([("objects", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode())])


def service(name: str = "web", *, ports: list[Object] | None = None, **spec: object) -> Object:
    given = {
        "ports": [{"port": 80, "name": "http", "targetPort": "http"}] if ports is None else ports,
        "selector": {"app": name},
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "d"}, "spec": given}


CONTAINERS: Object = {"containers": [{"name": "c", "ports": [{"containerPort": 8080, "name": "http"}]}]}


def pod(
    name: str = "web-0", app: str = "web", *, namespace: str = "d", phase: str = "Running", spec: Object = CONTAINERS
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "tier": "front"}},
        "spec": spec,
        "status": {"phase": phase},
    }


def slice_of(name: str = "web", *, port: str = "http", ready: bool = True) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "d", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": port, "port": 8080}],
        "endpoints": [{"addresses": ["10.244.1.5"], "conditions": {"ready": ready}}],
    }


ENDPOINTS: Object = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "web", "namespace": "d"},
    "subsets": [{"notReadyAddresses": [{"ip": "10.244.1.5"}], "ports": [{"name": "http", "port": 8080}]}],
}
SIDECAR: Object = {
    "containers": [{"name": "c"}],
    "initContainers": [{"restartPolicy": "Always", "ports": [{"containerPort": 1, "name": "http"}]}],
}
INIT: Object = {"containers": [{"name": "c"}], "initContainers": [{"ports": [{"containerPort": 1, "name": "http"}]}]}
OTHER = pod("other-0", "other")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        pytest.param([service(), OTHER], "no pod has app=web", id="no pod"),
        pytest.param([service("wbe"), pod()], "did you mean app=web?", id="near label"),
        pytest.param(
            [service(), pod(namespace="e"), OTHER], "e/web-0 has these labels, in another namespace", id="other namespace"
        ),
        pytest.param(
            [
                service(selector={"app": "web", "tier": "back"}),
                pod(),
                pod("b", "b") | {"metadata": {"name": "b", "namespace": "d", "labels": {"tier": "back"}}},
            ],
            "no pod has all of these labels",
            id="each label on another pod",
        ),
        pytest.param([service(), pod(phase="Succeeded")], "only web-0 (Succeeded)", id="finished"),
        pytest.param([service(clusterIP="None"), OTHER], "no pod has app=web", id="headless"),
        pytest.param([service(ports=[{"port": 80, "targetPort": "htpt"}]), pod()], "did you mean http?", id="targetPort"),
        pytest.param(
            [service(ports=[{"port": 80, "targetPort": "http", "protocol": "UDP"}]), pod()], "declare http (TCP)", id="protocol"
        ),
        pytest.param([service(), pod(spec=INIT)], "declare none with a name", id="a port of an init container"),
        pytest.param([service(), OTHER, slice_of() | {"endpoints": []}], "no pod has app=web", id="a slice without endpoints"),
    ],
)
def test_services_without_pods(objects: list[Object], message: str) -> None:
    (found,) = services_without_pods(cluster_of(*objects))
    assert (found.code, found.certainty) == ("RA701", Certainty.DEFINITE)
    assert message in found.message
    assert found.references[0].kind == "Service"


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([service(), pod()], id="a pod"),
        pytest.param([service(), pod(phase="Pending")], id="a pod without a node"),
        pytest.param([service()], id="no pods were given"),
        pytest.param([service(selector=None), OTHER], id="no selector"),
        pytest.param([service(selector={}), OTHER], id="empty selector"),
        pytest.param([service(type="ExternalName", externalName="a.example.com"), OTHER], id="ExternalName"),
        pytest.param([service(), OTHER, slice_of()], id="somebody else's slices"),
        pytest.param([service(), OTHER, slice_of(ready=False)], id="endpoints that are not ready"),
        pytest.param([service(), OTHER, ENDPOINTS], id="somebody else's Endpoints"),
        pytest.param(
            [service(ports=[{"port": 80, "targetPort": 9}]), pod()], id="targetPort is a number that no container declares"
        ),
        pytest.param([service(ports=[{"port": 80}]), pod()], id="no targetPort"),
        pytest.param([service(), pod(spec=SIDECAR)], id="a port of a sidecar"),
        pytest.param([service(), pod(), pod("web-1", spec=INIT)], id="a port of one of the pods"),
        pytest.param([service(clusterIP="None", ports=[{"port": 80, "targetPort": "no"}]), pod()], id="headless: no port needed"),
        pytest.param([service(publishNotReadyAddresses=True), pod(phase="Pending")], id="published before it is ready"),
    ],
)
def test_services_that_look_as_if_without_pods(objects: list[Object]) -> None:
    assert list(services_without_pods(cluster_of(*objects))) == []


def test_a_namespace_without_pods_may_not_have_been_given() -> None:
    (found,) = services_without_pods(cluster_of(service(), pod(namespace="e", app="other")))
    assert found.certainty is Certainty.POSSIBLE


def ingress(*backends: Object) -> Object:
    paths = [{"path": f"/{number}", "pathType": "Prefix", "backend": one} for number, one in enumerate(backends)]
    rules = [{"host": "h.example.com", "http": {"paths": paths}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "d"},
        "spec": {"rules": rules},
    }


def to(name: str, port: object = 80) -> Object:
    return {"service": {"name": name, "port": {"number": port} if isinstance(port, int) else {"name": port}}}


def test_broken_ingress_backends() -> None:
    cluster = cluster_of(
        service(), ingress(to("web"), to("web", "http"), to("wbe"), to("wbe"), to("web", 81), {"resource": {"kind": "B"}})
    )
    missing, port = broken_ingress_backends(cluster)
    assert missing.message == "Ingress d/i leads h.example.com/2 to d/wbe:80: Service d/wbe does not exist; did you mean web?"
    assert (missing.service, missing.references) == (None, (ObjectReference("Ingress", "d", "i"),))
    assert port.message == "Ingress d/i leads h.example.com/4 to d/web:81: Service d/web has no port 81: it has 80 (http)"
    assert (port.service, port.certainty) == ("d/web", Certainty.DEFINITE)
    findings = [one.finding() for one in (missing, port)]
    assert [(one.code, one.name, one.severity.value) for one in findings] == [("RA704", "broken-ingress-backend", "info")] * 2
    assert len({one.fingerprint for one in findings}) == 2


@pytest.mark.parametrize(
    ("objects", "certainty"),
    [
        pytest.param([ingress(to("web"))], None, id="no Services were given"),
        pytest.param(
            [ingress(to("web")), service() | {"metadata": {"name": "w", "namespace": "e"}}],
            Certainty.POSSIBLE,
            id="another namespace's",
        ),
        pytest.param(
            [ingress(to("web")), service(type="ExternalName", externalName="a.example.com")],
            Certainty.POSSIBLE,
            id="ExternalName",
        ),
    ],
)
def test_ingress_backends_that_may_be_right(objects: list[Object], certainty: Certainty | None) -> None:
    assert [one.certainty for one in broken_ingress_backends(cluster_of(*objects))] == ([] if certainty is None else [certainty])


def test_oddities_of_every_captured_cluster(capture_folders: list[Path]) -> None:
    """The captured clusters hold the same odd objects, on purpose: nothing else is said."""
    folders = [one for one in capture_folders if one.name.startswith("features-")]
    for folder in folders:
        cluster = load([("objects.json", (folder / "objects.json").read_bytes())])
        said = [one.message for one in broken_ingress_backends(cluster)]
        assert said == [
            "Ingress demo/badport leads bad.example.com/ to demo/web:nosuch: Service demo/web has no port 'nosuch': it has 80 (http)",
            "Ingress demo/tools leads tools.example.com/gone to demo/no-such-service:80: Service demo/no-such-service does not exist",
        ]
        for one in services_without_pods(cluster):
            name = (one.service or "").rpartition("/")[2]
            assert name.endswith("noeps") or name in ("empty", "part-empty", "completed"), one.message
