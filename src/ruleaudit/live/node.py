"""The node that ruleaudit runs on: its dumps, and what its kube-proxy runs with. It is only read, and no kernel module is loaded for it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ruleaudit.live.dumps import Dump, Dumps, Kernel, Output, Run, take
from ruleaudit.live.errors import LiveError
from ruleaudit.live.proxy import Proxy, find_proxy
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.sources import Source

__all__ = ["LiveNode", "read_node", "tool_versions"]

_CAPABILITIES: Final = (1 << 12) | (1 << 13)
"""CAP_NET_ADMIN, and CAP_NET_RAW for the raw socket of iptables-legacy (linux/capability.h)."""
_SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where the programs are, beside $PATH: a user's often lacks these."""
_NET: Final = Path("/proc/thread-self/net")
_READER: Final = "ruleaudit.live.legacy_tables"


@dataclass(frozen=True, slots=True)
class LiveNode:
    """What was read: `dumps`, `proxy` (None where no kube-proxy runs), and the `hostname`."""

    dumps: Dumps
    proxy: Proxy | None
    hostname: str

    def sources(self) -> list[Source]:
        """It, as inputs of an audit."""
        return [*self.dumps.sources(), *(one.source() for one in self.settings())]

    def settings(self) -> list[Dump]:
        """What is known of kube-proxy's settings, and of the node's name."""
        about = {
            "kube_proxy_version": None if self.proxy is None else self.proxy.version,
            "mode": None if self.proxy is None else self.proxy.mode,
            "hostname": self.hostname,
        }
        return [
            *(() if self.proxy is None else self.proxy.dumps),
            Dump("this node", "", json.dumps(about).encode(), InputKind.CAPTURE_META),
        ]


def read_node(timeout: float = 30.0) -> LiveNode:
    """Read the node: its rules by both backends' tools, sets, virtual servers, addresses. `timeout`: seconds for each program.

    Raises LiveError where this is no Linux, without the rights, and where the rules cannot be read.
    """
    if sys.platform != "linux":
        raise LiveError("--live reads the rules of the node that it runs on, which is a Linux; give dumps as files instead")
    _require_rights()

    def run(command: Sequence[str]) -> Output:
        return _run(command, timeout)

    def read_legacy(family: int, tables: Sequence[str]) -> bytes | None:
        return _read_legacy(family, tables, timeout)

    try:
        dumps = take(run, _kernel(), read_legacy)
    except LiveError as error:
        raise LiveError(f"the rules of this node cannot be read: {error}") from error
    return LiveNode(dumps, find_proxy(), platform.node())


def _require_rights() -> None:
    effective = 0
    for line in _text(Path("/proc/thread-self/status")).splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    if effective & _CAPABILITIES != _CAPABILITIES:
        who = "is root, but lacks" if os.geteuid() == 0 else "is not root, and lacks"
        raise LiveError(
            f"rules can only be read as root: this process {who} the capabilities NET_ADMIN and NET_RAW; run it with sudo, or let root run"
            " `ruleaudit collect --script` and give what that collects"
        )


# --- programs ---


def _path() -> str:
    return os.pathsep.join([*os.environ.get("PATH", "").split(os.pathsep), *_SBIN])


def _run(command: Sequence[str], timeout: float) -> Output:
    program = shutil.which(command[0], path=_path())
    if program is None:
        return Output(None, b"", "")
    environment = {**os.environ, "PATH": _path(), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [program, *command[1:]], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise LiveError(f"{' '.join(command)} did not end within {timeout:g} seconds; --request-timeout gives it more") from error
    except OSError as error:
        return Output(126, b"", f"cannot be run: {error.strerror or error}")
    return Output(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def tool_versions(dumps: Dumps, run: Run | None = None) -> dict[str, str]:
    """What the programs that made the dumps say of their version. `run`: in a pod, which is asked for those of iptables alone."""
    unwanted = ("ip6tables",) if run is None else ("ip6tables", "ipset", "ipvsadm", "nft", "ip-")
    found: dict[str, str] = {}
    for one in dumps.dumps:
        program = one.command.partition(" ")[0]
        if program and program not in found and program != "python-iptables" and not program.startswith(unwanted):
            version = (program, "-V" if program == "ip" else "--version")
            output = _run(version, 10) if run is None else run(version)
            text = (output.out.decode("utf-8", "replace") or output.err).strip()
            if output.status == 0 and text:
                found[program] = text.splitlines()[0]
    return found


def _read_legacy(family: int, tables: Sequence[str], timeout: float) -> bytes | None:
    """Legacy tables by python-iptables, in a process of its own: a fault of that C library ends only it. None without the package."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "PATH": _path()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", _READER, str(family), *tables],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# --- what the kernel has ---


def _kernel() -> Kernel:
    servers = _text(_NET / "ip_vs") if (_NET / "ip_vs").exists() else None
    return Kernel(
        legacy={4: _legacy_tables("ip_tables_names"), 6: _legacy_tables("ip6_tables_names")},
        nft=_has("nf_tables", "nft_do_chain"),
        sets=_has("ip_set", "ip_set_test"),
        ipvs=servers is not None,
        virtual_servers=servers is not None and any(line[:3] in ("TCP", "UDP", "SCT", "FWM") for line in servers.splitlines()),
    )


def _legacy_tables(name: str) -> tuple[str, ...]:
    """The tables that exist in this network namespace. Asking for any other would make it (net/netfilter/x_tables.c)."""
    path = _NET / name
    return tuple(_text(path).split()) if path.exists() else ()


def _has(module: str, symbol: str) -> bool | None:
    """Whether the kernel has a module, loaded or built in; None where it does not say.

    A kernel that cannot load modules has no /proc/modules: there, asking is harmless.
    """
    modules = Path("/proc/modules")
    if not modules.exists() or any(line.partition(" ")[0] == module for line in _text(modules).splitlines()):
        return True
    built_in = Path("/lib/modules") / platform.release() / "modules.builtin"
    if built_in.exists():
        return any(line.rpartition("/")[2].split(".")[0].replace("-", "_") == module for line in _text(built_in).splitlines())
    symbols = _text(Path("/proc/kallsyms"))
    return f" {symbol}\n" in symbols if symbols else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
