from __future__ import annotations

import pytest

from ruleaudit.errors import InputError
from ruleaudit.kubeproxy.settings import GivenSettings, LocalDetection, ProxySettings, combine, read_settings, resolve

CONFIGURATION = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
detectLocalMode: ""
hostnameOverride: ""
mode: ""
iptables:
  localhostNodePorts: false
  masqueradeAll: true
  masqueradeBit: 15
  minSyncPeriod: 0s
nodePortAddresses: [192.168.0.0/16]
featureGates: {TopologyAwareHints: false}
"""
CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-proxy}
data:
  kubeconfig.conf: "kind: Config"
  config.conf: |-
"""
CONFIG_MAP += "".join(f"    {line}\n" for line in CONFIGURATION.splitlines())
DAEMON_SET = """\
apiVersion: apps/v1
kind: DaemonSet
spec:
  template:
    spec:
      containers:
      - name: sidecar
        image: example.com/tool:v1.2.3
      - name: kube-proxy
        image: registry.example.com:5000/eks/kube-proxy:v1.29.3-eksbuild.2
        command: [kube-proxy, --v=2, --config=/var/lib/kube-proxy-config/config, --hostname-override=$(NODE_NAME)]
"""
POD = """\
{"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "node-b", "containers": [
  {"name": "proxy", "image": "example.com/kube-proxy:v1.31.0", "command": ["/bin/sh", "-c",
   "exec /usr/local/bin/kube-proxy --cluster-cidr=10.0.0.0/8 --proxy-mode ipvs --masquerade-all"]}]}}
"""
BOTH = {4: LocalDetection("ClusterCIDR", "10.244.0.0/16"), 6: LocalDetection("ClusterCIDR", "fd00:10:244::/56")}
NEITHER: dict[int, object] = {4: None, 6: None}
UNSET = {4: "unset", 6: "unset"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            CONFIGURATION,
            {
                "mode": "iptables",
                "local_detection": BOTH,
                "masquerade_all": True,
                "masquerade_bit": 15,
                "localhost_nodeports": False,
                "nodeport_addresses": ("192.168.0.0/16",),
                "feature_gates": {"TopologyAwareHints": False},
                "hostname_override": None,
            },
            id="configuration",
        ),
        pytest.param(
            CONFIG_MAP, {"mode": "iptables", "local_detection": BOTH, "masquerade_bit": 15}, id="configuration in a ConfigMap"
        ),
        pytest.param(
            DAEMON_SET,
            {"mode": None, "minor": 29, "hostname_override": None, "local_detection": UNSET, "given": frozenset({"minor"})},
            id="DaemonSet that names a configuration elsewhere",
        ),
        pytest.param(
            POD,
            {
                "mode": "ipvs",
                "minor": 31,
                "hostname_override": "node-b",
                "masquerade_all": True,
                "local_detection": {4: LocalDetection("ClusterCIDR", "10.0.0.0/8"), 6: None},
            },
            id="Pod with a shell",
        ),
        pytest.param(
            "kube-proxy-1.36\n--proxy-mode=nftables\n--hostname-override=n1\n--detect-local-mode=ClusterCIDR\n"
            "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56\n--feature-gates=A=true,B=false\n--nodeport-addresses=primary\n",
            {
                "mode": "nftables",
                "minor": 36,
                "hostname_override": "n1",
                "local_detection": BOTH,
                "feature_gates": {"A": True, "B": False},
                "nodeport_addresses": ("primary",),
            },
            id="command line, a flag on each line",
        ),
        pytest.param(
            "/usr/local/bin/kube-proxy --cluster_cidr 10.1.2.3/16 --iptables-masquerade-bit 10 --masquerade-all --v 2",
            {
                "mode": "iptables",
                "minor": None,
                "masquerade_all": True,
                "masquerade_bit": 10,
                "local_detection": {4: LocalDetection("ClusterCIDR", "10.1.0.0/16"), 6: None},
            },
            id="command line, values apart",
        ),
        pytest.param(
            "kube-proxy --v=2 --masquerade-all=false", {"local_detection": NEITHER, "masquerade_all": False}, id="no cluster CIDR"
        ),
        pytest.param(
            "kube-proxy --detect-local-mode=BridgeInterface --pod-bridge-interface=cni0 --iptables-localhost-nodeports=false",
            {"local_detection": dict.fromkeys((4, 6), LocalDetection("BridgeInterface", "cni0")), "localhost_nodeports": False},
            id="bridge",
        ),
        pytest.param(
            "kube-proxy --detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=veth --cluster-cidr=10.0.0.0/8",
            {"local_detection": dict.fromkeys((4, 6), LocalDetection("InterfaceNamePrefix", "veth"))},
            id="interface prefix",
        ),
        pytest.param(
            "kube-proxy --detect-local-mode=NodeCIDR",
            {"local_detection": dict.fromkeys((4, 6), LocalDetection("NodeCIDR", ""))},
            id="node CIDR",
        ),
        pytest.param(
            '{"kube_proxy_version": "Kubernetes v1.30.5", "node": "node-a", "mode": "iptables", "node_ips": ["10.0.0.9"], '
            '"cluster_cidr": "10.244.0.0/16,fd00:10:244::/56", "detect_local": "ClusterCIDR"}',
            {
                "minor": 30,
                "hostname_override": "node-a",
                "local_detection": BOTH,
                "node_addresses": ("10.0.0.9",),
                "given": frozenset({"mode", "minor", "hostname_override", "node_addresses", "local_detection", "cluster_cidrs"}),
            },
            id="description of a capture",
        ),
        pytest.param(
            '{"kube_proxy_version": "v1.30.5", "cluster_cidr": null, "detect_local": "none"}',
            {"local_detection": NEITHER},
            id="description without local detection",
        ),
        pytest.param(
            '{"kube_proxy_version": "v1.30.5", "cluster_cidr": null, "detect_local": "BridgeInterface:cni0"}',
            {"local_detection": dict.fromkeys((4, 6), LocalDetection("BridgeInterface", "cni0"))},
            id="description with a bridge",
        ),
        pytest.param('{"kube_proxy_version": "v1.30.5"}', {"local_detection": UNSET}, id="description that says little"),
    ],
)
def test_read_and_resolve(text: str, expected: dict[str, object]) -> None:
    settings = resolve(read_settings(text.encode(), "input"))
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Deployment\napiVersion: apps/v1\n", "no kube-proxy settings"),
        ("just some words", "no kube-proxy settings"),
        ("", "no kube-proxy settings"),
        ("kube-proxy --proxy-mode=ebpf", "proxy mode 'ebpf'"),
        ("kube-proxy --cluster-cidr=10.244.0.0", "cluster CIDR '10.244.0.0'"),
        ("kube-proxy --detect-local-mode=clusterCIDR", "detect-local mode 'clusterCIDR'"),
        ("kube-proxy --iptables-masquerade-bit=40", "masquerade bit 40"),
        ("kube-proxy --iptables-masquerade-bit=x", "--iptables-masquerade-bit is 'x'"),
        ("kube-proxy --masquerade-all=maybe", "--masquerade-all is 'maybe'"),
        ("kube-proxy --feature-gates=A", "feature gate 'A'"),
        ("kube-proxy --nodeport-addresses=eth0", "node port address 'eth0'"),
        ("kube-proxy --cluster-cidr='10.0.0.0/8", "not a command line"),
        ("kind: KubeProxyConfiguration\nmode: [", "malformed YAML"),
    ],
)
def test_what_is_no_kube_proxy_settings_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match="input") as caught:
        read_settings(text.encode(), "input")
    assert message in str(caught.value)


FLAGS = "kube-proxy-1.30 --cluster-cidr=10.0.0.0/8"
META = '{"kube_proxy_version": "v1.20.1", "node": "n", "cluster_cidr": "10.9.0.0/16,fd00::/56", "mode": "ipvs"}'


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(
            [META, FLAGS],
            {"minor": 30, "node": "n", "cluster_cidrs": ("10.0.0.0/8",), "mode": "ipvs"},
            id="a command line wins over a description, which fills in",
        ),
        pytest.param(
            [DAEMON_SET, CONFIGURATION],
            {"minor": 29, "masquerade_bit": 15, "config_file": "/var/lib/kube-proxy-config/config"},
            id="a configuration fills in what the DaemonSet names",
        ),
        pytest.param(
            [CONFIGURATION, FLAGS],
            {"cluster_cidrs": ("10.0.0.0/8",), "masquerade_bit": None},
            id="a command line without --config does not use a configuration",
        ),
        pytest.param(
            [FLAGS, "kube-proxy --cluster-cidr=10.7.0.0/16"], {"cluster_cidrs": ("10.7.0.0/16",)}, id="the later of two wins"
        ),
    ],
)
def test_combine(texts: list[str], expected: dict[str, object]) -> None:
    combined = combine([read_settings(text.encode(), str(number)) for number, text in enumerate(texts)])
    assert combined is not None
    assert {name: getattr(combined, name) for name in expected} == expected
    assert set(combined.paths) == {str(number) for number in range(len(texts))}


def test_nothing_given_leaves_local_detection_unset() -> None:
    assert combine([]) is None
    assert resolve(None) == ProxySettings()
    assert dict(resolve(GivenSettings()).local_detection) == UNSET


def test_detection_can_be_inferred_later() -> None:
    found = LocalDetection("ClusterCIDR", "10.0.0.0/8")
    assert dict(resolve(None).with_detection(4, found).local_detection) == {4: found, 6: "unset"}
