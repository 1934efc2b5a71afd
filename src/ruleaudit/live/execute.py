"""Nodes from outside: programs are run in each node's kube-proxy pod, through the exec of the API server.

The pod shares the node's network namespace, and its image has the tools that kube-proxy itself needs. No shell is asked for: many of these
images have none. What the programs print comes by the channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`: 1 is standard output, 2
standard error, 3 a Status at the end (k8s.io/apimachinery/pkg/util/remotecommand). Without that Status, what came was cut short.
"""

from __future__ import annotations

import queue
import re
import shlex
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ruleaudit.errors import RAISE_LIMIT
from ruleaudit.live.cluster import RBAC_HINT, Connection, api_client, list_objects, pods, read_config_map
from ruleaudit.live.dumps import Dump, Output
from ruleaudit.live.errors import LiveError, Missing
from ruleaudit.live.objects import documents
from ruleaudit.live.proxy import command_line, proxy_configurations
from ruleaudit.sources import MAX_BYTES, InputKind, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ProxyPod", "pod_settings", "proxy_pods", "runner"]

_STDOUT, _STDERR, _STATUS = 1, 2, 3
_PATIENCE: Final = 10
"""A program may run this many timeouts as a whole: one that prints a byte now and then is never silent for one."""
_HANDSHAKE: Final = re.compile(r"Handshake status (\d{3})")
_NOT_FOUND: Final = re.compile(r"executable file .*not found|no such file or directory|stat \S+: no such file", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProxyPod:
    """A pod that runs kube-proxy on a node. `words`: its command line; `config_maps`: those that it mounts; `image` of its container."""

    node: str
    namespace: str
    name: str
    container: str
    words: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()
    image: str = ""
    created: str = ""

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"


class _Cause(msgspec.Struct, gc=False):
    reason: str | None = None
    message: str | None = None


class _Details(msgspec.Struct, gc=False):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct, gc=False):
    status: str | None = None
    message: str | None = None
    reason: str | None = None
    details: _Details | None = None


# --- pods ---


def proxy_pods(connection: Connection, selector: str) -> dict[str, ProxyPod]:
    """The running pods that a label selector finds, by their node; of several on one node the youngest. Raises LiveError."""
    listed = list_objects(connection, pods(), selector=selector)
    found: dict[str, ProxyPod] = {}
    for _, _, item in documents(Source("pods", InputKind.OBJECTS, "", listed[1] if listed else b"", given=True)):
        pod = _pod(item)
        if pod is not None and (pod.node not in found or found[pod.node].created < pod.created):
            found[pod.node] = pod
    if not found:
        raise LiveError(
            f"{connection.server}: no running pod has the label {selector}; name another with --selector. Where kube-proxy runs in no pod"
            " (k3s, RKE2, a service of the system), use `ruleaudit collect --script` on the nodes"
        )
    return found


def _pod(item: dict[str, Any]) -> ProxyPod | None:
    spec, metadata = item.get("spec") or {}, item.get("metadata") or {}
    containers = spec.get("containers") or []
    node = spec.get("nodeName")
    if not node or not containers or (item.get("status") or {}).get("phase") != "Running":
        return None
    container = next((one for one in containers if one.get("name") == "kube-proxy"), containers[0])
    return ProxyPod(
        str(node),
        str(metadata.get("namespace")),
        str(metadata.get("name")),
        str(container.get("name")),
        tuple(str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))),
        tuple(str(one["configMap"]["name"]) for one in spec.get("volumes") or () if (one.get("configMap") or {}).get("name")),
        str(container.get("image") or ""),
        str(metadata.get("creationTimestamp") or ""),
    )


def pod_settings(connection: Connection, pod: ProxyPod) -> tuple[list[Dump], list[Missing]]:
    """kube-proxy's command line, and its configuration of the ConfigMaps that the pod mounts: nothing else of these."""
    dumps: list[Dump] = []
    missing: list[Missing] = []
    words = _proxy_words(pod.words)
    if words:
        dumps.append(Dump("kube-proxy.args", str(pod), command_line(words), InputKind.PROXY_CONFIG))
    for name in pod.config_maps:
        try:
            data = read_config_map(connection, pod.namespace, name)
        except LiveError as error:
            missing.append(Missing("kube-proxy's configuration", str(error), f"allow it: {RBAC_HINT}"))
            continue
        for text in data.values():
            kept = proxy_configurations(text.encode())
            if kept is not None:
                where = f"ConfigMap {pod.namespace}/{name}"
                dumps.append(Dump("kube-proxy-config.yaml", where, kept, InputKind.PROXY_CONFIG))
                return dumps, []
    return dumps, missing


def _proxy_words(words: Sequence[str]) -> list[str]:
    """kube-proxy and its flags: a shell before it is left out."""
    parts: list[str] = []
    for word in words:
        try:
            parts += [word] if word.startswith("--") else shlex.split(word)
        except ValueError:
            parts.append(word)
    for number, part in enumerate(parts):
        if part.rpartition("/")[2] == "kube-proxy":
            return parts[number:]
    return []


# --- programs ---


def runner(connection: Connection, pod: ProxyPod) -> _Runner:
    """What runs programs in a pod. A call raises LiveError where it is refused, cut short or too slow."""
    return _Runner(connection, pod)


class _Runner:
    def __init__(self, connection: Connection, pod: ProxyPod) -> None:
        self.connection = connection
        self.pod = pod

    def __call__(self, command: Sequence[str]) -> Output:
        # The package can wait for ever while it connects. Nothing is left to wait for then: the thread ends with the process.
        results: queue.SimpleQueue[Output | BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=self._into, args=(results, command), daemon=True).start()
        try:
            result = results.get(timeout=self.connection.timeout)
            if result is None:  # connected
                result = results.get(timeout=(_PATIENCE + 1) * self.connection.timeout + 1)
        except queue.Empty:
            raise LiveError(self._says(command, f"the API server does not answer; {self._more()}")) from None
        if isinstance(result, BaseException):
            raise result
        assert result is not None
        return result

    def _into(self, results: queue.SimpleQueue[Output | BaseException | None], command: Sequence[str]) -> None:
        try:
            results.put(self._run(command, results))
        except BaseException as error:  # whatever it is, whoever waits is to have it
            results.put(error)

    def _run(self, command: Sequence[str], results: queue.SimpleQueue[Output | BaseException | None]) -> Output:
        from kubernetes import client
        from kubernetes.client import ApiException
        from kubernetes.stream import stream
        from websocket import WebSocketException, WebSocketTimeoutException

        api = client.CoreV1Api(api_client(self.connection))  # one each: stream() changes it while it runs
        try:
            opened = stream(
                api.connect_get_namespaced_pod_exec,
                self.pod.name,
                self.pod.namespace,
                command=list(command),
                container=self.pod.container,
                stdout=True,
                stderr=True,
                stdin=False,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        except ApiException as error:
            raise LiveError(self._refused(command, str(error.reason))) from error
        except ValueError as error:  # of what would have to be sent; it may be a token, so it is not said
            raise LiveError(self._says(command, "it cannot be asked for: see the credentials in the kubeconfig")) from error
        results.put(None)
        try:
            opened.sock.settimeout(self.connection.timeout)
            out, err, status = self._read(opened, command)
        except WebSocketTimeoutException as error:
            raise LiveError(self._says(command, self._silent())) from error
        except (WebSocketException, OSError) as error:
            raise LiveError(self._says(command, f"the connection was cut: {error}; try again")) from error
        finally:
            opened.close(timeout=1)
            opened.sock.shutdown()  # close() leaves the socket open where the server said goodbye first
        return self._output(command, out, err, status)

    def _read(self, opened: Any, command: Sequence[str]) -> tuple[bytes, bytes, bytes]:  # noqa: ANN401  not typed
        parts: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: [], _STATUS: []}
        size = 0
        heard = began = time.monotonic()
        while True:
            going = opened.is_open()
            if going:
                opened.update(timeout=min(1.0, self.connection.timeout))
            now = time.monotonic()
            for channel, kept in parts.items():
                data = opened.read_channel(channel)
                if data:
                    kept.append(data)
                    size += len(data)
                    heard = now
            if not going:
                return b"".join(parts[_STDOUT]), b"".join(parts[_STDERR]), b"".join(parts[_STATUS])
            if size > MAX_BYTES:
                raise LiveError(self._says(command, f"it prints more than is read; {RAISE_LIMIT}"))
            if now - heard > self.connection.timeout:
                raise LiveError(self._says(command, self._silent()))
            if now - began > _PATIENCE * self.connection.timeout:
                raise LiveError(
                    self._says(command, f"its output comes too slowly: {size:,} bytes in {now - began:.0f} s; {self._more()}")
                )

    def _output(self, command: Sequence[str], out: bytes, err: bytes, text: bytes) -> Output:
        errors = err.decode("utf-8", "replace")
        try:
            status = msgspec.json.decode(text, type=_Status)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LiveError(self._says(command, "the connection was cut before the program's end; try again")) from error
        if status.status == "Success":
            return Output(0, out, errors)
        message = status.message or status.reason or "without a message"
        for cause in (status.details.causes if status.details is not None else None) or ():
            if cause.reason == "ExitCode" and (cause.message or "").isdigit():
                code = int(cause.message or "0")
                # A runtime says so of a program that is not there, or not for this pod.
                return Output(None if code in (126, 127) and not out else code, out, errors or message)
        if _NOT_FOUND.search(message):
            return Output(None, out, message)
        raise LiveError(self._says(command, message))

    def _refused(self, command: Sequence[str], reason: str) -> str:
        found = _HANDSHAKE.search(reason)
        body = reason.rpartition("-+-+- ")[2].strip()
        if body.startswith(("b'", 'b"')):
            body = body[2:-1].encode().decode("unicode_escape")
        try:
            said = msgspec.json.decode(body, type=_Status).message or body
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            said = (body or reason).splitlines()[0][:200] if (body or reason) else "without a message"
        if found is None:
            return self._says(command, f"no connection: {said}")
        if found[1] in ("401", "403"):
            return self._says(
                command, f"it is not allowed ({found[1]}: {said}): {RBAC_HINT}, and that running programs in pods takes more"
            )
        return self._says(command, f"refused with status {found[1]}: {said}")

    def _says(self, command: Sequence[str], what: str) -> str:
        return f"{self.connection.server}: `{' '.join(command)}` in {self.pod} on {self.pod.node}: {what}"

    def _silent(self) -> str:
        return f"nothing came for {self.connection.timeout:g} seconds; {self._more()}"

    def _more(self) -> str:
        return "--request-timeout gives it more"
