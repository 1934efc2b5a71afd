"""A node in a network namespace of its own: dumps are loaded into it, packets are sent to it, and what becomes of each is seen.

The node's interfaces are tun devices whose other ends the test holds: `eth0` leads outside, another one to the pods. The test plays
clients, pods and the rest of the world, so it sees every packet that leaves the node, as it leaves. Packets that the node takes in
itself are seen by raw sockets, behind the INPUT chains. Nothing can leave the namespace: it has no other interface but `lo`.

A packet carries a number (TCP: sequence number, UDP: payload, SCTP: initiate tag) by which it is known again, translated or not,
whole or quoted in an ICMP error. What is left of it when nothing more arrives is nothing: it was dropped.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.forwarding import Verdict, endpoint_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["MASQUERADES", "OUTSIDE", "Fate", "LoadError", "Node", "Sent", "network_namespace", "why_not"]

OUTSIDE = "eth0"
_LOOPBACK = "lo"
# Holds the node's addresses. A node has them on eth0, but there masquerading could not be told from what the node sends by itself.
_OWN = "addresses"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SO_RCVBUFFORCE = 33
_IPV6_PKTINFO = 50
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

# The address that masquerading gives a packet, by the interface that it leaves by; no node of any capture has them.
MASQUERADES = {
    4: {OUTSIDE: "198.18.77.1", _LOOPBACK: "198.18.77.2", "pods": "198.18.77.3"},
    6: {OUTSIDE: "2001:2:0:77::1", _LOOPBACK: "2001:2:0:77::2", "pods": "2001:2:0:77::3"},
}

_SYSCTLS = {
    "net/ipv4/ip_forward": 1,
    "net/ipv6/conf/all/forwarding": 1,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/route_localnet": 1,
    "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/conf/default/send_redirects": 0,
    "net/ipv4/icmp_ratelimit": 0,
    "net/ipv4/icmp_ratemask": 0,
    "net/ipv4/icmp_msgs_per_sec": 1_000_000,
    "net/ipv4/icmp_msgs_burst": 1_000_000,
    "net/ipv6/icmp/ratelimit": 0,
    "net/ipv6/conf/all/accept_ra": 0,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
    "net/netfilter/nf_conntrack_checksum": 0,  # spares this file the checksum of SCTP
}


def why_not() -> str | None:
    """Why no such node can be made here, or None."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root to make a network namespace"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    for tool, package in (("ip", "iproute2"), ("iptables-legacy-restore", "iptables"), ("iptables-nft-restore", "iptables")):
        if shutil.which(tool) is None:
            return f"needs {tool} (package {package})"
    try:
        with network_namespace():
            pass
    except OSError as error:
        return f"no network namespace: {error}"
    return None


@contextmanager
def network_namespace() -> Iterator[None]:
    """A network namespace of its own for this thread, what it runs and the sockets that it opens. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(before)


_OF_THE_KERNEL = re.compile(r" (?:bucketsize|initval) \S+")
"""What older kernels do not know of a set."""


class LoadError(Exception):
    """The kernel, or its tool, refuses a dump."""


class Sent(NamedTuple):
    """A packet as it is sent: its interface (None: by a process of the node), and what it says."""

    interface: str | None
    protocol: str
    source: str
    destination: str
    port: int
    source_port: int


class Fate(NamedTuple):
    """What became of a packet: where it arrived and by which interface (None: at the node itself), whether from another source."""

    verdict: Verdict
    arrived_at: str | None = None
    by: str | None = None
    masqueraded: bool | None = None


@dataclass
class _Arrival:
    interface: str | None
    source: str
    destination: str
    port: int


@dataclass
class _Traces:
    arrivals: list[_Arrival] = field(default_factory=list)
    refused: bool = False


def _run(*command: str, stdin: str | None = None) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, errors="surrogateescape")
    if done.returncode != 0:
        raise LoadError(f"{' '.join(command)}: {done.stderr.strip()}")


def _set(name: str, value: int) -> None:
    path = Path("/proc/sys") / name
    if path.exists():  # some exist from a certain kernel on only
        path.write_text(str(value))


class Node:
    """The node. Lives inside `network_namespace`.

    `addresses` are its own beside loopback and MASQUERADES, `pod_networks` lead to `pod_interface`; everything else leads outside.
    """

    def __init__(self, addresses: Sequence[str], pod_networks: Sequence[str], pod_interface: str) -> None:
        self.addresses = frozenset(addresses) | {one for by in MASQUERADES.values() for one in by.values()}
        self.pod_networks = tuple(ip_network(one) for one in dict.fromkeys(pod_networks))
        self.pod_interface = pod_interface
        self._number = 0
        for name, value in _SYSCTLS.items():
            _set(name, value)
        self._tuns = {name: _tun(name) for name in (OUTSIDE, pod_interface, _OWN)}
        self._names = {descriptor: name for name, descriptor in self._tuns.items()}
        batch = [f"link set {name} up txqueuelen 20000" for name in self._tuns]
        batch.append(f"link set {_LOOPBACK} up")
        for by in MASQUERADES.values():
            for role, address in by.items():
                batch.append(
                    f"address add {address} dev {pod_interface if role == 'pods' else role} scope global" + _nodad(address)
                )
        batch += [f"address add {one} dev {_OWN} scope global" + _nodad(one) for one in addresses]
        batch += [f"route add {one} dev {pod_interface}" for one in self.pod_networks]
        batch += [f"route add {anywhere} dev {OUTSIDE}" for anywhere in ("0.0.0.0/0", "::/0")]
        _run("ip", "-batch", "-", stdin="\n".join(batch) + "\n")
        for name in (*self._tuns, _LOOPBACK):
            _set(f"net/ipv4/conf/{name}/rp_filter", 0)
            _set(f"net/ipv4/conf/{name}/route_localnet", 1)
        self._senders = {
            4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
            6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        }
        self._receivers: dict[int, tuple[int, int, socket.socket]] = {}
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            for protocol in (*_PROTOCOLS.values(), 1 if family == 4 else 58):
                receiver = socket.socket(kind, socket.SOCK_RAW, protocol)
                receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
                receiver.setblocking(False)
                if family == 6:
                    receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                self._receivers[receiver.fileno()] = (family, protocol, receiver)
        self._netfilter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self._poll = select.poll()
        for descriptor in (*self._names, *self._receivers):
            self._poll.register(descriptor, select.POLLIN)

    def close(self) -> None:
        """Give everything back; the namespace ends with the last of it."""
        for descriptor in self._tuns.values():
            os.close(descriptor)
        for _family, _protocol, receiver in self._receivers.values():
            receiver.close()
        for sender in self._senders.values():
            sender.close()
        self._netfilter.close()

    def is_local(self, address: str) -> bool:
        """Whether the node takes packets to an address for itself."""
        return address in self.addresses or address.startswith("127.") or address == "::1"

    def way_to(self, address: str) -> str | None:
        """The interface by which packets to an address leave, None for the node's own."""
        if self.is_local(address):
            return None
        where = ip_network(address)
        inside = any(one.version == where.version and where.subnet_of(one) for one in self.pod_networks)  # type: ignore[arg-type]  # one version
        return self.pod_interface if inside else OUTSIDE

    def load(self, family: int, dump: str, backend: str) -> None:
        """Replace the rules of one family. `backend`: "legacy" or "nft". Raises LoadError."""
        tool = ("iptables" if family == 4 else "ip6tables") + f"-{backend}-restore"
        _run(tool, *(["-w"] if backend == "legacy" else []), stdin=dump)

    def load_sets(self, text: str) -> None:
        """Make the sets of `ipset save`. Raises LoadError."""
        _run("ipset", "restore", stdin=_OF_THE_KERNEL.sub("", text))

    def saved(self, family: int, backend: str, *, counters: bool = False) -> str:
        """The rules of one family as iptables-save prints them, with `counters` as `iptables-save -c` does."""
        tool = ("iptables" if family == 4 else "ip6tables") + f"-{backend}-save"
        return subprocess.run([tool, *(["-c"] if counters else [])], capture_output=True, text=True, check=True).stdout

    def forget(self) -> None:
        """Forget every connection: the next packet is the first of one again."""
        flags = 0x5  # NLM_F_REQUEST | NLM_F_ACK
        self._netfilter.send(struct.pack("=IHHIIBBH", 20, (1 << 8) | 2, flags, 1, 0, 0, 0, 0))
        answer = self._netfilter.recv(4096)
        (error,) = struct.unpack_from("=i", answer, 16)
        if error:
            raise OSError(-error, "connections cannot be forgotten")

    def forget_clients(self) -> None:
        """Empty every list of the `recent` match."""
        folder = Path("/proc/thread-self/net/xt_recent")
        if folder.is_dir():
            for entry in folder.iterdir():
                entry.write_text("/")

    def send(self, packets: Sequence[Sent], patience: float = 0.05) -> list[Fate]:
        """Send packets, each the first of a connection, and tell what became of each. `patience`: seconds to wait for missing ones."""
        traces: dict[int, _Traces] = {}
        numbers: list[int] = []
        for start in range(0, len(packets), 4000):
            if start:
                self.forget()
            for position, packet in enumerate(packets[start : start + 4000]):
                self._number += 1
                numbers.append(self._number)
                traces[self._number] = _Traces()
                self._emit(packet, self._number)
                if position % 100 == 99:
                    self._collect(traces, 0)
            self._collect(traces, 0)
            # What a batch still owes may be on its way through the softirq of lo; what was dropped never comes.
            until = time.monotonic() + patience
            while any(not one.arrivals and not one.refused for one in traces.values()) and (left := until - time.monotonic()) > 0:
                if not self._collect(traces, left):
                    break
        self.forget()
        return [self._fate(packet, traces[number]) for packet, number in zip(packets, numbers, strict=True)]

    def _emit(self, packet: Sent, number: int) -> None:
        data = _packet(packet, number)
        if packet.interface is not None:
            os.write(self._tuns[packet.interface], data)
            return
        family = 6 if ":" in packet.destination else 4
        with suppress(PermissionError):  # what OUTPUT drops, the sender is told of; a refusal sends its ICMP error as well
            self._senders[family].sendto(data, (packet.destination, 0))

    def _fate(self, packet: Sent, traces: _Traces) -> Fate:
        arrivals = traces.arrivals
        if arrivals:
            assert len(arrivals) == 1, f"{packet} arrived {len(arrivals)} times: {arrivals}"
            one = arrivals[0]
            unchanged = (one.destination, one.port) == (packet.destination, packet.port)
            verdict = Verdict.FORWARD if not unchanged else Verdict.LOCAL if one.interface is None else Verdict.PASS
            return Fate(verdict, endpoint_text(one.destination, one.port), one.interface, one.source != packet.source)
        return Fate(Verdict.REJECT if traces.refused else Verdict.DROP)

    def _collect(self, traces: Mapping[int, _Traces], seconds: float) -> bool:
        """Read what is there, waiting so long for a first packet; whether there was one."""
        ready = self._poll.poll(seconds * 1000)
        found = bool(ready)
        while ready:
            for descriptor, _event in ready:
                name = self._names.get(descriptor)
                if name is not None:
                    while (data := _read(descriptor)) is not None:
                        _note_leaving(traces, name, data)
                else:
                    family, protocol, receiver = self._receivers[descriptor]
                    while (taken := _receive(receiver, family)) is not None:
                        _note(traces, None, protocol, *taken)
            ready = self._poll.poll(0)
        return found


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def _tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, 65_536)
    except BlockingIOError:
        return None


def _receive(receiver: socket.socket, family: int) -> tuple[str, str, bytes] | None:
    """(source, destination, what follows the IP header) of a packet that the node has taken in."""
    try:
        if family == 4:
            data = receiver.recv(65_536)
            return socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), data[(data[0] & 0xF) * 4 :]
        data, ancillary, _flags, source = receiver.recvmsg(65_536, 64)
    except BlockingIOError:
        return None
    destination = next(
        socket.inet_ntop(socket.AF_INET6, value[:16]) for _level, kind, value in ancillary if kind == _IPV6_PKTINFO
    )
    return source[0], destination, data


def _note_leaving(traces: Mapping[int, _Traces], interface: str, data: bytes) -> None:
    if data[0] >> 4 == 4:
        _note(
            traces, interface, data[9], socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), data[(data[0] & 0xF) * 4 :]
        )
    else:
        source, destination = (socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24))
        _note(traces, interface, data[6], source, destination, data[40:])


def _note(
    traces: Mapping[int, _Traces], interface: str | None, protocol: int, source: str, destination: str, data: bytes
) -> None:
    """Keep what a packet tells of one that was sent: that it arrived, or that it was refused."""
    if protocol in (1, 58):
        if (data[0] == 3 and protocol == 1) or (data[0] == 1 and protocol == 58):
            quoted = data[8:]
            inner, payload = (quoted[9], quoted[(quoted[0] & 0xF) * 4 :]) if protocol == 1 else (quoted[6], quoted[40:])
            number = _number_in(inner, payload)
            if number in traces:
                traces[number].refused = True
        return
    if protocol == 6 and data[13] & 0x04:  # RST
        number = (struct.unpack_from("!I", data, 8)[0] - 1) & 0xFFFFFFFF
        if number in traces:
            traces[number].refused = True
        return
    number = _number_in(protocol, data)
    if number in traces:
        traces[number].arrivals.append(_Arrival(interface, source, destination, struct.unpack_from("!H", data, 2)[0]))


def _number_in(protocol: int, data: bytes) -> int:
    offset = {6: 4, 17: 8, 132: 16}.get(protocol)
    if offset is None or len(data) < offset + 4:
        return 0
    number: int = struct.unpack_from("!I", data, offset)[0]
    return number


def _packet(packet: Sent, number: int) -> bytes:
    """The first packet of a connection, with its IP header."""
    family = socket.AF_INET6 if ":" in packet.destination else socket.AF_INET
    ends = socket.inet_pton(family, packet.source) + socket.inet_pton(family, packet.destination)
    ports = struct.pack("!HH", packet.source_port, packet.port)
    protocol = _PROTOCOLS[packet.protocol]
    if packet.protocol == "tcp":
        data = ports + struct.pack("!IIBBHHH", number, 0, 5 << 4, 0x02, 64_240, 0, 0)
        place = 16
    elif packet.protocol == "udp":
        data = ports + struct.pack("!HHI", 12, 0, number)
        place = 6
    else:
        data = ports + struct.pack("!IIBBHIIHHI", 0, 0, 1, 0, 20, number, 65_536, 1, 1, number)
        place = 0
    if place:
        total = _checksum(ends + struct.pack("!HH", protocol, len(data)) + data)
        data = data[:place] + struct.pack("!H", total) + data[place + 2 :]
    if family == socket.AF_INET6:
        return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + ends + data
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), number & 0xFFFF, 0x4000, 64, protocol, 0) + ends
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + data


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF
