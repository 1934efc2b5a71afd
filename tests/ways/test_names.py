"""Names as cluster DNS answers them, on a small written cluster and on every captured one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Certainty
from ruleaudit.near import UnknownNameError
from ruleaudit.ways.names import Answer, Record, cluster_dns, pod_named, resolve

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS = b"""\
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints: [{addresses: [10.244.1.2], conditions: {ready: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  clusterIP: 10.96.1.1
  clusterIPs: [10.96.1.1, "fd00:10:96::1"]
  ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.5], conditions: {ready: true}, targetRef: {kind: Pod, name: web-0}, nodeName: node-a}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {clusterIP: 10.96.2.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pending, namespace: demo}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: demo}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 5432}], selector: {app: db}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-4, namespace: demo, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
- {addresses: [10.244.1.7], conditions: {ready: true}, hostname: db-0, targetRef: {kind: Pod, name: db-0, namespace: demo}, nodeName: node-a}
- {addresses: [10.244.2.7], hostname: db-1, targetRef: {kind: Pod, name: db-1, namespace: demo}, nodeName: node-b}
- {addresses: [10.244.2.8], conditions: {ready: false}, hostname: db-2, nodeName: node-b}
- {addresses: [10.244.2.9], conditions: {ready: true}, nodeName: node-b}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-6, namespace: demo, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
ports: [{name: sql, port: 5432}]
endpoints: [{addresses: ["fd00::7"], conditions: {ready: true}, hostname: db-0, nodeName: node-a}]
---
apiVersion: v1
kind: Service
metadata: {name: down, namespace: demo}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: early, namespace: demo}
spec: {clusterIP: None, publishNotReadyAddresses: true, ports: []}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: early-4, namespace: demo, labels: {kubernetes.io/service-name: early}}
addressType: IPv4
ports: []
endpoints: [{addresses: [10.244.1.9], conditions: {ready: true, serving: false}}]
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: demo}
spec: {type: ExternalName, externalName: Web.Other.svc.cluster.local.}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: demo}
spec: {type: ExternalName, externalName: db.example.com}
---
apiVersion: v1
kind: Service
metadata: {name: circle, namespace: demo}
spec: {type: ExternalName, externalName: circle.demo.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: number, namespace: demo}
spec: {type: ExternalName, externalName: 192.0.2.1}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: demo}
spec: {nodeName: node-a, dnsPolicy: ClusterFirst}
status: {podIP: 10.244.1.3}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: other}
spec: {nodeName: node-a}
status: {podIP: 10.244.1.4}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: demo}
spec: {nodeName: node-a, hostNetwork: true, dnsPolicy: ClusterFirst}
status: {podIP: 192.0.2.10}
---
apiVersion: v1
kind: Pod
metadata: {name: host-first, namespace: demo}
spec: {nodeName: node-a, hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}
status: {podIP: 192.0.2.10}
---
apiVersion: v1
kind: Pod
metadata: {name: node-dns, namespace: demo}
spec: {dnsPolicy: Default}
status: {podIP: 10.244.1.14}
---
apiVersion: v1
kind: Pod
metadata: {name: own-dns, namespace: demo}
spec: {dnsPolicy: None, dnsConfig: {nameservers: [10.96.0.10], searches: [other.svc.cluster.local]}}
status: {podIP: 10.244.1.15}
---
apiVersion: v1
kind: Pod
metadata: {name: foreign-dns, namespace: demo}
spec: {dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.53]}}
status: {podIP: 10.244.1.16}
---
apiVersion: v1
kind: Pod
metadata: {name: ndots, namespace: demo}
spec: {dnsConfig: {options: [{name: ndots, value: "1"}], searches: [extra.svc.cluster.local]}}
status: {podIP: 10.244.1.17}
"""
CLUSTER = load([("objects.yaml", OBJECTS)])
# Without the pods whose search lists name the cluster domain.
SILENT = OBJECTS[: OBJECTS.index(b"---\napiVersion: v1\nkind: Pod\nmetadata: {name: own-dns")]


def pod(name: str) -> str:
    return name if "/" in name else f"demo/{name}"


@pytest.mark.parametrize(
    ("client", "name", "record", "addresses", "canonical"),
    [
        ("client", "web", Record.CLUSTER_IP, "10.96.1.1 fd00:10:96::1", "web.demo.svc.cluster.local"),
        ("client", "WEB", Record.CLUSTER_IP, "10.96.1.1 fd00:10:96::1", "web.demo.svc.cluster.local"),
        ("other/elsewhere", "web", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("client", "web.other", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("client", "web.other.svc", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("client", "web.other.svc.cluster.local", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("client", "web.other.svc.cluster.local.", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("client", "10-244-1-5.web", Record.ENDPOINT, "10.244.1.5", "10-244-1-5.web.demo.svc.cluster.local"),
        ("client", "db", Record.HEADLESS, "10.244.1.7 10.244.2.7 10.244.2.9 fd00::7", "db.demo.svc.cluster.local"),
        ("client", "db-0.db", Record.ENDPOINT, "10.244.1.7 fd00::7", "db-0.db.demo.svc.cluster.local"),
        ("client", "10-244-2-9.db.demo.svc.cluster.local", Record.ENDPOINT, "10.244.2.9", "10-244-2-9.db.demo.svc.cluster.local"),
        ("client", "early", Record.HEADLESS, "10.244.1.9", "early.demo.svc.cluster.local"),
        ("client", "alias", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("client", "10-244-1-3.demo.pod.cluster.local", Record.POD, "10.244.1.3", "10-244-1-3.demo.pod.cluster.local"),
        ("client", "fd00--7.demo.pod", Record.POD, "fd00::7", "fd00--7.demo.pod.cluster.local"),
        ("client", "_http._tcp.web", Record.CLUSTER_IP, "10.96.1.1 fd00:10:96::1", "_http._tcp.web.demo.svc.cluster.local"),
        ("client", "010.96.1.1", Record.ADDRESS, "10.96.1.1", None),
        ("client", "FD00::7", Record.ADDRESS, "fd00::7", None),
        ("client", "[fd00::7]", Record.ADDRESS, "fd00::7", None),
        ("host-first", "web", Record.CLUSTER_IP, "10.96.1.1 fd00:10:96::1", "web.demo.svc.cluster.local"),
        ("own-dns", "web", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("host", "web.other.svc.cluster.local", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
        ("ndots", "web.other", Record.CLUSTER_IP, "10.96.2.1", "web.other.svc.cluster.local"),
    ],
)
def test_answers(client: str, name: str, record: Record, addresses: str, canonical: str | None) -> None:
    found = resolve(CLUSTER, name, pod_named(CLUSTER, pod(client)))
    assert (found.answer, found.record, found.canonical) == (Answer.ANSWERED, record, canonical)
    assert " ".join((*found.of_family(4), *found.of_family(6))) == addresses


@pytest.mark.parametrize(
    ("client", "name", "answer", "note"),
    [
        pytest.param("client", "db.example.com", Answer.UNKNOWN, "outside of the cluster domain", id="outside name"),
        pytest.param("client", "outside", Answer.UNKNOWN, "db.example.com lies outside", id="ExternalName outside"),
        pytest.param("client", "circle", Answer.NO_ADDRESS, "circle", id="ExternalName in a circle"),
        pytest.param(
            "client",
            "number",
            Answer.NO_SUCH_NAME,
            "ExternalName for 192.0.2.1, an address",
            id="ExternalName that is an address",
        ),
        pytest.param("client", "pending", Answer.NO_ADDRESS, "no cluster IP yet", id="no cluster IP yet"),
        pytest.param("client", "down", Answer.NO_SUCH_NAME, "no ready endpoint", id="headless without ready endpoints"),
        pytest.param("client", "db-2.db", Answer.NO_SUCH_NAME, "no ready endpoint has that name", id="unready endpoint"),
        pytest.param("client", "_https._tcp.web", Answer.NO_SUCH_NAME, "has no port 'https'", id="no such port name"),
        pytest.param("client", "_http._udp.web", Answer.NO_SUCH_NAME, "of protocol 'udp'", id="other protocol"),
        pytest.param("client", "a.b.c.web.demo.svc.cluster.local.", Answer.NO_SUCH_NAME, "", id="too many labels"),
        pytest.param("client", "web.", Answer.NO_SUCH_NAME, "", id="final dot: nothing is searched"),
        pytest.param("client", "web.demo.cluster.local", Answer.NO_SUCH_NAME, "", id="svc is left out"),
        pytest.param("client", "bad..name", Answer.NO_SUCH_NAME, "no name that can be asked for", id="no name"),
        pytest.param("host", "web", Answer.UNKNOWN, "node's resolver", id="host network, ClusterFirst"),
        pytest.param("node-dns", "web.demo", Answer.UNKNOWN, "dnsPolicy Default", id="dnsPolicy Default"),
        pytest.param("foreign-dns", "web", Answer.UNKNOWN, "192.0.2.53", id="dnsPolicy None"),
        pytest.param("", "web.demo", Answer.UNKNOWN, "no pod", id="no pod"),
        pytest.param(
            "host", "web.demo", Answer.UNKNOWN, "give the full name, or ask from a pod", id="why a name is not completed"
        ),
        pytest.param(
            "client",
            "web.demo.svc.corp.lan",
            Answer.NO_SUCH_NAME,
            "cluster domain is cluster.local, not corp.lan",
            id="other domain",
        ),
        pytest.param(
            "host",
            "x.y.svc.corp.lan",
            Answer.NO_SUCH_NAME,
            "cluster domain is cluster.local, not corp.lan",
            id="other domain, node's resolver",
        ),
    ],
)
def test_what_is_not_answered(client: str, name: str, answer: Answer, note: str) -> None:
    found = resolve(CLUSTER, name, pod_named(CLUSTER, pod(client)) if client else None)
    assert (found.answer, found.addresses) == (answer, ())
    assert note in "; ".join(found.notes)


@pytest.mark.parametrize(
    ("name", "mistyped", "near"),
    [
        ("_htp._tcp.web", True, "_http._tcp.web.demo.svc.cluster.local"),
        (
            "_http._udp.web.demo.svc.cluster.local",
            True,
            "_http._tcp.web.demo.svc.cluster.local _dns._udp.web.demo.svc.cluster.local",
        ),
        ("_sqll._tcp.db", True, "_sql._tcp.db.demo.svc.cluster.local"),
        ("_sql._tcp.down", True, ""),
        ("db-9.db", True, "db-2.db.demo.svc.cluster.local db-1.db.demo.svc.cluster.local db-0.db.demo.svc.cluster.local"),
        ("10-244-2-99.db", True, "10-244-2-9.db.demo.svc.cluster.local"),
        ("db-2.db", False, ""),
        ("x.down", False, ""),
        ("down", False, ""),
        ("soon-0.soon", False, ""),
        ("soon-1.soon", True, "10-244-1-21.soon.demo.svc.cluster.local"),
    ],
)
def test_names_below_a_service_that_it_does_not_know(name: str, mistyped: bool, near: str) -> None:
    """Of an endpoint that is listed and not ready, or whose pod is there, nobody can say that its name is mistyped."""
    soon = b"""---
apiVersion: v1
kind: Service
metadata: {name: soon, namespace: demo}
spec: {clusterIP: None, ports: [{port: 80}], selector: {app: soon}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: soon-4, namespace: demo, labels: {kubernetes.io/service-name: soon}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.1.21], conditions: {ready: false}}]
---
apiVersion: v1
kind: Pod
metadata: {name: soon-0, namespace: demo, labels: {app: soon}}
spec: {nodeName: node-a}
"""
    cluster = load([("objects.yaml", OBJECTS + soon)])
    found = resolve(cluster, name, pod_named(cluster, "demo/client"))
    assert (found.answer, found.mistyped, " ".join(found.near)) == (Answer.NO_SUCH_NAME, mistyped, near)


@pytest.mark.parametrize(
    ("client", "name", "certainty"),
    [
        ("client", "web", Certainty.DEFINITE),
        ("host", "web.demo.svc.cluster.local", Certainty.POSSIBLE),  # if the node's resolver asks cluster DNS
        ("ndots", "web.other", Certainty.POSSIBLE),  # web.other. is asked first, outside
        ("client", "nothing.demo.svc.cluster.local", Certainty.DEFINITE),
        ("client", "nothing", Certainty.POSSIBLE),  # the node's search domains come after the cluster's
        ("client", "circle.demo.svc.cluster.local.", Certainty.DEFINITE),
        ("client", "circle", Certainty.POSSIBLE),  # without an address, the servers outside are asked as well
        ("client", "pending", Certainty.POSSIBLE),
        ("client", "outside", Certainty.POSSIBLE),  # whether its alias has an address is not known
    ],
)
def test_certainty(client: str, name: str, certainty: Certainty) -> None:
    assert resolve(CLUSTER, name, pod_named(CLUSTER, pod(client))).certainty is certainty


def test_ports_and_targets_of_srv_names() -> None:
    client = pod_named(CLUSTER, "demo/client")
    named = resolve(CLUSTER, "_http._tcp.web.demo.svc.cluster.local", client)
    assert (named.port, named.targets) == (80, ((80, "http", "TCP", "web.demo.svc.cluster.local"),))
    headless = resolve(CLUSTER, "_sql._tcp.db", client)
    assert headless.port == 5432
    assert sorted(one.target.partition(".")[0] for one in headless.targets) == ["10-244-2-9", "db-0", "db-1"]
    assert resolve(CLUSTER, "db", client).port is None


def test_questions_tell_which_search_domain_answered() -> None:
    found = resolve(CLUSTER, "web.other", pod_named(CLUSTER, "demo/client"))
    assert [(one.name, one.search, one.answer.name) for one in found.questions] == [
        ("web.other.demo.svc.cluster.local", "demo.svc.cluster.local", "NO_SUCH_NAME"),
        ("web.other.svc.cluster.local", "svc.cluster.local", "ANSWERED"),
    ]
    alias = resolve(CLUSTER, "alias", pod_named(CLUSTER, "demo/client"))
    assert alias.service == ("other", "web")
    assert alias.aliases == ("web.other.svc.cluster.local",)
    assert alias.questions[0].text == "CNAME web.other.svc.cluster.local"


@pytest.mark.parametrize(
    ("client", "name", "near"),
    [
        ("client", "wep", "web.demo"),
        ("client", "web.dmo", "web.demo"),
        ("client", "web.nowhere.svc.cluster.local", "web.demo"),
        ("client", "pendin.demo", "pending.demo"),
        ("client", "kube-dns", "kube-dns.kube-system"),
        ("client", "web.demo.svc.corp.lan", "web.demo.svc.cluster.local"),
        ("client", "10-244-1-3.demo.pod.corp.lan", "10-244-1-3.demo.pod.cluster.local"),
        ("client", "pendin.demo.svc.corp.lan", "pending.demo.svc.cluster.local"),
        ("host", "web.demo", "web.demo.svc.cluster.local"),
        ("own-dns", "web.dmo", "web.demo.svc.cluster.local"),
    ],
)
def test_near_matches(client: str, name: str, near: str) -> None:
    found = resolve(CLUSTER, name, pod_named(CLUSTER, pod(client)))
    assert found.answer is not Answer.ANSWERED
    assert near in found.near
    assert name not in found.near


def test_a_name_under_another_domain_where_the_cluster_domain_is_known() -> None:
    cluster = cluster_of(*settings(Corefile=".:53 {\n kubernetes corp.lan\n}\n"))
    found = resolve(cluster, "web.demo.svc.cluster.local", pod_named(cluster, "demo/client"))
    assert found.notes[0] == "the cluster domain is corp.lan, not cluster.local"
    assert found.near == ("web.demo.svc.corp.lan",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo/clinet", "did you mean demo/client"),
        ("other/client", "did you mean demo/client"),
        ("client", "give NAMESPACE/NAME"),
    ],
)
def test_unknown_pods(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        pod_named(CLUSTER, name)


COREFILE = """\
# stub
consul.local:53 {
    forward . 192.0.2.1
}
.:53 {
    errors
    health {
       lameduck 5s
    }
    kubernetes k8s.corp in-addr.arpa ip6.arpa {
       pods verified
       endpoint_pod_names
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    EXTRA
    forward . /etc/resolv.conf
}
"""


def settings(**data: str) -> list[dict[str, object]]:
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "kube-system"}, "data": data}]


def cluster_of(*items: object) -> Cluster:
    return load([("objects", SILENT), ("more", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode())])


SEARCHING = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "s", "namespace": "demo"},
    "spec": {"dnsConfig": {"searches": ["demo.svc.corp.internal", "corp.internal"]}},
}


@pytest.mark.parametrize(
    ("items", "given", "domain", "source"),
    [
        pytest.param([], None, "cluster.local", "assumed", id="nowhere"),
        pytest.param([], "Given.Example.", "given.example", "given", id="given"),
        pytest.param(settings(Corefile=COREFILE), None, "k8s.corp", "ConfigMap kube-system/c", id="Corefile"),
        pytest.param(settings(kubelet="clusterDomain: k.corp\n"), None, "k.corp", "ConfigMap kube-system/c", id="kubelet"),
        pytest.param(settings(kubelet="{"), None, "cluster.local", "assumed", id="unreadable kubelet configuration"),
        pytest.param([SEARCHING], None, "corp.internal", "search lists of pods", id="search lists"),
    ],
)
def test_the_cluster_domain(items: list[object], given: str | None, domain: str, source: str) -> None:
    cluster = cluster_of(*items)
    dns = cluster_dns(cluster, given)
    assert (dns.domain, dns.source) == (domain, source)
    assert dns.service == ("kube-system", "kube-dns")
    assert dns.ready is True
    found = resolve(cluster, f"web.demo.svc.{domain}", pod_named(cluster, "demo/client"), dns=dns)
    assert found.of_family(4) == ("10.96.1.1",)


ENDPOINTS_ONLY = b"""\
apiVersion: v1
kind: Service
metadata: {name: db, namespace: demo}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: demo}
spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db, namespace: demo}
subsets:
- addresses: [{ip: 10.244.1.7, hostname: db-0, targetRef: {kind: Pod, name: db-0}}]
  notReadyAddresses: [{ip: 10.244.1.8, hostname: db-1}]
  ports: [{name: sql, port: 5432}]
"""
CLIENT = b"---\napiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: demo}\n"


def hiding(line: str) -> bytes:
    return (
        b"---\n" + json.dumps(settings(Corefile=f".:53 {{\n kubernetes cluster.local {{\n {line}\n }}\n}}\n")[0]).encode() + b"\n"
    )


@pytest.mark.parametrize(
    ("objects", "name", "answer", "addresses"),
    [
        pytest.param(ENDPOINTS_ONLY, "db", Answer.ANSWERED, ("10.244.1.7",), id="Endpoints without slices"),
        pytest.param(ENDPOINTS_ONLY, "db-0.db", Answer.ANSWERED, ("10.244.1.7",), id="a name of Endpoints"),
        pytest.param(ENDPOINTS_ONLY, "db-1.db", Answer.NO_SUCH_NAME, (), id="an address that is not ready"),
        pytest.param(ENDPOINTS_ONLY, "idle", Answer.ANSWERED, ("10.96.0.7",), id="a cluster IP without endpoints"),
        pytest.param(ENDPOINTS_ONLY + hiding("ignore empty_service"), "idle", Answer.NO_SUCH_NAME, (), id="ignore empty_service"),
        pytest.param(ENDPOINTS_ONLY + hiding("ttl 5"), "10-244-1-7.demo.pod", Answer.NO_SUCH_NAME, (), id="pods disabled"),
        pytest.param(ENDPOINTS_ONLY, "word.demo.pod", Answer.NO_SUCH_NAME, (), id="no address in a pod's name"),
        pytest.param(ENDPOINTS_ONLY, "svc.cluster.local.", Answer.NO_ADDRESS, (), id="the zone's own names"),
        pytest.param(ENDPOINTS_ONLY, "cluster.local.", Answer.NO_ADDRESS, (), id="the zone"),
        pytest.param(ENDPOINTS_ONLY[: ENDPOINTS_ONLY.index(b"---")], "db", Answer.UNKNOWN, (), id="no endpoints given"),
        pytest.param(b"", "db", Answer.UNKNOWN, (), id="no Services given"),
    ],
)
def test_other_objects(objects: bytes, name: str, answer: Answer, addresses: tuple[str, ...]) -> None:
    cluster = load([("objects", objects + CLIENT)])
    found = resolve(cluster, name, cluster.pods["demo", "client"])
    assert (found.answer, found.of_family(4)) == (answer, addresses)


def test_an_address_names_its_pod() -> None:
    (found,) = resolve(CLUSTER, "10.244.1.3").addresses
    assert (found.pod, found.node) == (("demo", "client"), "node-a")


def test_what_a_corefile_says_counts() -> None:
    cluster = cluster_of(*settings(Corefile=COREFILE))
    client = pod_named(cluster, "demo/client")
    assert resolve(cluster, "web-0.web", client).of_family(4) == ("10.244.1.5",)  # endpoint_pod_names
    assert resolve(cluster, "192-0-2-77.demo.pod", client).answer is Answer.NO_SUCH_NAME  # pods verified
    assert resolve(cluster, "web.demo.svc.cluster.local", client).answer is not Answer.ANSWERED
    doubtful = cluster_of(*settings(Corefile=COREFILE.replace("EXTRA", "rewrite name a b")))
    found = resolve(doubtful, "web", pod_named(doubtful, "demo/client"))
    assert (found.answer, found.certainty) == (Answer.ANSWERED, Certainty.POSSIBLE)


def test_cluster_dns_without_endpoints_leaves_every_answer_open() -> None:
    objects = OBJECTS.replace(b"endpoints: [{addresses: [10.244.1.2], conditions: {ready: true}}]", b"endpoints: []")
    cluster = load([("objects", objects)])
    found = resolve(cluster, "web", pod_named(cluster, "demo/client"))
    assert found.certainty is Certainty.POSSIBLE
    assert "no ready endpoint" in " ".join(found.notes)


def test_names_of_every_captured_cluster(capture_folders: list[Path]) -> None:
    """Every Service answers by its name with its cluster IPs, every headless one with ready pods of its slices."""
    folders = [one for one in capture_folders if one.name.startswith("features-")]
    seen: set[bytes] = set()
    for folder in folders:
        data = (folder / "objects.json").read_bytes()
        if data in seen:
            continue
        seen.add(data)
        cluster = load([("objects.json", data)])
        dns = cluster_dns(cluster)
        client = next(one for one in cluster.pods.values() if one.metadata.namespace == "demo" and not one.spec.host_network)
        for (namespace, name), service in cluster.services.items():
            short = name if namespace == "demo" else f"{name}.{namespace}"
            found = resolve(cluster, short, client, dns=dns)
            spec = service.spec
            if spec.type == "ExternalName":
                assert found.answer is Answer.UNKNOWN
            elif spec.cluster_ip == "None":
                ready = re.findall(r"10\.\d+\.\d+\.\d+", str(cluster.slices_of(namespace, name)))
                assert set(found.of_family(4)) <= set(ready)
                assert found.answer is (Answer.ANSWERED if found.addresses else Answer.NO_SUCH_NAME)
            else:
                assert {one.address for one in found.addresses} == set(spec.cluster_ips or (spec.cluster_ip,)), short
                assert found.service == (namespace, name)
            assert found.certainty is Certainty.DEFINITE or found.answer is not Answer.ANSWERED
    assert folders == [] or seen
