"""An API server on 127.0.0.1, as far as ruleaudit asks one: lists over TLS, page by page, with the ways in which they fail.

It stands for the real one at the other end of a socket: nothing of the client is replaced. `faults` says for a path (and a request of it,
counted from 0) what goes wrong there.
"""

from __future__ import annotations

import gzip
import json
import lzma
import socket
import ssl
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import trustme
import yaml
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["TOKEN", "ApiServer", "Asked", "Printed", "objects_of"]

Printed = str | tuple[int, str]
"""What a program prints on standard output; or its exit status and what it prints on standard error."""

TOKEN = "a-token-that-holds"
_PLACES = {
    "Service": "/api/v1/services",
    "Endpoints": "/api/v1/endpoints",
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/pods",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
    "Ingress": "/apis/networking.k8s.io/v1/ingresses",
    "IngressClass": "/apis/networking.k8s.io/v1/ingressclasses",
}


class Asked(NamedTuple):
    """A request that came in; names of headers in lower case."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


def objects_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The objects of a bundled node, by the path at which a server lists them; without kind and apiVersion, as in its lists."""
    with lzma.open(folder / "objects.json.xz") as stream:
        items = json.load(stream)["items"]
    found: dict[str, list[dict[str, Any]]] = {path: [] for path in _PLACES.values()}
    for item in items:
        kind = item.pop("kind")
        item.pop("apiVersion")
        found[_PLACES[kind]].append(item)
    return found


class ApiServer:
    """The server, running while it is entered. `page_size`: the most objects in a page, whatever limit is asked for.

    `single`: objects that are got by their path. `programs`: pod -> command line -> what it prints; `faults` has these by their command
    line. `protocol`: the newest subprotocol of exec that it speaks.
    """

    def __init__(
        self,
        objects: Mapping[str, list[dict[str, Any]]],
        *,
        page_size: int = 500,
        faults: Mapping[str | tuple[str, int], str] | None = None,
        single: Mapping[str, dict[str, Any]] | None = None,
        programs: Mapping[str, Mapping[str, Printed]] | None = None,
        protocol: str = "v5.channel.k8s.io",
    ) -> None:
        self.objects = objects
        self.single = dict(single or {})
        self.programs = dict(programs or {})
        self.protocol = protocol
        self.page_size = page_size
        self.faults = dict(faults or {})
        self.asked: list[Asked] = []
        self.protocols: set[str | None] = set()
        self.count: Counter[str] = Counter()
        self.authority = trustme.CA()
        self.stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, folder: Path, *, token: str = TOKEN, trusted: bool = True, url: str | None = None) -> str:
        """A kubeconfig that leads here, written into `folder`."""
        authority = self.authority if trusted else trustme.CA()
        pem = folder / "ca.pem"
        pem.write_bytes(authority.cert_pem.bytes())
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url or self.url, "certificate-authority": str(pem)}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def _handler(outer) -> type[BaseHTTPRequestHandler]:  # noqa: N805  the handler's own self is the usual one
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
                """Say nothing."""

            def do_GET(self) -> None:
                try:
                    self._get()
                except (OSError, ssl.SSLError):
                    self.close_connection = True

            def _get(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                outer.asked.append(Asked(parts.path, query, {name.lower(): value for name, value in self.headers.items()}))
                number = outer.count[parts.path]
                outer.count[parts.path] += 1
                fault = outer.faults.get((parts.path, number)) or outer.faults.get(parts.path) or ""
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                if scheme.lower() != "bearer" or token != TOKEN:
                    self._status(401, "Unauthorized", "Unauthorized")
                    return
                if parts.path.endswith("/exec"):
                    self._exec(parts.path.split("/")[-2], parse_qsl(parts.query))
                    return
                if parts.path in outer.single and not fault:
                    self._send(json.dumps(outer.single[parts.path]).encode())
                    return
                if parts.path not in outer.objects and parts.path not in outer.single:
                    self._status(404, "NotFound", "the server could not find the requested resource")
                    return
                if fault.isdigit():
                    self._status(int(fault), "Fault", f"a message for {fault}")
                    return
                if fault == "expired" and query.get("continue"):
                    self._status(410, "Expired", "The provided continue parameter is too old")
                    return
                if fault == "silent":
                    outer.stop.wait(20)
                    return
                if fault == "aborted":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                if fault.startswith("to "):
                    self._send(b"", status=302, location=fault[3:])
                    return
                if fault == "html":
                    self._send(b"<!DOCTYPE html><title>Log in</title>", "text/html")
                    return
                body = self._page(parts.path, query, fault)
                if fault == "half":
                    body = body[: len(body) // 2]
                if fault == "garbage":
                    body = body[:40] + b"\x00\xff" + body[40:]
                if fault in ("cut", "slow", "slow chunks", "cut chunks"):
                    self._send_badly(body, fault)
                    return
                self._send(body)

            def _exec(self, pod: str, query: list[tuple[str, str]]) -> None:
                command = " ".join(value for name, value in query if name == "command")
                fault = outer.faults.get(command, "")
                if fault.isdigit():
                    self._status(int(fault), "Fault", f"a message for {fault}")
                    return
                if fault == "no handshake":
                    outer.stop.wait(20)
                    return
                protocols = {"v5.channel.k8s.io": ["v5.channel.k8s.io", "v4.channel.k8s.io"]}.get(
                    outer.protocol, [outer.protocol]
                )
                self.close_connection = True
                lines = [f"GET {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
                channels = _Channels(self.connection, "\r\n".join(lines).encode(), protocols)
                outer.protocols.add(channels.protocol)
                outer.asked.append(Asked(f"exec {pod}", {**dict(query), "command": command}, {}))
                if fault == "silent":
                    outer.stop.wait(20)
                    return
                found = outer.programs.get(pod, {}).get(command)
                if fault == "not running":
                    channels.end(
                        {"status": "Failure", "message": "container kube-proxy is not running", "reason": "InternalError"}
                    )
                    return
                if found is None:
                    program = command.partition(" ")[0]
                    text = f'command terminated: exec failed: exec: "{program}": executable file not found in $PATH: unknown'
                    channels.end({"status": "Failure", "message": text, "reason": "InternalError", "code": 500})
                    return
                out, code, err = (found, 0, "") if isinstance(found, str) else ("", *found)
                for channel, data in ((2, err.encode()), (1, out.encode())):
                    for at in range(0, len(data), 4096):
                        channels.send(channel, data[at : at + 4096])
                        if fault == "slow" and outer.stop.wait(0.05):
                            return
                        if fault == "cut":
                            self.connection.shutdown(socket.SHUT_RDWR)
                            return
                        if fault == "cut in a frame":
                            self.connection.sendall(b"\x82\x7e\x10")
                            self.connection.shutdown(socket.SHUT_RDWR)
                            return
                        if fault == "stalls":
                            self.connection.sendall(b"\x82\x7e\x10")
                            outer.stop.wait(20)
                            return
                if fault == "no status":
                    channels.end(None)
                elif fault == "garbage":
                    channels.send(3, b"\xff{")
                    channels.end(None)
                elif code:
                    cause = {"reason": "ExitCode", "message": str(code)}
                    text = f"command terminated with non-zero exit code: exit status {code}"
                    status = {"status": "Failure", "message": text, "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
                    channels.end(status)
                else:
                    channels.end({"metadata": {}, "status": "Success"})

            def _page(self, path: str, query: dict[str, str], fault: str) -> bytes:
                items = outer.objects[path]
                selector = query.get("labelSelector")
                if selector:
                    name, _, value = selector.partition("=")
                    items = [one for one in items if (one["metadata"].get("labels") or {}).get(name) == value]
                start = int(query.get("continue") or 0)
                end = start + min(int(query["limit"]), outer.page_size)
                kind = {place: name for name, place in _PLACES.items()}.get(path, "Thing")
                metadata: dict[str, Any] = {"resourceVersion": "1"}
                if end < len(items):
                    metadata["continue"] = str(start if fault == "stuck" else end)
                    metadata["remainingItemCount"] = len(items) - end
                version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]
                page = {"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": items[start:end]}
                if fault == "one object":
                    page = {"kind": "Service", "apiVersion": "v1", **items[0]}
                return json.dumps(page).encode()

            def _status(self, code: int, reason: str, message: str) -> None:
                body = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "message": message,
                    "reason": reason,
                    "code": code,
                }
                self._send(json.dumps(body).encode(), status=code)

            def _send(self, body: bytes, kind: str = "application/json", status: int = 200, location: str = "") -> None:
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Type", kind)
                if status == 429:
                    self.send_header("Retry-After", "0")
                if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 100_000:
                    body = gzip.compress(body, 1)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _send_badly(self, body: bytes, fault: str) -> None:
                chunked = fault.endswith("chunks")
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))))
                self.end_headers()
                if fault.startswith("cut"):
                    half = body[: len(body) // 2]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(half), half) if chunked else half)
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                for at in range(len(body)):
                    if outer.stop.wait(0.03):
                        return
                    one = body[at : at + 1]
                    self.wfile.write(b"1\r\n%b\r\n" % one if chunked else one)
                    self.wfile.flush()

        return Handler


class _Channels:
    """The server's end of the WebSocket channels of exec, in a connection whose request has been read."""

    def __init__(self, connection: socket.socket, request: bytes, protocols: list[str]) -> None:
        self._connection = connection
        self._websocket = ServerProtocol(subprotocols=[Subprotocol(one) for one in protocols])
        self._websocket.receive_data(request)
        (received,) = self._websocket.events_received()
        assert isinstance(received, Request)
        self._websocket.send_response(self._websocket.accept(received))
        self._flush()
        self.protocol = self._websocket.subprotocol

    def send(self, channel: int, data: bytes) -> None:
        self._websocket.send_binary(bytes([channel]) + data)
        self._flush()

    def end(self, status: dict[str, Any] | None) -> None:
        """The Status, then the end of the channels as v5 says it, and of the connection."""
        if status is not None:
            self.send(3, json.dumps(status).encode())
        if self.protocol == "v5.channel.k8s.io":
            for channel in (1, 2):
                self.send(255, bytes([channel]))
        self._websocket.send_close(1000)
        self._flush()

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            if data:
                self._connection.sendall(data)


def refused_port() -> int:
    """A port at 127.0.0.1 where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def silent_port() -> socket.socket:
    """A socket that takes connections and never says anything; close it."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


def waited(since: float) -> float:
    """Seconds since a moment of time.monotonic()."""
    return time.monotonic() - since
