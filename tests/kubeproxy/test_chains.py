"""KPR 3.3, worked examples."""

from __future__ import annotations

import pytest

from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash


@pytest.mark.parametrize(
    ("name", "protocol", "digest"),
    [
        ("default/kubernetes:https", "TCP", "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns:dns", "UDP", "TCOU7JCQXEZGVUNU"),
        ("kube-system/kube-dns:dns-tcp", "tcp", "ERIFXISQEP7F7OF4"),
        ("kube-system/kube-dns:metrics", "tcp", "JD5MR3NA4I4DYORP"),
        ("ns1/svc1:p80", "tcp", "XPGD46QRK7WJZT7O"),
        ("ns1/svc1:p80", "UDP", "OJWW7NSBVZTDHXNW"),
        ("ns1/svc1:p80", "SCTP", "GFCIFIA5VTFSTMSM"),
        ("ns2/svc2:p80", "tcp", "GNZBNJ2PO5MGZ6GT"),
        ("default/nginx", "TCP", "2CMXP7HKUVJN7L6M"),
        ("default/nginx:", "TCP", "4N57TFCL4MD7ZTDA"),
    ],
)
def test_chain_hash(name: str, protocol: str, digest: str) -> None:
    assert chain_hash(name, protocol) == digest


@pytest.mark.parametrize(
    ("name", "protocol", "endpoint", "digest"),
    [
        ("ns1/svc1:p80", "TCP", "10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
        ("default/kubernetes:https", "tcp", "172.18.0.2:6443", "V2PECCYPB6X2GSCW"),
        ("kube-system/kube-dns:dns", "UDP", "10.244.0.2:53", "YIL6JZP7A3QYXJU2"),
        ("default/nginx", "tcp", "10.244.1.5:80", "IZW656N5ZXYN5BEC"),
        ("ns1/svc1:p80", "tcp", "[fd00:10:244::5]:80", "JR6YXXN6Y3V4FLYE"),
    ],
)
def test_endpoint_chain_hash(name: str, protocol: str, endpoint: str, digest: str) -> None:
    assert endpoint_chain_hash(name, protocol, endpoint) == digest
