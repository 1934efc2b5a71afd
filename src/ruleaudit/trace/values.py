"""A followed connection as values: the steps from the client to the pod, and how it can end. Renderers need nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.findings import Certainty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.findings import Finding, Location
    from ruleaudit.forwarding import Forwarding, Frontend, Vantage, Verdict

__all__ = ["Choice", "Connection", "Endpoint", "Expected", "Outcome", "Party", "Remark", "RuleUse", "Step", "StepKind", "Trace"]

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RuleUse:
    """A line that decided: where it stands and what it says. In IPVS mode virtual and real servers are of the table "ipvs", chain "" or
    the virtual server's name. `policy`: it is a chain's declaration, whose policy decided. `foreign`: other software wrote it.
    """

    file: str
    line: int
    table: str
    chain: str
    text: str
    foreign: bool = False
    policy: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses as one place sees them. `source` None: an address that is not known, of which `source_text` says what is known."""

    source: str | None
    destination: str
    port: int
    protocol: str
    source_text: str = ""

    def __str__(self) -> str:
        host = f"[{self.destination}]" if ":" in self.destination else self.destination
        return f"{self.source or self.source_text} -> {host}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is worth knowing at a step. With a `code` it is where the objects ask for something else, or contradict themselves."""

    text: str
    code: str | None = None
    places: tuple[Location, ...] = ()
    """The lines that prove it."""


class StepKind(str, Enum):
    """What kind of place a step is."""

    DNS = "dns"
    LOAD_BALANCER = "load-balancer"
    NODE_RULES = "node-rules"
    BACKEND = "backend"
    INGRESS = "ingress"
    CONTROLLER = "controller"
    WAY = "way"
    """One of several ways on, all of which are shown."""
    ROUTED_ON = "routed-on"
    """Where it leaves a node with the destination that was asked for, for somewhere else."""
    END = "end"
    """Where a connection ends without a pod: refused, dropped, answered by nobody."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `steps` are those that follow it: several where the way parts.

    `share` (0 to 1): how much of the connection takes it; steps of kind "way" stand beside each other, each for all of it. `endpoint`: who
    gets the connection there. `before` and `after`: the addresses with which it comes and goes, where they are known. `rules` in the order
    in which they decide. `reached`: a ready endpoint gets the connection there, for certain.
    """

    kind: StepKind
    text: str
    node: str | None = None
    share: float = 1.0
    certainty: Certainty = Certainty.DEFINITE
    before: Connection | None = None
    after: Connection | None = None
    rules: tuple[RuleUse, ...] = ()
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    endpoint: Endpoint | None = None
    reached: bool = False
    steps: tuple[Step, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether there is nothing to be said of it but that the connection reaches a ready endpoint."""
        return self.reached and not self.remarks and all(one.continues for one in self.steps)

    @property
    def continues(self) -> bool:
        """Whether nothing is to be said of it, nor of any of its ends."""
        return bool(self.steps) and not self.remarks and all(one.plain for one in self.steps)

    def all(self) -> Iterator[Step]:
        """The step itself and all that follow."""
        yield self
        for one in self.steps:
            yield from one.all()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is at an address. `pod` (namespace, name) and `node` None: not known. `ready` None: nothing says so."""

    address: str
    port: int
    pod: Key | None = None
    node: str | None = None
    ready: bool | None = None
    terminating: bool = False
    local: bool = False


class Choice(NamedTuple):
    """One of `of` ways, between which somebody chooses of whom the inputs say nothing. `label`: the way, in words."""

    label: str
    of: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way in which the connection can end. The shares of all outcomes add up to 1; that of a possible one is a placeholder (S5).

    `verdict` None: no node's rules decided it; `ending` says what becomes of it where the verdict does not. `destination` (address, port,
    protocol): where it has been sent, None where nobody gets it. `way`: which of several ways that are all shown, choice by choice from the
    client on. `reached`: a ready endpoint, or a ready pod that was asked for itself, gets it.
    """

    verdict: Verdict | None
    share: float
    destination: tuple[str, int, str] | None = None
    endpoint: Endpoint | None = None
    masquerade: bool | None = None
    certainty: Certainty = Certainty.DEFINITE
    rules: tuple[RuleUse, ...] = ()
    source: Connection | None = None
    node: str | None = None
    reached: bool = False
    way: tuple[Choice, ...] = ()
    ending: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the objects ask for at one place of the way. `same`: the rules do it. `forwarding` None: the objects leave it open."""

    node: str | None
    vantage: Vantage
    frontend: Frontend
    service: str
    port: str
    forwarding: Forwarding | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Party:
    """A client or a target as it was given, and what was found to be meant. `kind`: "pod", "node", "address", "name", "url"."""

    text: str
    kind: str
    addresses: tuple[str, ...] = ()
    pod: Key | None = None
    node: str | None = None
    service: Key | None = None
    port: int | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """A followed connection. `answer`: it in one line. `findings`: what the objects and rules part in, as `check` says it. `not_given`: the
    nodes at which the connection may come in, or set out, and whose dumps were not given: nothing is known of their rules. `conditions`: what
    the answer rests on and the objects do not show, as clauses ("something in front leads port 80 to port 30800").
    """

    node: str | None
    client: Party
    target: Party
    steps: tuple[Step, ...]
    outcomes: tuple[Outcome, ...]
    expected: tuple[Expected, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    not_given: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    answer: str = field(default="")

    @property
    def reached(self) -> bool:
        """Whether every connection reaches a ready endpoint, for certain, as far as nodes were given."""
        return bool(self.outcomes) and all(one.reached and one.certainty is Certainty.DEFINITE for one in self.outcomes)

    def all_steps(self) -> Iterator[Step]:
        """Every step, from the client on."""
        for one in self.steps:
            yield from one.all()
