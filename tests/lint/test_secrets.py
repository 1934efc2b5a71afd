"""Secrets: each form is found, with its line and without itself; what only looks like one is not."""

from __future__ import annotations

import base64
import json
import time

import pytest

from ruleaudit.findings import Severity
from ruleaudit.lint.secrets import secret_findings, secrets_of

PEM = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
OTHER_PEMS = [
    f"-----BEGIN {kind}PRIVATE KEY{block}-----" for kind, block in (("", ""), ("EC ", ""), ("OPENSSH ", ""), ("PGP ", " BLOCK"))
]
ENCODED = base64.b64encode(("-----BEGIN EC " + "PRIVATE KEY-----\n" + "x" * 90).encode()).decode()
CERTIFICATE = base64.b64encode(("-----BEGIN " + "CERTIFICATE-----\n" + "x" * 90).encode()).decode()
JWT = "eyJ" + "hbGciOiJSUzI1NiJ9.eyJ" + "pc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLXRoYXQtaXM"
K3S = "K10" + "0" * 64 + "::server:" + "a" * 32


def pod(*environment: dict[str, object], **spec: object) -> str:
    containers = [{"name": "c", "env": list(environment)}]
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers, **spec}}, indent=1)


SECRET = {"apiVersion": "v1", "kind": "Secret", "data": {"key": "c2VjcmV0"}}
KUBECONFIG = "apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user:\n    {}: {}\n"


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (f"x\n{PEM}\n", "a private key", 2),
        *((one, "a private key", 1) for one in OTHER_PEMS),
        (f"a: 1\nkey: {ENCODED}", "a private key in base64", 2),
        (f"\n\ntoken {JWT}", "a JSON web token", 3),
        ("curl -H 'Authorization: Bearer abcdefgh12345678'", "an Authorization header", 1),
        ('{"authorization": "Basic dXNlcjpwYXNzd29yZA=="}', "an Authorization header", 1),
        ("kubeadm join --token abcdef.0123456789abcdef", "a bootstrap token", 1),
        ('token: "abcdef.0123456789abcdef"', "a bootstrap token", 1),
        (K3S, "a token of k3s", 1),
        ("AKIA" + "ABCDEFGHIJKLMNOP", "a key of AWS", 1),
        ("ghp_" + "a" * 36, "a token of GitHub", 1),
        ("github_pat_" + "a" * 50, "a token of GitHub", 1),
        ("glpat-" + "a" * 20, "a token of GitLab", 1),
        ("xoxb-" + "1" * 12, "a token of Slack", 1),
        ("AIza" + "a" * 35, "a key of Google", 1),
        ("postgres://" + "user:hunter2@db:5432/x", "a password in an address", 1),
        ("client-key-data: " + "QUJD" * 10, "the key of a kubeconfig", 1),
        ("--token=s3cr3tvalue", "a secret on a command line", 1),
        ('["--password", "s3cr3tvalue"]', "a secret on a command line", 1),
        (json.dumps(SECRET), "a Secret object with its data", 1),
        (json.dumps({"kind": "List", "items": [{}, SECRET]}, indent=1), "a Secret object with its data", 9),
        ("apiVersion: v1\nkind: Secret\nstringData:\n  a: hidden", "a Secret object with its data", 4),
        ("---\nkind: Service\n---\nkind: Secret\ndata:\n  a: aGlkZGVu", "a Secret object with its data", 6),
        (
            json.dumps({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(SECRET)}}}),
            "a Secret object with its data in the annotation kubectl.kubernetes.io/last-applied-configuration",
            1,
        ),
        (KUBECONFIG.format("token", "opaque"), "a kubeconfig with credentials", 6),
        (KUBECONFIG.format("client-key", "/etc/kubernetes/key.pem"), "a kubeconfig with credentials", 6),
        (pod({"name": "DB_PASSWORD", "value": "x"}), "the value of the environment variable DB_PASSWORD", 10),
        (pod({"name": "apiKey", "value": "x"}), "the value of the environment variable apiKey", 10),
        (pod({"name": "LOG", "value": "debug"}), "values of environment variables", 10),
        (
            json.dumps({"spec": {"initContainers": [{"env": [{"name": "A", "value": "1"}]}]}}),
            "values of environment variables",
            1,
        ),
    ],
)
def test_what_is_secret(text: str, what: str, line: int) -> None:
    assert {(one.what, one.line) for one in secrets_of(text)} >= {(what, line)}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        f"certificate-authority-data: {CERTIFICATE}",
        "-A KUBE-SEP-ABCDEFGHIJKLMNOP -j DNAT --to-destination 10.0.0.1:80",
        "resourceVersion: abcdef.0123456789abcdef",
        "eyJhbGciOiJSUzI1NiJ9",
        "https://user@example.com/x",
        "https://example.com:8443/a@b",
        "http://[fd00::1]:80/x@y",
        "--token-auth-file=/etc/tokens.csv",
        "--password=$(PASSWORD)",
        "--token=/run/token",
        json.dumps({"kind": "Secret", "metadata": {"name": "x"}}),
        json.dumps({"kind": "Secret", "data": {}}),
        json.dumps({"spec": {"certificateRefs": [{"kind": "Secret", "name": "tls"}]}}),
        json.dumps({"spec": {"tls": [{"secretName": "tls", "hosts": ["a"]}]}}),
        json.dumps({"kind": "Config", "users": []}),
        "kind: Config\nusers:\n- name: u\n  user: {}\n",
        "kind: Config\nusers: none\nenv: none",
        pod({"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        pod({"name": "DB_PASSWORD", "value": ""}),
        "{not json",
        "kind: [",
    ],
)
def test_what_is_none(text: str) -> None:
    assert list(secrets_of(text)) == []


BOMB = "kind: List\na0: &a0 {b: c}\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    "text",
    [
        *(
            pytest.param(piece * (400_000 // len(piece)), id=repr(piece))
            for piece in ("token ", "a.", "eyJ-", "--token ", "LS0tLS1CRUdJTi", "A ")
        ),
        pytest.param("token" + " " * 400_000, id="blanks"),
        pytest.param("-----BEGIN " + "A " * 200_000 + "PRIVATE KEY", id="many words"),
        pytest.param('{"kind": "Secret", "a": ' + "[" * 200_000, id="nested without end"),
        pytest.param(BOMB, id="aliases of aliases"),
        pytest.param("kind: &a [*a]", id="a value that holds itself"),
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    since = time.monotonic()
    list(secrets_of(text))
    assert time.monotonic() - since < 5


def test_a_finding_for_each_kind_that_never_says_the_secret() -> None:
    text = (
        pod({"name": "A", "value": "hunter2"}, {"name": "B", "value": "hunter3"}, {"name": "TOKEN", "value": "hunter4"})
        + "\n"
        + JWT
    )
    found = list(secret_findings("fixture/objects.json", text))
    assert [(one.message, one.severity) for one in found] == [
        ("fixture/objects.json holds a JSON web token", Severity.ERROR),
        ("fixture/objects.json holds values of environment variables (2 times)", Severity.WARNING),
        ("fixture/objects.json holds the value of the environment variable TOKEN", Severity.ERROR),
    ]
    assert all(one.code == "RA803" and one.locations[0].line for one in found)
    for secret in ("hunter2", "hunter3", "hunter4", JWT):
        assert secret not in repr(found)
