"""The faithful model of what `ip addr` prints: the interfaces of a node and their addresses. KPR 11.2 and 11.6 say what IPVS makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from ruleaudit.dumps.lines import BLANK, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Interface", "InterfaceAddress", "InterfaceDump"]


class InterfaceAddress(NamedTuple):
    """One address of an interface: canonical, with its prefix length. `peer` is the other end where it has one.

    `line` is 1-based; in JSON, which is one line, that of the document.
    """

    family: Literal[4, 6]
    address: str
    prefix_length: int
    peer: str | None
    scope: str | None
    line: int


@dataclass(slots=True, eq=False)
class Interface:
    """One interface. `flags` are those between `<` and `>`; `state` is as "UP", "DOWN", "UNKNOWN"; None where it is not printed."""

    name: str
    index: int
    flags: frozenset[str]
    state: str | None
    mtu: int | None
    line: int
    addresses: list[InterfaceAddress] = field(default_factory=list)

    @property
    def is_loopback(self) -> bool:
        """Whether it is the loopback interface."""
        return "LOOPBACK" in self.flags

    @property
    def is_up(self) -> bool:
        """Whether it is set up; a dummy such as kube-ipvs0 serves its addresses although it is not."""
        return "UP" in self.flags


@dataclass(slots=True, eq=False)
class InterfaceDump(Lines):
    """One input of `ip addr`: its lines and the interfaces in it. JSON has no lines: `render` gives it back as it was.

    `whole`: it lists every interface, as far as can be told: the loopback is among them, and it was not `cut`. `only_family` is
    4 or 6 where it was made with -4 or -6. `problems`: "unparsable" lines, "truncated" inputs.
    """

    interfaces: list[Interface] = field(default_factory=list)
    only_family: Literal[4, 6] | None = None
    json: str | None = field(default=None, repr=False)

    @property
    def whole(self) -> bool:
        """Whether the loopback is among the interfaces: a listing of one device (`ip addr show dev kube-ipvs0`) lacks it."""
        return not self.cut and any(interface.is_loopback for interface in self.interfaces)

    @property
    def cut(self) -> bool:
        """Whether its end is seen to be missing: then more addresses may belong to its last interface."""
        if any(problem.kind == "truncated" for problem in self.problems):
            return True
        if self.final_newline or len(self.shapes) < 2:
            return False
        last = self.shapes[-1].kind
        return last == BLANK or (
            last in ("lifetime", "other") and not self.text(self.line_count).rstrip().endswith(("forever", "sec"))
        )

    def may_be_cut(self, line: int) -> bool:
        """Whether the address of a line may be the beginning of another one: nothing ends it."""
        return self.json is None and line == self.line_count and not self.final_newline

    @property
    def line_count(self) -> int:
        """How many lines the input has."""
        return len(self.shapes) - 1 if self.json is None else len(self.json.splitlines())

    def interface(self, name: str) -> Interface | None:
        """The interface of a name; None where there is none."""
        return next((interface for interface in self.interfaces if interface.name == name), None)

    def addresses(self) -> Iterator[tuple[Interface, InterfaceAddress]]:
        """Every address with its interface."""
        for interface in self.interfaces:
            for address in interface.addresses:
                yield interface, address

    def render(self) -> str:
        """The whole input, byte for byte."""
        return self.json if self.json is not None else Lines.render(self)

    def text(self, line: int) -> str:
        """A line as the input has it, without its line end; of JSON, which address or interface is meant is not in it."""
        if self.json is not None:
            return "\n".join(self.json.split("\n")[line - 1 : line]).rstrip("\r")
        return Lines.text(self, line)
