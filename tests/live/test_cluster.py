"""The objects of a cluster, read from a server over TLS: what comes is what the files hold, and every failure says what to do."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import kubernetes.config.incluster_config
import pytest
import yaml
from tests.live.api_server import TOKEN, ApiServer, objects_of, refused_port, silent_port, waited

import ruleaudit
from ruleaudit import cli
from ruleaudit.live import cluster
from ruleaudit.live.cluster import ClusterOptions, connect, read_objects
from ruleaudit.live.errors import LiveError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
INGRESSES = "/apis/networking.k8s.io/v1/ingresses"


@pytest.fixture(scope="session")
def objects(nodes: Path) -> dict[str, list[dict[str, Any]]]:
    return objects_of(nodes / "changed-destination")


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the machine knows of clusters is not to be found."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def read(server: ApiServer, folder: Path, *, timeout: float = 10, **how: Any) -> list[ruleaudit.Source]:  # noqa: ANN401  kubeconfig's
    return cluster.read_objects(cluster.connect(cluster.ClusterOptions(server.kubeconfig(folder, **how), None, timeout)))


def findings(report: ruleaudit.Report) -> list[tuple[str, str, str | None]]:
    return [(one.code, one.message, one.service) for one in report.findings]


# --- what comes ---


@pytest.mark.parametrize("page_size", [500, 7])
def test_an_audit_finds_what_it_finds_with_files(nodes: Path, objects: dict[str, Any], tmp_path: Path, page_size: int) -> None:
    folder = nodes / "changed-destination"
    dumps = [str(folder / name) for name in ("iptables-save.txt", "ip6tables-save.txt", "kube-proxy.args", "meta.json")]
    with ApiServer(objects, page_size=page_size) as server:
        sources = read(server, tmp_path)
    report = ruleaudit.audit_inputs([*ruleaudit.read(dumps), *sources], node="node-a")
    expected = ruleaudit.audit_inputs(ruleaudit.read([str(folder)]), node="node-a")
    assert findings(report) == findings(expected)
    assert (report.services, report.frontends, report.endpoints) == (expected.services, expected.frontends, expected.endpoints)
    assert {one.path for one in sources} == {path[1:] for path in objects}
    pages = [one for one in server.asked if one.path == SERVICES]
    assert len(pages) == -(-len(objects[SERVICES]) // page_size)
    assert all(one.query["limit"] == "500" for one in server.asked)
    assert {one.headers["accept-encoding"] for one in server.asked} == {"gzip"}
    assert {one.headers["authorization"] for one in server.asked} == {f"Bearer {TOKEN}"}


def test_only_lists_of_what_the_roles_allow_are_asked_for(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects) as server:
        read(server, tmp_path)
    document = Path(__file__).parents[2] / "docs" / "live.md"
    roles = [one for one in yaml.safe_load_all(document.with_name("rbac.yaml").read_text()) if one["kind"] == "ClusterRole"]
    reading = next(one for one in roles if one["metadata"]["name"] == "ruleaudit")
    allowed = {(group, resource) for rule in reading["rules"] for group in rule["apiGroups"] for resource in rule["resources"]}
    asked = set()
    for one in server.asked:
        parts = one.path.strip("/").split("/")
        asked.add((parts[1] if parts[0] == "apis" else "", parts[-1]))
    assert asked == allowed
    assert {verb for rule in reading["rules"] for verb in rule["verbs"]} == {"list"}
    assert document.with_name("rbac.yaml").read_text().strip() in document.read_text()


def test_the_command_reads_the_cluster(
    nodes: Path, objects: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = str(nodes / "changed-destination" / "iptables-save.txt")
    with ApiServer(objects) as server:
        where = ["--cluster", "--kubeconfig", server.kubeconfig(tmp_path), "--context", "test"]
        status = cli.main(["check", dump, *where, "--node", "node-a", "--format", "json", "--select", "RA2"])
    report = json.loads(capsys.readouterr().out)
    assert status == 1
    assert [one["code"] for one in report["findings"]] == ["RA206"]


def test_a_trace_and_show_read_the_cluster(nodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = str(nodes / "healthy" / "iptables-save.txt")
    with ApiServer(objects_of(nodes / "healthy")) as server:
        where = ["--cluster", "--kubeconfig", server.kubeconfig(tmp_path), "--context", "test", "--node", "node-a"]
        assert cli.main(["trace", dump, *where, "--from", "pod/demo/web-0", "--to", "np:80", "--quiet"]) == 0
        assert capsys.readouterr().out == "reached: to pod demo/np-0, pod demo/np-1 and pod demo/np-2\n"
        assert cli.main(["show", "service", "demo/np", dump, *where]) == 0
        assert "endpoint" in capsys.readouterr().out


def test_nodes_of_a_trace_have_the_cluster_in_common(nodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("node-a", "node-b"):
        shutil.copytree(nodes / "healthy", tmp_path / name, ignore=shutil.ignore_patterns("objects*", "kube-proxy.args"))
        meta = tmp_path / name / "meta.json"
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "node": name}))
    with ApiServer(objects_of(nodes / "healthy")) as server:
        where = ["--cluster", "--kubeconfig", server.kubeconfig(tmp_path)]
        inputs = [str(tmp_path / name) for name in ("node-a", "node-b")]
        assert cli.main(["trace", *inputs, *where, "--from", "pod/demo/web-1", "--to", "np:80"]) == 0
    out = capsys.readouterr().out
    assert "node node-a:" in out
    assert "node node-b:" in out


@pytest.mark.parametrize(
    ("gone", "served"),
    [
        ((SLICES,), "/apis/discovery.k8s.io/v1beta1/endpointslices"),
        ((INGRESSES,), "/apis/networking.k8s.io/v1beta1/ingresses"),
        ((SLICES,), None),
        ((INGRESSES, "/apis/networking.k8s.io/v1/ingressclasses"), None),
    ],
)
def test_an_older_server_has_other_versions(
    objects: dict[str, Any], tmp_path: Path, gone: tuple[str, ...], served: str | None
) -> None:
    older = {path: items for path, items in objects.items() if path not in gone}
    if served is not None:
        older[served] = objects[gone[0]]
    with ApiServer(older) as server:
        sources = read(server, tmp_path)
    assert {one.path for one in sources} == {path[1:] for path in older}


# --- what is forbidden, and does without ---


@pytest.mark.parametrize("path", [SLICES, "/api/v1/endpoints", "/api/v1/nodes", "/api/v1/pods", INGRESSES])
def test_a_forbidden_kind_is_not_checked(
    nodes: Path, objects: dict[str, Any], tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = str(nodes / "healthy" / "iptables-save.txt")
    healthy = objects_of(nodes / "healthy")
    with ApiServer(healthy, faults={path: "403"}) as server:
        config = server.kubeconfig(tmp_path)
        cli.main(["check", dump, "--cluster", "--kubeconfig", config, "--node", "node-a", "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    notes = [one for one in report["findings"] if one["code"] == "RA004" and "forbids" in one["message"]]
    assert len(notes) == 1
    assert path.rpartition("/")[2] in notes[0]["message"]
    assert "a message for 403" in notes[0]["hint"]
    assert "docs/live.md" in notes[0]["hint"]


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({SERVICES: "403"}, "forbids to list services: a message for 403"),
        ({SLICES: "403", "/api/v1/endpoints": "403"}, "forbids to list endpointslices and endpoints"),
    ],
)
def test_without_services_or_any_endpoints_nothing_is_audited(
    objects: dict[str, Any], tmp_path: Path, faults: Mapping[str | tuple[str, int], str], words: str
) -> None:
    with ApiServer(objects, faults=faults) as server, pytest.raises(LiveError, match=words):
        read(server, tmp_path)


# --- what passes by itself ---


@pytest.mark.parametrize("times", [1, 2])
def test_a_list_that_expired_begins_again(objects: dict[str, Any], tmp_path: Path, times: int) -> None:
    faults: dict[str | tuple[str, int], str] = {(SERVICES, 2 * number + 1): "expired" for number in range(times)}
    with ApiServer(objects, page_size=10, faults=faults) as server:
        sources = read(server, tmp_path)
    loaded = ruleaudit.load([(one.path, one.data) for one in sources])
    assert len(loaded.services) == len(objects[SERVICES])
    assert not loaded.notes, "nothing of the first try is left"
    assert [one.query.get("continue") for one in server.asked if one.path == SERVICES][: 2 * times] == [None, "10"] * times


def test_a_list_that_always_expires_is_given_up(objects: dict[str, Any], tmp_path: Path) -> None:
    with (
        ApiServer(objects, page_size=10, faults={SERVICES: "expired"}) as server,
        pytest.raises(LiveError, match="expired 3 times"),
    ):
        read(server, tmp_path)
    assert server.count[SERVICES] == 6


def test_a_request_that_is_put_off_is_repeated(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects, faults={(SERVICES, 0): "429", (SERVICES, 1): "429"}) as server:
        assert len(read(server, tmp_path)) == len(objects)
    with ApiServer(objects, faults={(SERVICES, 0): "500", ("/api/v1/nodes", 0): "502", ("/api/v1/pods", 0): "504"}) as server:
        assert len(read(server, tmp_path)) == len(objects)
    with ApiServer(objects, faults={SERVICES: "429"}) as server, pytest.raises(LiveError, match="status 429: a message"):
        read(server, tmp_path)
    assert server.count[SERVICES] == 4


# --- what does not ---


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("silent", "did not go on for 0.3 seconds; --request-timeout"),
        ("slow", "sends too slowly"),
        ("slow chunks", "sends too slowly"),
        ("cut", "cut short"),
        ("cut chunks", "cut short"),
        ("garbage", "no Kubernetes list"),
        ("html", "login page"),
        ("half", r"cut short or damaged on its way; try again"),
        ("aborted", r"cut short or damaged \(Remote end closed connection without response\); try again"),
        ("to https://login.example/x", r"leads elsewhere \(302, to https://login.example/x\)"),
        ("503", "status 503: a message for 503"),
        ("one object", "is Service, not a list"),
        ("stuck", "same page again"),
        ("500", "status 500: a message for 500"),
    ],
)
def test_a_bad_answer_says_what_it_is(objects: dict[str, Any], tmp_path: Path, fault: str, words: str) -> None:
    since = time.monotonic()
    with ApiServer(objects, page_size=10, faults={SERVICES: fault}) as server, pytest.raises(LiveError, match=words) as raised:
        read(server, tmp_path, timeout=0.3)
    assert server.url in str(raised.value)
    assert "\n" not in str(raised.value)
    assert waited(since) < 8


def test_a_list_without_an_end_is_given_up(objects: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "MAX_PAGES", 5)
    with ApiServer(objects, page_size=10) as server, pytest.raises(LiveError, match="has no end: it was given up after 5 pages"):
        read(server, tmp_path)


def test_more_objects_than_are_read_are_refused(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects) as server, pytest.raises(LiveError, match="--limit-factor"):
        cluster.read_objects(cluster.connect(cluster.ClusterOptions(server.kubeconfig(tmp_path))), limit=100_000)


def test_expired_credentials(objects: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ApiServer(objects) as server:
        status = cli.main(["check", "--live", "--cluster", "--kubeconfig", server.kubeconfig(tmp_path, token="old")])
        assert status == 2
        capsys.readouterr()
        with pytest.raises(LiveError, match="does not take the credentials \\(401: Unauthorized\\): they have expired"):
            read(server, tmp_path, token="old")


def test_a_certificate_of_somebody_else(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects) as server, pytest.raises(LiveError, match=r"no secure connection: .*certificate") as raised:
        read(server, tmp_path, trusted=False)
    text = str(raised.value)
    assert "certificate-authority" in text
    assert text.count("(") == text.count(")")
    assert "_ssl.c" not in text


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there(objects: dict[str, Any], tmp_path: Path, host: str) -> None:
    url = f"https://{host}:{refused_port()}"
    with ApiServer(objects) as server, pytest.raises(LiveError, match=r"cannot be reached: .*kubectl get nodes") as raised:
        read(server, tmp_path, url=url)
    assert "object at 0x" not in str(raised.value)


@pytest.mark.parametrize("path", ["", "/a@b"])
def test_a_password_in_the_address_of_a_server_is_not_repeated(objects: dict[str, Any], tmp_path: Path, path: str) -> None:
    with ApiServer(objects) as server:
        with_user = server.url.replace("://", "://admin:hid@den@") + path
        connection = connect(ClusterOptions(server.kubeconfig(tmp_path, url=with_user)))
        assert connection.server == server.url + path
        if not path:
            assert read_objects(connection)
            assert {one.headers["authorization"] for one in server.asked} == {f"Bearer {TOKEN}"}


def test_a_proxy_that_is_not_there(objects: dict[str, Any], tmp_path: Path) -> None:
    proxy = {"proxy-url": f"http://127.0.0.1:{refused_port()}"}
    with (
        ApiServer(objects) as server,
        pytest.raises(LiveError, match="cannot be reached: through the proxy: Connection refused; see"),
    ):
        read_with(server, tmp_path, cluster=proxy)


@pytest.mark.parametrize("path", ["/prefix", "/api/v1/services"])
def test_a_server_that_serves_no_kubernetes(objects: dict[str, Any], tmp_path: Path, path: str) -> None:
    with (
        ApiServer(objects) as server,
        pytest.raises(LiveError, match=r"serves no Kubernetes API: it has no api/v1/services \(404: .*"),
    ):
        read(server, tmp_path, url=server.url + path)


@pytest.mark.parametrize("plural", ["services", "nodes", "pods"])
def test_what_every_cluster_has_is_not_done_without(objects: dict[str, Any], tmp_path: Path, plural: str) -> None:
    there = {path: items for path, items in objects.items() if path != f"/api/v1/{plural}"}
    with ApiServer(there) as server, pytest.raises(LiveError, match=f"it has no api/v1/{plural}"):
        read(server, tmp_path)


@pytest.mark.parametrize("faults", [{}, {SLICES: "403"}])
def test_without_endpoints_of_any_kind_there_is_nothing(
    objects: dict[str, Any], tmp_path: Path, faults: dict[str | tuple[str, int], str]
) -> None:
    gone = {"/api/v1/endpoints", SLICES} - faults.keys()
    there = {path: items for path, items in objects.items() if path not in gone}
    with ApiServer(there, faults=faults) as server, pytest.raises(LiveError, match="without both nothing can be compared"):
        read(server, tmp_path)


def test_a_server_that_never_answers(objects: dict[str, Any], tmp_path: Path) -> None:
    with silent_port() as listening, ApiServer(objects) as server:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(LiveError, match=r"127.0.0.1"):
            read(server, tmp_path, url=url, timeout=0.3)


# --- finding the server ---


def read_with(
    server: ApiServer,
    folder: Path,
    *,
    cluster: Mapping[str, object] | None = None,
    user: Mapping[str, object] | None = None,
    timeout: float = 10,
) -> list[ruleaudit.Source]:
    """Read through a kubeconfig whose cluster has other fields beside its own, and whose user has these instead."""
    path = Path(server.kubeconfig(folder))
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"].update(cluster or {})
    if user is not None:
        document["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(document))
    return read_objects(connect(ClusterOptions(str(path), None, timeout)))


@pytest.mark.parametrize("by", ["tokenFile", "token", "exec"])
def test_a_token_may_end_with_a_newline(objects: dict[str, Any], tmp_path: Path, by: str) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    status = json.dumps(
        {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": f"{TOKEN}\n"}}
    )
    users: dict[str, dict[str, object]] = {
        "tokenFile": {"tokenFile": "token"},  # relative to the kubeconfig
        "token": {"token": f"{TOKEN}\n"},
        "exec": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [status]}},
    }
    with ApiServer(objects) as server:
        assert len(read_with(server, tmp_path, user=users[by])) == len(objects)


def test_a_token_that_no_header_can_have_is_not_shown(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects) as server, pytest.raises(LiveError) as raised:
        read_with(server, tmp_path, user={"token": "hid\u2028den"})
    assert "hid" not in str(raised.value)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (
            {"command": "no-such-plugin", "installHint": "get it\nthere"},
            r"no-such-plugin .*cannot be run \(No such file.*; get it there",
        ),
        ({"command": "sh", "args": ["-c", "echo not logged in >&2; exit 3"]}, "failed with status 3: not logged in"),
        ({"command": "echo", "args": ["junk"]}, "printed 4 bytes that are no ExecCredential"),
        ({"command": "echo", "args": ['{"status": {}}']}, "printed 14 bytes that are no ExecCredential"),
        ({"command": "echo", "args": ["eyJhbGciOi.hidden.SIGNATURE"]}, "printed 27 bytes that are no ExecCredential"),
        ({"command": "echo", "args": ['{"status": {"token": "eyJ.hidden']}, "printed 32 bytes that are no ExecCredential"),
        ({"command": "true"}, "printed nothing"),
        ({"command": "sleep", "args": ["20"]}, r"did not end within 0\.5 seconds; --request-timeout"),
    ],
)
def test_a_program_for_credentials_that_gives_none(
    objects: dict[str, Any], tmp_path: Path, plugin: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    since = time.monotonic()
    described = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", **plugin}
    with ApiServer(objects) as server, pytest.raises(LiveError, match=f"no credentials: the program .*{words}") as raised:
        read_with(server, tmp_path, user={"exec": described}, timeout=0.5)
    assert "\n" not in str(raised.value)
    assert "hidden" not in str(raised.value)
    assert not caplog.records
    assert waited(since) < 8


def test_a_program_for_credentials_is_told_and_asked_again(objects: dict[str, Any], tmp_path: Path) -> None:
    """Its credential expires at once, so that each request asks for another one."""
    script = tmp_path / "bin" / "plugin"
    script.parent.mkdir()
    script.write_text(
        f"""#!/bin/sh
echo "$KUBERNETES_EXEC_INFO" >>{tmp_path}/told
echo '{{"status": {{"token": "'$GIVEN'", "expirationTimestamp": "2026-01-01T00:00:00Z"}}}}'
"""
    )
    script.chmod(0o755)
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    described = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "./bin/plugin",  # relative to the kubeconfig
        "env": [{"name": "GIVEN", "value": TOKEN}],
        "provideClusterInfo": True,
    }
    with ApiServer(objects) as server:
        assert len(read_with(server, tmp_path, cluster={"extensions": [extension]}, user={"exec": described})) == len(objects)
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert len(told) > len(objects)
    assert told[0]["apiVersion"] == "client.authentication.k8s.io/v1beta1"
    assert (told[0]["spec"]["cluster"]["server"], told[0]["spec"]["cluster"]["config"]) == (server.url, {"audience": "x"})


def test_a_server_that_is_not_verified_is_not_warned_of(
    objects: dict[str, Any], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with ApiServer(objects) as server:
        path = Path(server.kubeconfig(tmp_path))
        document = yaml.safe_load(path.read_text())
        document["clusters"][0]["cluster"] = {"server": server.url, "insecure-skip-tls-verify": True}
        path.write_text(yaml.safe_dump(document))
        assert len(read_objects(connect(ClusterOptions(str(path))))) == len(objects)
    assert [str(one.message) for one in recwarn] == []


def test_a_kubeconfig_may_be_a_pipe(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects) as server:
        text = Path(server.kubeconfig(tmp_path)).read_text()
        os.mkfifo(tmp_path / "pipe")
        threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,), daemon=True).start()
        assert len(read_objects(connect(ClusterOptions(str(tmp_path / "pipe"))))) == len(objects)


def test_several_kubeconfigs_are_one(objects: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(objects) as server:
        document = yaml.safe_load(Path(server.kubeconfig(tmp_path)).read_text())
        parts = []
        for number, name in enumerate(("users", "clusters", "contexts")):
            (tmp_path / str(number)).mkdir()
            part = {"current-context": "other" if number == 2 else "test" if number == 1 else "", name: document[name]}
            parts.append(tmp_path / str(number) / "config")
            parts[-1].write_text(yaml.safe_dump(part))
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [tmp_path / "absent", *parts])))
        assert len(read_objects(connect(ClusterOptions()))) == len(objects)


def test_it_says_who_asks(objects: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer(objects) as server:
        read(server, tmp_path)
    assert {one.headers["user-agent"] for one in server.asked} == {f"ruleaudit/{ruleaudit.__version__}"}


def test_no_configuration_at_all() -> None:
    with pytest.raises(LiveError, match=r"no configuration of a cluster.*--kubeconfig"):
        cluster.connect(cluster.ClusterOptions())


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        (None, None, "no such kubeconfig"),
        ("", None, "cannot be used"),
        ("{", None, "cannot be used"),
        ("[]", None, "cannot be used"),
        ("VALID", "other", "cannot be used: it has no context 'other' \\(there are: test\\).*--context"),
        ("a: 1\nb: [", None, "kubeconfig:2 cannot be used: it is no YAML"),
        ("contexts: [{}]", None, "an entry of its contexts has no name"),
        ("contexts: [{name: x}]", None, "no current-context"),
        ("contexts: [{name: x}]\ncurrent-context: x", None, "context 'x' names the cluster None, which is not there"),
        (
            "contexts: [{name: x, context: {cluster: c, user: nobody}}]\ncurrent-context: x\nclusters: [{name: c, cluster: {}}]\nusers: [{name: u}]",
            None,
            "context 'x' names the user 'nobody', which is not there \\(there are: u\\)",
        ),
        (
            "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\nclusters: [{name: c, cluster: {server: 127.0.0.1}}]",
            None,
            "the server of cluster 'c' is no URL",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(
    objects: dict[str, Any], tmp_path: Path, content: str | None, context: str | None, words: str
) -> None:
    path = tmp_path / "kubeconfig"
    if content == "VALID":
        with ApiServer(objects) as server:
            server.kubeconfig(tmp_path)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(LiveError, match=words):
        cluster.connect(cluster.ClusterOptions(str(path), context))


def test_the_environment_names_a_kubeconfig(objects: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(objects) as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path))
        assert len(cluster.read_objects(cluster.connect(cluster.ClusterOptions()))) == len(objects)


def test_the_service_account_of_a_pod(objects: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(objects) as server:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        (tmp_path / "ca.crt").write_bytes(server.authority.cert_pem.bytes())
        monkeypatch.setattr(kubernetes.config.incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(kubernetes.config.incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
        assert len(cluster.read_objects(cluster.connect(cluster.ClusterOptions()))) == len(objects)


@pytest.mark.parametrize("words", [["check"], ["trace", "--from", "node", "--to", "np:80"], ["show", "summary"]])
def test_options_without_their_switch(nodes: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, str(nodes / "healthy"), "--context", "test"]) == 2
    assert "add --cluster" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(LiveError, match=r"pip install 'ruleaudit\[live\]'"):
        cluster.connect(cluster.ClusterOptions())
