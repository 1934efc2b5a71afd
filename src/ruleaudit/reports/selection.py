"""Which findings of a report are shown: by code, by service, by namespace. What is left out is counted, never forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ruleaudit.catalogue import CATALOGUE, GROUPS, RESERVED
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ruleaudit.findings import Finding, Report, Severity

__all__ = ["Hidden", "Selection", "UnknownNameError", "code_prefix"]


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a selection left out: how many findings of each severity and code, and by which options."""

    severities: Mapping[Severity, int]
    codes: Mapping[str, int]
    options: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many findings are not shown."""
        return sum(self.codes.values())


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for. `select` and `ignore`: prefixes of codes ("RA2"); `services`: "namespace/name"; `namespaces`: names.

    An empty tuple asks for everything (`ignore`: leaves nothing out).
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()

    def apply(self, report: Report) -> tuple[Report, Hidden]:
        """The report with the findings that are asked for, and what was left out.

        Services and namespaces narrow the view to findings about them. Findings about the node as a whole stay, as they concern
        every Service, and so does the finding from which a shown one follows. Raises UnknownNameError for a Service or namespace
        that neither the objects nor a finding name.
        """
        self._check_names(report)
        kept = [finding for finding in report.findings if self._wants_code(finding.code) and self._wants_place(finding)]
        if self.services or self.namespaces:
            kept = self._with_causes(report.findings, kept)
        shown = {id(finding) for finding in kept}
        left = [finding for finding in report.findings if id(finding) not in shown]
        hidden = Hidden(
            Counter(finding.severity for finding in left),
            dict(sorted(Counter(one.code for one in left).items())),
            self._options(),
        )
        return replace(report, findings=tuple(kept)), hidden

    def apply_to_all(self, reports: Sequence[Report]) -> tuple[list[Report], Hidden]:
        """The reports with the findings that are asked for, and what was left out of all of them. Raises UnknownNameError as `apply`."""
        done = [self.apply(report) for report in reports]
        severities: Counter[Severity] = Counter()
        codes: Counter[str] = Counter()
        for _, hidden in done:
            severities.update(hidden.severities)
            codes.update(hidden.codes)
        return [shown for shown, _ in done], Hidden(severities, dict(sorted(codes.items())), self._options())

    def _options(self) -> tuple[str, ...]:
        given = (
            ("--select", self.select),
            ("--ignore", self.ignore),
            ("--service", self.services),
            ("--namespace", self.namespaces),
        )
        return tuple(option for option, values in given if values)

    def _wants_code(self, code: str) -> bool:
        return (not self.select or code.startswith(self.select)) and not (self.ignore and code.startswith(self.ignore))

    def _wants_place(self, finding: Finding) -> bool:
        if finding.service is None or not (self.services or self.namespaces):
            return True
        return finding.service in self.services or finding.service.partition("/")[0] in self.namespaces

    def _with_causes(self, findings: Sequence[Finding], kept: Sequence[Finding]) -> list[Finding]:
        """`kept` and what it follows from, in the order of `findings`."""
        wanted = {id(finding) for finding in kept}
        causes = {finding.cause for finding in kept if finding.cause is not None}
        by_fingerprint = {finding.fingerprint: finding for finding in findings if self._wants_code(finding.code)}
        while causes:
            found = [by_fingerprint[cause] for cause in causes if cause in by_fingerprint]
            new = [finding for finding in found if id(finding) not in wanted]
            wanted.update(id(finding) for finding in new)
            causes = {finding.cause for finding in new if finding.cause is not None}
        return [finding for finding in findings if id(finding) in wanted]

    def _check_names(self, report: Report) -> None:
        if not report.service_names:
            return  # nothing says which Services there are
        services = {*report.service_names, *(finding.service for finding in report.findings if finding.service is not None)}
        namespaces = {service.partition("/")[0] for service in services}
        for service in self.services:
            if service not in services:
                raise UnknownNameError(
                    f"there is no Service {service!r} in the inputs" + did_you_mean(near_matches(service, services))
                )
        for namespace in self.namespaces:
            if namespace not in namespaces:
                raise UnknownNameError(
                    f"no Service of the inputs is in a namespace {namespace!r}"
                    + did_you_mean(near_matches(namespace, namespaces))
                )


def code_prefix(text: str) -> str:
    """The code, or beginning of codes, that `text` names: "ra2", "RA206", or a name such as "stale-endpoint".

    Raises UnknownNameError when no code begins so.
    """
    wanted = text.strip()
    for code, entry in CATALOGUE.items():
        if wanted.lower() == entry.name:
            return code
    prefix = wanted.upper()
    if len(prefix) > 1 and any(code.startswith(prefix) for code in CATALOGUE):
        return prefix
    if prefix[:3] in RESERVED:
        raise UnknownNameError(f"{prefix} is reserved: no release gives codes of {prefix[:3]} yet")
    names = {entry.name: f"{code} {entry.name}" for code, entry in CATALOGUE.items()}
    near = [names[name] for name in get_close_matches(wanted.lower(), names, 3, 0.5)]
    if not near:
        near = get_close_matches(prefix, [*CATALOGUE, *GROUPS], 3, 0.6)
    raise UnknownNameError(f"there is no code {text!r}{did_you_mean(near)} (`ruleaudit codes` lists them)")
