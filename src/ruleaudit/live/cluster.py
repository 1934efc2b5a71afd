"""The objects of a cluster, read from its API server through the `kubernetes` package: only lists, page by page, as raw bytes.

What the pages hold goes the same way as files. Of the package only what is stable from release 30 on is used: its configuration, and its
generated list calls with `_preload_content=False`, which sign a request and leave the answer as it is. Its models are never made: they take
ten times as long as the whole audit.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ruleaudit.errors import RAISE_LIMIT
from ruleaudit.live.errors import PIP, LiveError, Missing
from ruleaudit.sources import MAX_BYTES, InputKind, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "RBAC_HINT",
    "RESOURCES",
    "ClusterOptions",
    "Connection",
    "Resource",
    "connect",
    "list_objects",
    "pods",
    "read_config_map",
    "read_objects",
]

PAGE: Final = 500
"""Objects in one answer, as kubectl and client-go ask for."""
MAX_PAGES: Final = 10_000
"""More pages of one list are refused: five million objects are no cluster, but a server that never ends its list."""
MAX_RESTARTS: Final = 3
"""How often a list is begun again when its continue token has expired."""
MAX_REPEATS: Final = 3
"""How often a request is repeated that the server put off (429, 503)."""
_MOST_WAIT: Final = 10.0
"""Seconds that are waited at most before such a repetition, whatever Retry-After says."""
_PATIENCE: Final = 10
"""A page may take this many timeouts as a whole: a server that sends a byte now and then never exceeds one."""
_CHUNK: Final = 1 << 16
_CONFIG_MAP: Final = 4 << 20
"""Bytes: an API server takes no object of more than 1.5 MiB."""
RBAC_HINT: Final = "docs/live.md has the ClusterRoles that ruleaudit needs"


class Resource(NamedTuple):
    """A kind of objects. `places`: the (group, version) that it may be served at, the newest first; "" is the core group."""

    plural: str
    places: tuple[tuple[str, str], ...]
    core_call: str = ""
    """The call of CoreV1Api that lists it."""


RESOURCES: Final = (
    Resource("services", (("", "v1"),), "list_service_for_all_namespaces"),
    Resource("endpointslices", (("discovery.k8s.io", "v1"), ("discovery.k8s.io", "v1beta1"))),
    Resource("endpoints", (("", "v1"),), "list_endpoints_for_all_namespaces"),
    Resource("nodes", (("", "v1"),), "list_node"),
    Resource("pods", (("", "v1"),), "list_pod_for_all_namespaces"),
    Resource("ingresses", (("networking.k8s.io", "v1"), ("networking.k8s.io", "v1beta1"))),
    Resource("ingressclasses", (("networking.k8s.io", "v1"), ("networking.k8s.io", "v1beta1"))),
)
"""What an audit reads, in this order: what belongs together is read together."""
_PODS: Final = next(one for one in RESOURCES if one.plural == "pods")
_LOST: Final = {
    "endpointslices": "endpoints are taken from Endpoints, as kube-proxy up to 1.21 may",
    "endpoints": "EndpointSlices are not compared with them, and kube-proxy before 1.22 may follow them",
    "nodes": "node addresses, zones and pod networks are not known",
    "pods": "what endpoints and addresses belong to is not known",
    "ingresses": "Ingresses are not checked",
    "ingressclasses": "Ingresses are checked without their classes",
}


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How the API server is found: `kubeconfig` a file, `context` one of its contexts; `timeout` in seconds, of each wait."""

    kubeconfig: str | None = None
    context: str | None = None
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server as the configuration names it; nothing has been asked yet. `configuration` is of kubernetes.client."""

    configuration: Any
    server: str
    timeout: float


class _Metadata(msgspec.Struct, gc=False):
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Page(msgspec.Struct, gc=False):
    """What must be known of a page beside its bytes."""

    kind: str | None = None
    items: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    metadata: _Metadata | None = None
    message: str | None = None


class _ConfigMap(msgspec.Struct, gc=False):
    data: dict[str, str] | None = None


_page_decoder: Final = msgspec.json.Decoder(_Page)


class _RefusedError(Exception):
    """An answer with a status of 4xx or 5xx; `text` is the server's own message."""

    def __init__(self, status: int, text: str, retry_after: str | None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after


# --- finding the server ---


def connect(options: ClusterOptions) -> Connection:
    """The API server that a kubeconfig, or the service account of the pod that ruleaudit runs in, names.

    As kubectl looks for it: `options`, else $KUBECONFIG, else ~/.kube/config, else the service account. Raises LiveError.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise LiveError(f"reading the cluster needs the package kubernetes ({error}): {PIP}") from error
    configuration = client.Configuration()
    path = options.kubeconfig or os.environ.get("KUBECONFIG") or ""
    default = Path.home() / ".kube" / "config"
    if not path and (options.context is not None or default.exists()):
        path = str(default)
    if path:
        # A list of files is not looked for: the package says itself which of them it cannot read.
        if os.pathsep not in path and not Path(path).is_file():
            raise LiveError(f"{path}: there is no such kubeconfig; name one with --kubeconfig")
        try:
            config.load_kube_config(path, options.context, client_configuration=configuration, persist_config=False)
        except Exception as error:  # the package lets KeyError, TypeError, YAML errors and its own through
            raise LiveError(
                f"{path} cannot be used: {_first_line(error)}; see `kubectl config view`, or choose with --context"
            ) from error
    elif os.environ.get("KUBERNETES_SERVICE_HOST"):
        try:
            config.load_incluster_config(client_configuration=configuration)
        except Exception as error:
            raise LiveError(f"the pod's service account cannot be used: {_first_line(error)}; name a --kubeconfig") from error
    else:
        raise LiveError(
            "no configuration of a cluster: there is no ~/.kube/config, $KUBECONFIG is not set, and this is no pod with a service"
            " account; name one with --kubeconfig"
        )
    configuration.retries = False
    return Connection(configuration, str(configuration.host), options.timeout)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


# --- lists ---


def read_objects(
    connection: Connection, progress: Callable[[str, float], None] | None = None, limit: int = MAX_BYTES
) -> list[Source]:
    """Everything that an audit needs, a Source for each kind (of kind OBJECTS; ABSENT for what is forbidden, and does without).

    `limit`: bytes, of all together. Raises LiveError where the rest is not enough, or the server cannot be read.
    """
    sources: list[Source] = []
    forbidden: list[Missing] = []
    left = limit
    for number, resource in enumerate(RESOURCES):
        if progress is not None:
            progress(f"{resource.plural} of {connection.server}", number / len(RESOURCES))
        try:
            listed = _listed(connection, resource, left)
        except _RefusedError as error:
            if error.status != 403:
                raise _refusal(connection, resource.plural, error) from error
            if resource.plural == "services":
                raise LiveError(f"{connection.server} forbids to list services: {error.text}; {RBAC_HINT}") from error
            forbidden.append(
                Missing(
                    resource.plural,
                    f"{connection.server} forbids to list {resource.plural}: {_LOST[resource.plural]}",
                    f"allow it: {RBAC_HINT} ({error.text})",
                )
            )
            continue
        if listed is not None:
            left -= len(listed[1])
            sources.append(Source(listed[0], InputKind.OBJECTS, "", listed[1], given=True))
    if {"endpointslices", "endpoints"} <= {one.what for one in forbidden}:
        raise LiveError(
            f"{connection.server} forbids to list endpointslices and endpoints: without both nothing can be compared; {RBAC_HINT}"
        )
    return [*sources, *(one.source() for one in forbidden)]


def list_objects(
    connection: Connection, resource: Resource, limit: int = MAX_BYTES, *, selector: str | None = None
) -> tuple[str, bytes] | None:
    """(path at the server, the pages one after another) of one kind; None where the server does not serve it.

    `selector`: of labels. Raises LiveError.
    """
    try:
        return _listed(connection, resource, limit, selector)
    except _RefusedError as error:
        raise _refusal(connection, resource.plural, error) from error


def pods() -> Resource:
    """The kind Pod."""
    return _PODS


def _listed(connection: Connection, resource: Resource, limit: int, selector: str | None = None) -> tuple[str, bytes] | None:
    """As list_objects; raises _RefusedError where the server refuses."""
    for group, version in resource.places:
        path = f"apis/{group}/{version}/{resource.plural}" if group else f"api/{version}/{resource.plural}"
        for _ in range(MAX_RESTARTS):
            try:
                return path, b"\n".join(_pages(connection, resource, group, version, path, limit, selector))
            except _RefusedError as error:
                if error.status == 404:
                    break
                if error.status != 410:
                    raise
        else:
            raise LiveError(
                f"{connection.server}: the list of {resource.plural} expired {MAX_RESTARTS} times while it was read: the server drops old"
                " versions faster than they are sent; try again when it is less busy"
            )
    return None


def _pages(
    connection: Connection, resource: Resource, group: str, version: str, path: str, limit: int, selector: str | None
) -> Iterator[bytes]:
    from kubernetes import client

    with client.ApiClient(connection.configuration) as api:
        api.set_default_header("Accept-Encoding", "gzip")
        call = (
            getattr(client.CoreV1Api(api), resource.core_call)
            if not group
            else functools.partial(client.CustomObjectsApi(api).list_cluster_custom_object, group, version, resource.plural)
        )
        yield from _pages_of(connection, call, path, limit, selector)


def _pages_of(connection: Connection, call: Callable[..., Any], path: str, limit: int, selector: str | None) -> Iterator[bytes]:
    token: str | None = None
    left = limit
    where = f"{connection.server}/{path}"
    for _ in range(MAX_PAGES):
        options: dict[str, Any] = {"limit": PAGE}
        if token:
            options["_continue"] = token
        if selector:
            options["label_selector"] = selector
        data = _asked(connection, call, options, left, path)
        left -= len(data)
        try:
            page = _page_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LiveError(
                f"{where}: the answer is no Kubernetes list ({error}): perhaps a login page of a proxy; see `kubectl get --raw /{path}`"
            ) from error
        if not (page.kind or "").endswith("List") or page.items is msgspec.UNSET:
            raise LiveError(f"{where}: the answer is {page.kind or 'no Kubernetes object'}, not a list; is this the API server?")
        yield data
        before, token = token, page.metadata.continue_ if page.metadata is not None else None
        if not token:
            return
        if token == before:
            raise LiveError(f"{where}: the server gives the same page again and again; its continue token does not move on")
    raise LiveError(f"{where}: the list has no end: it was given up after {MAX_PAGES:,} pages")


def read_config_map(connection: Connection, namespace: str, name: str) -> dict[str, str]:
    """The data of a ConfigMap. Raises LiveError where it cannot be read."""
    from kubernetes import client

    path = f"api/v1/namespaces/{namespace}/configmaps/{name}"
    try:
        with client.ApiClient(connection.configuration) as api:
            call = client.CoreV1Api(api).read_namespaced_config_map
            data = _asked(connection, call, {"name": name, "namespace": namespace}, _CONFIG_MAP, path)
        return msgspec.json.decode(data, type=_ConfigMap).data or {}
    except _RefusedError as error:
        raise _refusal(connection, f"ConfigMap {namespace}/{name}", error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LiveError(f"{connection.server}/{path}: the answer is no ConfigMap ({error})") from error


def _asked(connection: Connection, call: Callable[..., Any], options: dict[str, Any], limit: int, path: str) -> bytes:
    """One answer as bytes, unpacked. Repeats what the server puts off. Raises LiveError and _RefusedError."""
    for number in range(MAX_REPEATS + 1):
        try:
            return _answer(connection, call, options, limit, path)
        except _RefusedError as error:
            if error.status not in (429, 503) or number == MAX_REPEATS:
                raise
            wait = error.retry_after
            time.sleep(min(float(wait) if wait is not None and wait.isdigit() else 2.0**number, _MOST_WAIT, connection.timeout))
    raise AssertionError("unreachable")


def _answer(connection: Connection, call: Callable[..., Any], options: dict[str, Any], limit: int, path: str) -> bytes:
    import urllib3.exceptions
    from kubernetes.client import ApiException

    until = time.monotonic() + _PATIENCE * connection.timeout
    where = f"{connection.server}/{path}"
    try:
        response = call(**options, _preload_content=False, _request_timeout=(connection.timeout, connection.timeout))
        if response.status >= 400:
            raise _RefusedError(response.status, _message(response.read()), response.headers.get("Retry-After"))
        chunks: list[bytes] = []
        size = 0
        try:
            # read1 gives what has come; stream, of an older urllib3, waits until a chunk is full.
            parts = iter(lambda: response.read1(_CHUNK), b"") if hasattr(response, "read1") else response.stream(_CHUNK)
            for part in parts:
                chunks.append(part)
                size += len(part)
                if size > limit:
                    raise LiveError(f"{where}: the cluster holds more bytes of objects than are read; {RAISE_LIMIT}")
                if time.monotonic() > until:
                    raise LiveError(
                        f"{where}: the server sends too slowly: {size:,} bytes in {_PATIENCE * connection.timeout:g} seconds;"
                        " --request-timeout gives it more"
                    )
        finally:
            response.close()
        return b"".join(chunks)
    except ApiException as error:
        if error.status:
            headers = error.headers or {}
            raise _RefusedError(error.status, _message(error.body), headers.get("Retry-After")) from error
        raise LiveError(_no_trust(connection, error.reason)) from error
    except urllib3.exceptions.SSLError as error:
        raise LiveError(_no_trust(connection, error)) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise LiveError(
            f"{where}: the server did not go on for {connection.timeout:g} seconds; --request-timeout gives it more"
        ) from error
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError) as error:
        raise LiveError(f"{where}: the answer was cut short or damaged ({_first_line(error)}); try again") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise LiveError(
            f"{connection.server} cannot be reached: {_cause(error)}; see whether `kubectl get nodes` works from here"
        ) from error


def _cause(error: BaseException) -> str:
    """The reason behind urllib3's own words ("<HTTPConnection object at ...>: Failed to establish ...")."""
    return _first_line(error).rpartition(">: ")[2]


def _no_trust(connection: Connection, reason: object) -> str:
    text = _first_line(RuntimeError(str(reason).replace("SSLError\n", ""))).rpartition("SSLError(")[2].strip("()")
    return (
        f"{connection.server}: no secure connection: {text}; the certificate-authority, the client certificate or the server's address in"
        " the kubeconfig does not fit this server"
    )


def _message(body: object) -> str:
    """The server's own message in the body of a refusal: of a Status, else its first line."""
    data = body if isinstance(body, bytes) else str(body or "").encode()
    try:
        status = _page_decoder.decode(data)
        if status.message:
            return status.message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    text = data.decode("utf-8", "replace").strip()
    return text.splitlines()[0][:200] if text else "without a message"


def _refusal(connection: Connection, what: str, error: _RefusedError) -> LiveError:
    if error.status == 401:
        return LiveError(
            f"{connection.server} does not take the credentials (401: {error.text}): they have expired, or belong to another cluster; log in"
            " again, or choose with --context"
        )
    if error.status == 403:
        return LiveError(f"{connection.server} forbids to read {what}: {error.text}; {RBAC_HINT}")
    return LiveError(f"{connection.server}: {what} cannot be read: status {error.status}: {error.text}")
