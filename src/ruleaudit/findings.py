"""Findings and reports: the values that every check produces and every report prints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ruleaudit.forwarding import Frontend

__all__ = [
    "Certainty",
    "Finding",
    "InputSummary",
    "Location",
    "ObjectReference",
    "ProxySummary",
    "Report",
    "Severity",
    "Suppressed",
    "Traits",
]


class Severity(str, Enum):
    """How bad a finding is. Ordered by `rank`, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for error, 1 for warning, 2 for info."""
        return ("error", "warning", "info").index(self.value)


class Certainty(str, Enum):
    """Whether a conclusion is proven or rests on something that is not modelled or not given."""

    DEFINITE = "definite"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True)
class Location:
    """One line of an input: the input's name as the user gave it, the 1-based line number (0: the whole input), the line's text."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """A Kubernetes object that a finding contradicts or concerns. `namespace` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, risk or gap, with what proves it.

    `code` and `name` are those of the catalogue; `service` is "namespace/name" or None; `port` is the port's name or None;
    `endpoint` is "address:port" or None; `expected` and `observed` are short texts that name the addresses concerned; `cause` is the
    fingerprint of the finding that this one follows from.
    """

    code: str
    name: str
    severity: Severity
    message: str
    certainty: Certainty = Certainty.DEFINITE
    node: str | None = None
    service: str | None = None
    port: str | None = None
    frontend: Frontend | None = None
    endpoint: str | None = None
    expected: str = ""
    observed: str = ""
    hint: str = ""
    cause: str | None = None
    locations: tuple[Location, ...] = ()
    objects: tuple[ObjectReference, ...] = ()
    subject: str = ""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stay the same from dump to dump.

        Taken of code, service, port, frontend, endpoint and `subject` (what a finding without a service is about: a chain, a hook);
        not of the node, line numbers, counters or messages.
        """
        frontend = self.frontend
        where = (
            ""
            if frontend is None
            else f"{frontend.kind.value} {frontend.address} {frontend.port} {frontend.protocol} {frontend.family}"
        )
        parts = (self.code, self.service or "", self.port or "", where, self.endpoint or "", self.subject)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that does not count: ignored by the configuration, known from a baseline, or expected of a fixture.

    `reason` is why, "" where none is given; `place` says where that stands: a file, with the line where it has one.
    """

    finding: Finding
    by: Literal["ignore", "baseline", "expected"]
    reason: str
    place: str


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What became of one input. `kind` as `sources` names it; `family` 4, 6 or None; `lines` counted; `used` False when passed over."""

    path: str
    kind: str
    family: int | None
    lines: int
    used: bool


@dataclass(frozen=True, slots=True)
class ProxySummary:
    """What is known of the kube-proxy that wrote the rules, and which of it was inferred from the rules (`inferred`: field names)."""

    mode: str | None = None
    layout: str | None = None
    cluster_cidr: tuple[str, ...] = ()
    local_detection: str | None = None
    masquerade_mark: str | None = None
    nodeport_addresses: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Traits:
    """What a node can be told from its peers by, beside what its report says.

    `release`: kube-proxy's, where the inputs name it; `backend`: that of the tables with its rules; `others`: the software whose chains are
    there, too, by the beginnings of their names. `programmed`: frontends and service chains, with how many rules each has. `called`: what
    the inputs call it, be it among the objects or not.
    """

    release: str | None = None
    backend: str | None = None
    others: str | None = None
    programmed: tuple[tuple[str, int], ...] = ()
    called: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one audit: findings sorted by severity, code, service; and what they rest on.

    `service_names`: "namespace/name" of every Service that the objects hold; empty when there are none, or no objects. `suppressed`: what was
    found and does not count; `findings` are without it. `traits`: None where no other node is audited.
    """

    node: str | None
    inputs: tuple[InputSummary, ...]
    proxy: ProxySummary
    services: int
    frontends: int
    endpoints: int
    findings: tuple[Finding, ...] = field(default=())
    service_names: tuple[str, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    traits: Traits | None = field(default=None, compare=False)
