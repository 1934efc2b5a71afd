"""One input, and the kinds of inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["InputKind", "Source"]


class InputKind(Enum):
    """What an input is. The values are the names that reports use."""

    IPTABLES_SAVE = "iptables-save"
    OBJECTS = "objects"
    PROXY_CONFIG = "kube-proxy-configuration"
    CAPTURE_META = "capture-description"
    IPVSADM = "ipvsadm"
    IPSET = "ipset"
    NFT = "nft"
    IP_ADDR = "ip-addr"
    IPVS_CONNECTIONS = "ipvs-connections"
    """`ipvsadm -Lnc`: recognised, not used."""
    IPVS_SETTINGS = "ipvs-settings"
    """`ipvsadm -L --timeout` or --daemon: recognised, not used."""
    IP_RULE = "ip-rule"
    """Recognised, not used."""
    IP_ROUTE = "ip-route"
    """Recognised, not used."""
    CONNTRACK = "conntrack"
    EXPECTATION = "expected-findings"
    """A fixture's expected.json: for `ruleaudit lint`."""
    EMPTY = "empty"
    ABSENT = "absent"
    """What was to be read from a cluster or a node and could not be."""
    OTHER = "other"

    @property
    def is_text(self) -> bool:
        """Whether it is read as text: the others are decoded from their bytes."""
        return self not in (InputKind.OBJECTS, InputKind.PROXY_CONFIG, InputKind.CAPTURE_META)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One input. `path` is as the user gave it, "<stdin>", or "archive:member".

    `text` holds a dump (bytes that are no UTF-8 as surrogate escapes, so that they survive), `data` the UTF-8 of objects and
    settings; the other is empty. `given`: named by the user, not found in a folder or an archive. `reason` says of kind OTHER
    what it is, of kind ABSENT why, and `hint` then what to do. An input that several dumps were written into, one after the other, is
    several sources with the same path; `text` and `data` of such a part begin with one empty line for each of the `lines_before` that
    stand before it, so that line numbers are those of the whole.
    """

    path: str
    kind: InputKind
    text: str = field(repr=False)
    data: bytes = field(repr=False)
    given: bool
    reason: str = ""
    lines_before: int = 0
    hint: str = ""

    @property
    def line_count(self) -> int:
        """How many line ends the text or the data has, counted anew each time."""
        return self.text.count("\n") if self.kind.is_text else self.data.count(b"\n")
