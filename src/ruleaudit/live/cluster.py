"""The objects of a cluster, read from its API server through the `kubernetes` package: only lists, page by page, as raw bytes.

What the pages hold goes the same way as files. Of the package only what is stable from release 30 on is used: its configuration, and its
generated list calls with `_preload_content=False`, which sign a request and leave the answer as it is. Its models are never made: they take
ten times as long as the whole audit.
"""

from __future__ import annotations

import functools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ruleaudit.errors import RAISE_LIMIT
from ruleaudit.live.errors import PIP, LiveError, Missing
from ruleaudit.live.kubeconfig import first_line, load_files, load_service_account
from ruleaudit.sources import MAX_BYTES, InputKind, Source
from ruleaudit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "RBAC_HINT",
    "RESOURCES",
    "ClusterOptions",
    "Connection",
    "Resource",
    "api_client",
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
"""How often a request is repeated that the server put off, or that something before it could not pass on: it only reads."""
_PUT_OFF: Final = frozenset({429, 500, 502, 503, 504})
_MOST_WAIT: Final = 10.0
"""Seconds that are waited at most before such a repetition, whatever Retry-After says."""
_PATIENCE: Final = 10
"""A page may take this many timeouts as a whole: a server that sends a byte now and then never exceeds one."""
_BYTES_READ: Final = re.compile(r"IncompleteRead\(([1-9]\d*) bytes read")
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
_ALWAYS_SERVED: Final = frozenset({"services", "nodes", "pods"})
"""What there is no Kubernetes without; EndpointSlices and Ingresses came later, and Endpoints may end one day."""
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
    """An API server as the configuration names it; nothing has been asked yet. `configuration` is of kubernetes.client.

    `server`: its address, which messages and captures repeat, without a user and password.
    """

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
        from kubernetes import client
    except ImportError as error:
        raise LiveError(f"reading the cluster needs the package kubernetes ({error}): {PIP}") from error
    configuration = client.Configuration()
    path = options.kubeconfig or os.environ.get("KUBECONFIG") or ""
    default = Path.home() / ".kube" / "config"
    if not path and (options.context is not None or default.exists()):
        path = str(default)
    if path:
        load_files(path, options.context, options.timeout, configuration)
    elif os.environ.get("KUBERNETES_SERVICE_HOST"):
        load_service_account(configuration)
    else:
        raise LiveError(
            "no configuration of a cluster: there is no ~/.kube/config, $KUBECONFIG is not set, and this is no pod with a service"
            " account; name one with --kubeconfig"
        )
    configuration.retries = False
    configuration.host = _without_user(str(configuration.host))  # the package sends no user of an address, either
    if not configuration.verify_ssl:
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # whoever wrote insecure-skip-tls-verify knows
    return Connection(configuration, str(configuration.host), options.timeout)


def _without_user(url: str) -> str:
    """An address without the user and password that may stand in it."""
    scheme, separator, rest = url.partition("://")
    end = next((at for at, letter in enumerate(rest) if letter in "/?#"), len(rest))
    return scheme + separator + rest[:end].rpartition("@")[2] + rest[end:]


def api_client(connection: Connection) -> Any:  # noqa: ANN401  of a package without types
    """What makes requests of the package's calls, for one use."""
    from kubernetes import client

    api = client.ApiClient(connection.configuration)
    api.user_agent = f"ruleaudit/{__version__}"
    return api


# --- lists ---


def read_objects(
    connection: Connection, progress: Callable[[str, float], None] | None = None, limit: int = MAX_BYTES
) -> list[Source]:
    """Everything that an audit needs, a Source for each kind (of kind OBJECTS; ABSENT for what is forbidden, and does without).

    `limit`: bytes, of all together. Raises LiveError where the rest is not enough, or the server cannot be read.
    """
    sources: list[Source] = []
    forbidden: list[Missing] = []
    absent: set[str] = set()
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
        if listed is None:
            absent.add(resource.plural)
        else:
            left -= len(listed[1])
            sources.append(Source(listed[0], InputKind.OBJECTS, "", listed[1], given=True))
    if {"endpointslices", "endpoints"} <= {one.what for one in forbidden} | absent:
        what = "has neither endpointslices nor endpoints" if not forbidden else "forbids to list endpointslices and endpoints"
        raise LiveError(f"{connection.server} {what}: without both nothing can be compared; {RBAC_HINT}")
    return [*sources, *(one.source() for one in forbidden)]


def list_objects(
    connection: Connection, resource: Resource, limit: int = MAX_BYTES, *, selector: str | None = None
) -> tuple[str, bytes] | None:
    """(path at the server, the pages one after another) of one kind; None where the server does not serve it and need not.

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
                if error.status == 404 and resource.plural in _ALWAYS_SERVED:
                    raise LiveError(
                        f"{connection.server} serves no Kubernetes API: it has no {path} (404: {error.text}); see whether the server in the"
                        " kubeconfig is right, and the path in it, or choose with --context"
                    ) from error
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

    with api_client(connection) as api:
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
            begun = data.lstrip()[:1] in (b"{", b"[")
            why = "it was cut short or damaged on its way; try again" if begun else "perhaps a login page of a proxy"
            raise LiveError(
                f"{where}: the answer is no Kubernetes list ({error}): {why}; see `kubectl get --raw /{path}`"
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
        with api_client(connection) as api:
            call = client.CoreV1Api(api).read_namespaced_config_map
            data = _asked(connection, call, {"name": name, "namespace": namespace}, _CONFIG_MAP, path)
        return msgspec.json.decode(data, type=_ConfigMap).data or {}
    except _RefusedError as error:
        raise _refusal(connection, f"ConfigMap {namespace}/{name}", error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LiveError(f"{connection.server}/{path}: the answer is no ConfigMap ({error})") from error


def _asked(connection: Connection, call: Callable[..., Any], options: dict[str, Any], limit: int, path: str) -> bytes:
    """One answer as bytes, unpacked. Repeats what the server puts off. Raises LiveError and _RefusedError."""
    until = time.monotonic() + connection.timeout
    for number in range(MAX_REPEATS + 1):
        try:
            return _answer(connection, call, options, limit, path)
        except _RefusedError as error:
            asked = error.retry_after
            wait = min(float(asked) if asked is not None and asked.isdigit() else 0.5 * 2.0**number, _MOST_WAIT)
            if error.status not in _PUT_OFF or number == MAX_REPEATS or time.monotonic() + wait > until:
                raise
            time.sleep(wait)
    raise AssertionError("unreachable")


def _answer(connection: Connection, call: Callable[..., Any], options: dict[str, Any], limit: int, path: str) -> bytes:
    import urllib3.exceptions
    from kubernetes.client import ApiException

    until = time.monotonic() + _PATIENCE * connection.timeout
    where = f"{connection.server}/{path}"
    try:
        response = call(**options, _preload_content=False, _request_timeout=(connection.timeout, connection.timeout))
        if 300 <= response.status < 400:
            raise _led_elsewhere(where, response.status, response.headers.get("Location"))
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
        headers = error.headers or {}
        if 300 <= (error.status or 0) < 400:
            raise _led_elsewhere(where, error.status, headers.get("Location")) from error
        if error.status:
            raise _RefusedError(error.status, _message(error.body), headers.get("Retry-After")) from error
        raise LiveError(_no_trust(connection, error)) from error
    except urllib3.exceptions.SSLError as error:
        raise LiveError(_no_trust(connection, error)) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise LiveError(
            f"{where}: the server did not go on for {connection.timeout:g} seconds; --request-timeout gives it more"
        ) from error
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError) as error:
        read = _BYTES_READ.search(str(error))
        inner = _innermost(error)
        how = f" after {read[1]} bytes" if read is not None else "" if isinstance(inner, ValueError) else f" ({_cause(error)})"
        raise LiveError(f"{where}: the answer was cut short or damaged{how}; try again") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise LiveError(
            f"{connection.server} cannot be reached: {_cause(error)}; see whether `kubectl get nodes` works from here"
        ) from error
    except ValueError as error:  # of http.client, for what it would have to send
        raise LiveError(
            f"{connection.server} cannot be asked: a header or an address cannot be sent; see the server, the proxy-url and the credentials"
            " in the kubeconfig"  # what it was is not said: it may be a token
        ) from error


def _led_elsewhere(where: str, status: int, location: str | None) -> LiveError:
    return LiveError(
        f"{where}: the server leads elsewhere ({status}, to {location or 'no place that it names'}), as an API server never does: perhaps"
        " to a login page; see the server in the kubeconfig"
    )


def _innermost(error: BaseException) -> BaseException:
    """The error that others were made of: as their reason, among their arguments, or while it was handled."""
    seen = {id(error)}
    while True:
        parts = [getattr(error, "reason", None), *reversed(error.args), error.__cause__, error.__context__]
        inner = next((one for one in parts if isinstance(one, BaseException) and id(one) not in seen), None)
        if inner is None:
            return error
        seen.add(id(inner))
        error = inner


def _cause(error: BaseException) -> str:
    """What went wrong in the end, without Python's own words for it ("<HTTPConnection object at ...>: Failed to establish ...")."""
    inner = _innermost(error)
    said = inner.strerror if isinstance(inner, OSError) and inner.strerror else first_line(inner).rpartition(">: ")[2]
    through = "through the proxy: " if "proxy" in str(error).lower() else ""
    return f"{through}{said}"


def _no_trust(connection: Connection, error: BaseException) -> str:
    inner = _innermost(error)
    text = getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or first_line(inner)
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
