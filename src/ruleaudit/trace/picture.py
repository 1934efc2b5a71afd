"""A trace as a picture: the languages of Graphviz (dot) and of Mermaid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.checks.judgement import percent
from ruleaudit.reports.printable import printable
from ruleaudit.trace.values import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.trace.values import Step, Trace

__all__ = ["dot_trace", "mermaid_trace"]

_SHAPES = {StepKind.END: "octagon", StepKind.BACKEND: "box", StepKind.DNS: "note", StepKind.INGRESS: "component"}


class _Node(NamedTuple):
    """A box of the picture: `above` the number of the one that leads to it, None for the client."""

    number: int
    above: int | None
    label: tuple[str, ...]
    edge: str
    kind: StepKind | None
    warns: bool


def _nodes(trace: Trace) -> Iterator[_Node]:
    yield _Node(0, None, (f"from {trace.client.text}", *trace.client.addresses), "", None, warns=False)
    count = 0

    def below(step: Step, above: int, share: float) -> Iterator[_Node]:
        nonlocal count
        count += 1
        number = count
        part = percent(step.share / share) if share and step.share < share * 0.9995 else ""
        deciding = [f"{one.table} {one.chain} ({one.file}:{one.line})" for one in step.rules]
        codes = [one.code for one in step.remarks if one.code]
        label = (_bare(step.text), *deciding, *dict.fromkeys(codes))
        yield _Node(number, above, label, part, step.kind, warns=bool(step.remarks))
        for one in step.steps:
            yield from below(one, number, step.share)

    for one in trace.steps:
        yield from below(one, 0, 1.0)


def _bare(text: str) -> str:
    """A step's text without the share that the edge shows."""
    return re.sub(r"^[0-9.]+% ", "", text)


def dot_trace(trace: Trace) -> str:
    """The trace as a digraph of Graphviz."""
    lines = ["digraph trace {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];', '  edge [fontname="sans-serif"];']
    lines.append(f"  label={_quoted(trace.answer)};")
    for one in _nodes(trace):
        shape = f", shape={_SHAPES[one.kind]}" if one.kind in _SHAPES else ", shape=oval" if one.kind is None else ""
        color = ", color=red" if one.warns else ""
        lines.append(f"  n{one.number} [label={_quoted(*one.label)}{shape}{color}];")
        if one.above is not None:
            edge = f" [label={_quoted(one.edge)}]" if one.edge else ""
            lines.append(f"  n{one.above} -> n{one.number}{edge};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(*texts: str) -> str:
    # Backslashes first: an escape of Graphviz must be of our making.
    return '"' + "\\n".join(printable(one).replace("\\", "\\\\").replace('"', '\\"') for one in texts) + '"'


def mermaid_trace(trace: Trace) -> str:
    """The trace as a flowchart of Mermaid, as GitHub and GitLab draw it in a Markdown block."""
    lines = ["flowchart LR"]
    for one in _nodes(trace):
        label = "<br/>".join(_mermaid(text) for text in one.label)
        left, right = ("([", "])") if one.kind is None else ("{{", "}}") if one.kind is StepKind.END else ("[", "]")
        lines.append(f'  n{one.number}{left}"{label}"{right}')
        if one.above is not None:
            lines.append(f"  n{one.above} -->{f'|{chr(34)}{_mermaid(one.edge)}{chr(34)}|' if one.edge else ''} n{one.number}")
        if one.warns:
            lines.append(f"  style n{one.number} stroke:#c00")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Text as Mermaid takes it inside of quotes: its own marks as entities."""
    return "".join(one if one.isalnum() or one in " .,:;/()-_+=*%'" else f"#{ord(one)};" for one in printable(text))
