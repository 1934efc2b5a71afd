"""The kube-proxy of this node: its command line and configuration, read from /proc, and what it says of itself on its own port.

Nothing of it is run: a process may call itself kube-proxy and be none.
"""

from __future__ import annotations

import http.client
import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ruleaudit.errors import InputError
from ruleaudit.kubeproxy.settings import read_settings
from ruleaudit.live.dumps import Dump
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.kubeproxy.settings import GivenSettings

__all__ = ["Proxy", "command_line", "find_proxy", "proxy_configurations"]

_MOST_BYTES: Final = 1 << 20
"""A larger configuration is none."""
_METRICS: Final = ("127.0.0.1", 10249)
"""Where kube-proxy says its mode and version (--metrics-bind-address)."""
_BUILD: Final = re.compile(rb'^kubernetes_build_info\{[^}\n]*git_version="([^"\n]{1,60})"', re.MULTILINE)
_MODES: Final = ("iptables", "ipvs", "nftables", "userspace")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running kube-proxy: its settings as `dumps` of kind PROXY_CONFIG; `version` and `mode` as it says them, None where it does not."""

    dumps: tuple[Dump, ...]
    version: str | None = None
    mode: str | None = None


def find_proxy() -> Proxy | None:
    """The kube-proxy of this network namespace; None where there is none, or it cannot be seen."""
    namespace = _link("/proc/thread-self/ns/net")
    for entry in _numbered(Path("/proc")):
        words = _command_line(entry)
        if not words or os.path.basename(words[0]) != "kube-proxy" or _link(f"{entry}/ns/net") != namespace:  # noqa: PTH119
            continue
        dumps = [Dump("kube-proxy.args", f"/proc/{entry.name}/cmdline", command_line(words), InputKind.PROXY_CONFIG)]
        file = _config_file(words)
        content = None if file is None else _configuration(entry, file)
        if content is not None:
            dumps.append(Dump("kube-proxy-config.yaml", f"/proc/{entry.name}/root{file}", content, InputKind.PROXY_CONFIG))
        usable = tuple(one for one in dumps if _settings(one) is not None)
        version = _BUILD.search(_asked("/metrics"))
        mode = _asked("/proxyMode").decode("utf-8", "replace").strip()
        return Proxy(usable, None if version is None else version[1].decode("utf-8", "replace"), mode if mode in _MODES else None)
    return None


def command_line(words: Sequence[str]) -> bytes:
    """A command line as a shell would take it, a word on a line; of a flag only its value is quoted, so that it is still seen to be one."""
    lines = []
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        lines.append(f"{name}{equals}{shlex.quote(value)}" if value else word)
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def proxy_configurations(data: bytes) -> bytes | None:
    """A text as it is where it is a KubeProxyConfiguration and nothing else; None where it is not."""
    if data.count(b"KubeProxyConfiguration") != 1 or re.search(
        rb"^(?:---|kind: Secret|users:|clusters:)", data[4:], re.MULTILINE
    ):
        return None
    dump = Dump("", "", data, InputKind.PROXY_CONFIG)
    return data if _settings(dump) is not None else None


def _settings(dump: Dump) -> GivenSettings | None:
    try:
        return read_settings(dump.data, dump.name)
    except InputError:
        return None


def _numbered(folder: Path) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    yield from (one for one in entries if one.name.isdigit())


def _command_line(entry: Path) -> list[str]:
    try:
        data = (entry / "cmdline").read_bytes()
    except OSError:
        return []
    return data.decode("utf-8", "replace").rstrip("\0").split("\0")


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115  "net:[...]" is no path
    except OSError:
        return None


def _config_file(words: list[str]) -> str | None:
    for number, word in enumerate(words):
        if word.startswith("--config="):
            return word.removeprefix("--config=")
        if word == "--config" and number + 1 < len(words):
            return words[number + 1]
    return None


def _configuration(entry: Path, file: str) -> bytes | None:
    """The configuration of a process, as its own file system has it.

    Links in there lead to the files of this node, and whoever made the process may have made them: what is no configuration of
    kube-proxy is therefore not kept.
    """
    try:
        descriptor = os.open(f"{entry}/root/{file.lstrip('/')}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as stream:  # noqa: PTH123  of a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        try:
            data = stream.read(_MOST_BYTES + 1)
        except OSError:
            return None
    return proxy_configurations(data) if len(data) <= _MOST_BYTES else None


def _asked(path: str) -> bytes:
    connection = http.client.HTTPConnection(*_METRICS, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read(8 * _MOST_BYTES) if response.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
