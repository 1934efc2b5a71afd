"""Secrets: each form is found, with its line and without itself; what only looks like one is not."""

from __future__ import annotations

import base64
import json
import textwrap
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


HEALTHY = json.dumps(
    {
        "kind": "List",
        "items": [
            {
                "kind": "Pod",
                "metadata": {
                    "annotations": {
                        "checksum/secret": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "nginx.ingress.kubernetes.io/auth-secret": "shop/basic-auth",
                        "kubernetes.io/service-account.name": "default",
                    },
                    "managedFields": [{"fieldsV1": {"f:spec": {"f:password": {}, "f:token": {}}}}],
                },
                "spec": {
                    "automountServiceAccountToken": True,
                    "imagePullSecrets": [{"name": "registry-token-x7k2p"}],
                    "containers": [
                        {
                            "args": ["--authentication-token-webhook=true", "--token-ttl=3600s"],
                            "volumeMounts": [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
                            "env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
                        }
                    ],
                    "volumes": [
                        {"secret": {"secretName": "tls-secret"}},
                        {"projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}},
                    ],
                },
            },
            {"kind": "ServiceAccount", "secrets": [{"name": "default-token-x7k2p"}], "imagePullSecret": "registry-token-x7k2p"},
            {
                "kind": "ExternalSecret",
                "spec": {"data": [{"secretKey": "database-password", "privateKey": {"algorithm": "RSA"}}]},
            },
        ],
    }
)
SECRET = {"apiVersion": "v1", "kind": "Secret", "data": {"key": "c2VjcmV0"}}
REGISTRY = json.dumps({"auths": {"registry.example.com": {"auth": base64.b64encode(b"user:hunter2").decode()}}})
IN_KUBECONFIG = "a kubeconfig with credentials in kubeconfig.conf"


def config_map(**data: str) -> str:
    blocks = [f"  {name}: |\n" + textwrap.indent(text, "    ") for name, text in data.items()]
    return "\n".join(["apiVersion: v1", "kind: ConfigMap", "metadata:", "  name: kube-proxy", "data:", *blocks])


def as_json(**data: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "data": data}, indent=1)


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
        (KUBECONFIG.format("password", "opaque"), "a kubeconfig with credentials", 6),
        (config_map(**{"kubeconfig.conf": KUBECONFIG.format("token", "opaque")}), IN_KUBECONFIG, 12),
        (config_map(**{"kubeconfig.conf": KUBECONFIG.format("password", "hunter2")}), IN_KUBECONFIG, 12),
        (as_json(**{"kubeconfig.conf": KUBECONFIG.format("token", "opaque")}), IN_KUBECONFIG, 5),
        ("kind: ConfigMap\npassword: hunter2\n", "the value of password", 2),
        ("a: b\npassword: hunter2 # of nobody\n", "the value of password", 2),
        ("kind: ConfigMap\npassword: 123456\n", "the value of password", 2),
        ('{\n"password": "hunter2"}', "the value of password", 2),
        ('{\n"password": "hunter2"', "the value of password", 2),
        ("export DB_PASSWORD=hunter2", "the value of DB_PASSWORD", 1),
        ("PGPASSWORD='hunter2' psql", "the value of PGPASSWORD", 1),
        ("[a]\nsmtp_pass = hunter2\n", "the value of smtp_pass", 2),
        ('{"args": ["-c", "DB_PASSWORD=hunter2 run"]}', "the value of DB_PASSWORD", 1),
        ('{"annotations": {"my/password": "hunter2"}}', "the value of my/password", 1),
        ('{"annotations": {"my/settings": "{\\"apiToken\\": \\"0f3c9a1b77d2\\"}"}}', "the value of apiToken in my/settings", 1),
        (as_json(application="db:\n  password: hunter2\n"), "the value of password in application", 5),
        (as_json(env="A=1\nSECRET_KEY=0f3c9a1b77d2\n"), "the value of SECRET_KEY in env", 5),
        (json.dumps({"kind": "SecretList", "items": [{"data": {"key": "c2VjcmV0"}}]}), "a Secret object with its data", 1),
        (REGISTRY, "credentials of a container registry", 1),
        (as_json(**{"config.json": REGISTRY}), "credentials of a container registry in config.json", 5),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEX", "the value of aws_secret_access_key", 1),
        ("https://example.com/x?access_token=0f3c9a1b77d2&a=b", "the value of access_token", 1),
        ("//registry.npmjs.org/:_authToken=0f3c9a1b77d2", "the value of _authToken", 1),
        ("npm_" + "a" * 36, "a token of npm", 1),
        ("dckr_pat_" + "a" * 27, "a token of Docker", 1),
        ("curl -s -u admin:hunter2 https://example.com", "a password on curl's command line", 1),
        ('["curl", "--user", "admin:hunter2"]', "a password on curl's command line", 1),
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
    found = list(secrets_of(text))
    assert {(one.what, one.line) for one in found} >= {(what, line)}
    assert not any(secret in one.what for one in found for secret in ("hunter2", "opaque", "0f3c9a1b77d2"))


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
        json.dumps({"kind": "SecretList", "items": [{"kind": "Secret", "data": {}}]}),
        KUBECONFIG.format("client-key-data", "DATA+OMITTED"),
        json.dumps({"spec": {"certificateRefs": [{"kind": "Secret", "name": "tls"}]}}),
        json.dumps({"spec": {"tls": [{"secretName": "tls", "hosts": ["a"]}]}}),
        json.dumps({"kind": "Config", "users": []}),
        "kind: Config\nusers:\n- name: u\n  user: {}\n",
        "kind: Config\nusers: none\nenv: none",
        pod({"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        pod({"name": "DB_PASSWORD", "value": ""}),
        "{not json",
        "kind: [",
        KUBECONFIG.format("tokenFile", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
        KUBECONFIG.format("client-key", "/etc/kubernetes/key.pem"),
        config_map(**{"kubeconfig.conf": KUBECONFIG.format("tokenFile", "/var/run/secrets/kubernetes.io/serviceaccount/token")}),
        as_json(**{"kubeconfig.conf": KUBECONFIG.format("token", "REDACTED")}),
        *(
            as_json(password=value, application=f"db:\n  password: {value}\n") + f"\nDB_PASSWORD={value}\n"
            for value in (
                "***",
                "<password>",
                "$(PASSWORD)",
                "${DB_PASSWORD}",
                "[REDACTED]",
                "/etc/secrets/db/password",
                "",
                "{{ .Values.password }}",
            )
        ),
        HEALTHY,
        '-A KUBE-SVC-A -m comment --comment "demo/secret-token:http -> 10.244.1.1:80" -j KUBE-SEP-A',
        "--initial-cluster-token=etcd-cluster-1",
        "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
        "--bootstrap-token-auth=true --anonymous-auth=false",
        "password = arguments.password\ntoken := newToken()\nif token == expectedToken12:\n",
        '"token": TOKEN_FORMAT_2, "password": TEST_PASSWORD,\ntoken=ANOTHER_TOKEN % 1\nVerdict.PASS: "that it is left alone",',
        '"secret": "V1SecretVolumeSource",\n"service_account_token": "serviceAccountToken",',
        "The password: it must have eight letters.\nToken: see below, and read on\n--- PASS: TestSomething12 (0.00s)",
        "curl -u $USER:$PASSWORD https://example.com; curl -u user https://example.com",
        '{"properties": {"password": {"type": "string", "description": "password: how it is proved"}}, "required": ["password"]}',
    ],
)
def test_what_is_none(text: str) -> None:
    assert list(secrets_of(text)) == []


def test_deep_documents_end() -> None:
    """A document in a document, and so on: as deep as nobody writes them is not looked."""
    text = json.dumps({"password": "hunter2"})
    for _ in range(8):
        text = json.dumps({"a": text})
    assert all("hunter2" not in one.what for one in secrets_of(text))


BOMB = "kind: List\na0: &a0 {b: c}\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    "text",
    [
        *(
            pytest.param(piece * (400_000 // len(piece)), id=repr(piece))
            for piece in (
                "password=",
                "password: x1y2z3\n",
                "curl -u ",
                "curl ",
                '{"password": "',
                "token ",
                "a.",
                "eyJ-",
                "--token ",
                "LS0tLS1CRUdJTi",
                "A ",
            )
        ),
        pytest.param("token" + " " * 400_000, id="blanks"),
        pytest.param(f"secret={'ab-' * 130}!\n" * 1000, id="names of many parts"),
        pytest.param(json.dumps({f"password{n}x": f"{n:x}" * 9 for n in range(9000)}), id="many names"),
        pytest.param("a: b\n" + "".join(f"password: hunter{n}\n" for n in range(9000)), id="many lines"),
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
