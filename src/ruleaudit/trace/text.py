"""A trace for people: a tree that reads from the client to the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ruleaudit.findings import Certainty
from ruleaudit.reports.printable import shortened
from ruleaudit.reports.text import Line, Piece
from ruleaudit.trace.values import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.trace.values import RuleUse, Step, Trace

__all__ = ["trace_lines"]

_WIDTH: Final = 400
"""Longer lines than kube-proxy writes are cut."""
_PROOFS: Final = 4
_MANY: Final = 8
"""So many branches of one step that have nothing to be said of are shown: JSON has them all."""


def trace_lines(trace: Trace) -> Iterator[Line]:
    """The tree, and the answer in one line at its end."""
    client = trace.client
    parts = [", ".join(client.addresses)] if client.addresses and client.kind != "address" else []
    if client.node is not None and client.kind != "address":
        parts.append(f"node {client.node}")
    where = f" ({', '.join(parts)})" if parts else ""
    yield Line(0, "", (Piece(f"from {client.text}", "bold"), Piece(where), Piece(f" to {trace.target.text}", "bold")))
    for note in trace.notes:
        yield Line(0, "", (Piece(f"note: {note}", "dim"),))
    yield from _steps(trace.steps, "", "")
    style = "bold green" if trace.reached else "bold red"
    lead, colon, rest = trace.answer.partition(":")
    yield Line(0, "", (Piece(lead, style), Piece(f"{colon}{rest}")))


def _steps(steps: Sequence[Step], guide: str, file: str) -> Iterator[Line]:
    plain = [one for one in steps if one.plain]
    left_out = {id(one) for one in plain[_MANY:]} if len(plain) > _MANY + 1 else set()
    shown = [one for one in steps if id(one) not in left_out]
    rest = len(left_out)
    for number, step in enumerate(shown):
        last = number == len(shown) - 1 and not rest
        yield from _step(step, guide, file, last=last)
    if rest:
        yield Line(0, f"{guide}└─ ", (Piece(f"and {rest} more to ready endpoints; --format json gives them all", "dim"),))


def _step(step: Step, guide: str, file: str, *, last: bool) -> Iterator[Line]:
    """A step and what follows it. `file`: the one whose lines are given by number alone; the step of a node names its own."""
    doubt = "" if step.certainty is Certainty.DEFINITE else " [possible]"
    style = "bold yellow" if step.kind in (StepKind.END, StepKind.ROUTED_ON) else "bold"
    pieces = [Piece(f"{step.text}{doubt}", style)]
    if step.kind is StepKind.NODE_RULES:
        file = next((rule.file for one in _here(step) for rule in one.rules), "")
        if file:
            pieces.append(Piece(f", lines of {file}", "dim"))
    yield Line(0, f"{guide}{'└─ ' if last else '├─ '}", tuple(pieces))
    named = {(rule.file, rule.line) for one in _here(step) for rule in one.rules} if step.remarks else set()
    inner = guide + ("   " if last else "│  ")
    below = f"{inner}│  " if step.steps else f"{inner}   "
    for remark in step.remarks:
        yield Line(0, f"{below}! ", (Piece(f"{remark.code} " if remark.code else "", "bold red"), Piece(remark.text, "red")))
        for place in [one for one in remark.places if one.line and (one.file, one.line) not in named][:_PROOFS]:
            where = str(place.line) if place.file == file else f"{place.file}:{place.line}"
            yield Line(0, f"{below}  ", (Piece(where, "cyan"), Piece(f": {shortened(place.text, _WIDTH)}")))
    for rule in step.rules:
        yield Line(0, below, tuple(_rule(rule, file)))
    for note in step.notes:
        yield Line(0, below, (Piece(note, "dim"),))
    yield from _steps(step.steps, inner, file)


def _here(step: Step) -> Iterator[Step]:
    """The step and those that follow it up to the next node."""
    yield step
    for one in step.steps:
        if one.kind is not StepKind.NODE_RULES:
            yield from _here(one)


def _rule(rule: RuleUse, file: str) -> Iterator[Piece]:
    where = str(rule.line) if rule.file == file else f"{rule.file}:{rule.line}"
    yield Piece(f"{rule.table} {where}", "cyan")
    kind = " (policy)" if rule.policy else " (other software's)" if rule.foreign else ""
    yield Piece(f"{kind}: {shortened(rule.text, _WIDTH)}")
