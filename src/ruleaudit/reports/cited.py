"""What the lines that a finding cites say, each by itself: rules with the chain they lead to, virtual servers with their real ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ruleaudit.reports.evidence import telling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.findings import Finding, Location

__all__ = ["Cited", "RealServer", "Rule", "VirtualServer", "cited", "names", "plain_rule"]

_RULE = re.compile(r"-A (\S+) (.*)", re.DOTALL)
_TARGET = re.compile(r"(?:^| )(?:-j|-g) (\S+)")
_DESTINATION = re.compile(r"--to-destination (\S+)")
_COMMENT = re.compile(r'(?:-m comment )?--comment (?:"(?:[^"\\]|\\.)*"|\S+) ?')
_HEADER = re.compile(r":(\S+) \S+ \[\d+:\d+\]")
_SERVER = re.compile(r"(?:TCP|UDP|SCTP) +(\S+:\d+) +(.*\S)\s*")
_SAVED_SERVER = re.compile(r"-A --?\S+ (\S+:\d+) (?:-s|--scheduler) (.*\S)\s*")
_REAL = re.compile(r" +-> (\S+:\d+) +(\S+) +(\d+)\b.*")
_SAVED_REAL = re.compile(r"-a --?\S+ (\S+:\d+) (?:-r|--real-server) (\S+:\d+)(.*)")
_WEIGHT = re.compile(r"(?:-w|--weight) (\d+)")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of iptables-save: its chain, what it jumps to, where it stands; `order`: its place among the finding's lines.

    `destination`: the endpoint that it translates to, None where it does not.
    """

    chain: str
    target: str | None
    file: str
    line: int
    text: str
    order: int
    destination: str | None


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """A virtual server of IPVS: "10.96.1.1:80", with the scheduler and its flags."""

    address: str
    scheduler: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class RealServer:
    """A real server: of the virtual server at `of`; "" where the line does not say of which, and none above it is cited."""

    address: str
    weight: str
    file: str
    line: int
    of: str


@dataclass(slots=True)
class Cited:
    """The lines of a finding by what they are, each kind in the order of the lines; of the rules those first that tell most.

    `headers`: the lines on which iptables-save declares chains, by chain: what is missing in a chain is cited by them.
    `last`: the place of the last line among all.
    """

    rules: list[Rule] = field(default_factory=list)
    headers: dict[str, int] = field(default_factory=dict)
    servers: list[VirtualServer] = field(default_factory=list)
    real: list[RealServer] = field(default_factory=list)
    last: int = 0

    @property
    def in_order(self) -> list[Rule]:
        """The rules in the order in which the finding cites them, which is that of a packet."""
        return sorted(self.rules, key=lambda rule: rule.order)


def cited(finding: Finding) -> Cited:
    """What the finding cites; lines that are nothing of this are left out."""
    found = Cited(last=len(finding.locations) - 1)
    order = {id(location): number for number, location in enumerate(finding.locations)}
    for location in telling(finding):
        if rule := _RULE.match(location.text):
            target, destination = _TARGET.search(rule[2]), _DESTINATION.search(rule[2])
            found.rules.append(
                Rule(
                    rule[1], None if target is None else target[1], location.file, location.line, rule[2], order[id(location)],
                    None if destination is None else destination[1],
                )
            )  # fmt: skip
    # A real server stands below its virtual server.
    for location in sorted(finding.locations, key=lambda one: (one.file, one.line)):
        _virtual(location, found)
    place = {(location.file, location.line): number for number, location in enumerate(finding.locations)}
    found.servers.sort(key=lambda one: place[one.file, one.line])
    found.real.sort(key=lambda one: place[one.file, one.line])
    return found


def _virtual(location: Location, found: Cited) -> None:
    """Add a line of a header, a virtual server or a real server to `found`; the lines of a file come from its top to its end."""
    text, file, line = location.text, location.file, location.line
    if header := _HEADER.match(text):
        found.headers[header[1]] = line
    elif server := _SERVER.fullmatch(text) or _SAVED_SERVER.fullmatch(text):
        found.servers.append(VirtualServer(server[1], server[2], file, line))
    elif real := _REAL.fullmatch(text):
        above = found.servers[-1] if found.servers and found.servers[-1].file == file else None
        found.real.append(RealServer(real[1], real[3], file, line, above.address if above else ""))
    elif real := _SAVED_REAL.fullmatch(text):
        weight = _WEIGHT.search(real[3])
        found.real.append(RealServer(real[2], weight[1] if weight else "1", file, line, real[1]))


def names(text: str, endpoint: str | None) -> bool:
    """Whether a line names the endpoint, and not one whose address or port only begins or ends alike."""
    return endpoint is not None and re.search(rf"(?<![\w.:]){re.escape(endpoint)}(?!\d)", text) is not None


def plain_rule(rules: Sequence[Rule]) -> str:
    """Rules of one chain as a note: the line numbers, and of a single rule what it says beside its comment."""
    lines = ", ".join(str(line) for line in sorted({rule.line for rule in rules}))
    return f"line {lines}: {_COMMENT.sub('', rules[0].text)}" if len(rules) == 1 else f"line {lines}"
