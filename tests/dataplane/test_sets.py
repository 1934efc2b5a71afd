"""What sets say of a packet (docs/semantics.md, S14)."""

from __future__ import annotations

import pytest

from ruleaudit.dataplane.sets import Sets
from ruleaudit.formats import ipset

SETS = """\
create PORTS bitmap:port range 0-65535
add PORTS 30080
create VIPS hash:ip,port family inet hashsize 1024 maxelem 65536
add VIPS 10.96.0.1,tcp:80
add VIPS 10.96.0.1,sctp:80
create RANGES hash:ip,port,net family inet hashsize 1024 maxelem 65536
add RANGES 10.96.0.1,tcp:80,192.0.2.0/24
create LOOPS hash:ip,port,ip family inet hashsize 1024 maxelem 65536
add LOOPS 10.244.0.1,tcp:80,10.244.0.1
create ADDRESSES hash:ip family inet hashsize 1024 maxelem 65536
add ADDRESSES 10.96.0.1
create EMPTY hash:ip,port family inet hashsize 1024 maxelem 65536
create OLD hash:ip family inet hashsize 1024 maxelem 65536 timeout 60
add OLD 10.96.0.1 timeout 12
"""


@pytest.mark.parametrize(
    ("name", "flags", "protocol", "destination", "port", "source", "held"),
    [
        ("PORTS", "dst", "tcp", "192.0.2.1", 30080, "192.0.2.9", True),
        ("PORTS", "dst", "udp", "192.0.2.1", 30080, "192.0.2.9", True),
        ("PORTS", "dst", "sctp", "192.0.2.1", 30080, "192.0.2.9", False),  # ip_set_get_ip_port
        ("PORTS", "dst", "tcp", "192.0.2.1", 30081, "192.0.2.9", False),
        ("VIPS", "dst,dst", "tcp", "10.96.0.1", 80, "192.0.2.9", True),
        ("VIPS", "dst,dst", "sctp", "10.96.0.1", 80, "192.0.2.9", True),
        ("VIPS", "dst,dst", "udp", "10.96.0.1", 80, "192.0.2.9", False),
        ("VIPS", "src,dst", "tcp", "10.96.0.2", 80, "10.96.0.1", True),
        ("VIPS", "src,dst", "tcp", "10.96.0.1", 80, "192.0.2.9", False),
        ("RANGES", "dst,dst,src", "tcp", "10.96.0.1", 80, "192.0.2.9", True),
        ("RANGES", "dst,dst,src", "tcp", "10.96.0.1", 80, "192.0.3.9", False),
        ("RANGES", "dst,dst,src", "tcp", "10.96.0.1", 81, "192.0.2.9", False),
        ("LOOPS", "dst,dst,src", "tcp", "10.244.0.1", 80, "10.244.0.1", True),
        ("LOOPS", "dst,dst,src", "tcp", "10.244.0.1", 80, "10.244.0.2", False),
        ("ADDRESSES", "dst", "icmp", "10.96.0.1", 0, "192.0.2.9", True),
        ("ADDRESSES", "src", "tcp", "10.96.0.1", 0, "192.0.2.9", False),
        ("EMPTY", "dst,dst", "icmp", "10.96.0.1", 0, "192.0.2.9", False),
        ("OLD", "dst", "tcp", "10.96.0.1", 80, "192.0.2.9", None),  # it may have run out meanwhile
        ("NONE", "dst", "tcp", "10.96.0.1", 80, "192.0.2.9", None),
    ],
)
def test_what_a_set_holds(
    name: str, flags: str, protocol: str, destination: str, port: int, source: str, held: bool | None
) -> None:
    sets = Sets(ipset.parse(SETS, "ipset.txt").sets)
    assert sets.holds(name, flags, protocol, destination, port, source, None) is held


@pytest.mark.parametrize(
    ("name", "flags", "dimensions"),
    [
        ("PORTS", "dst", "port"),
        ("VIPS", "dst,dst", "ip,port"),
        ("VIPS", "src,dst", None),
        ("ADDRESSES", "dst", "ip"),
        ("RANGES", "dst,dst,src", None),
        ("OLD", "dst", None),
        ("NONE", "dst", None),
    ],
)
def test_which_sets_are_looked_up_by_destination(name: str, flags: str, dimensions: str | None) -> None:
    plain = Sets(ipset.parse(SETS, "ipset.txt").sets).plain(name, flags)
    assert (plain and plain[0]) == dimensions
