"""A trace as a picture: the languages of Graphviz (dot) and of Mermaid."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.checks.judgement import percent
from ruleaudit.findings import Certainty
from ruleaudit.reports.printable import printable
from ruleaudit.trace.values import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.trace.values import Step, Trace

__all__ = ["dot_trace", "mermaid_trace"]

_SHAPES: Final = {
    None: "oval",
    StepKind.END: "octagon",
    StepKind.ROUTED_ON: "cds",
    StepKind.DNS: "note",
    StepKind.INGRESS: "component",
}
"""By kind of step, None for the client; boxes stand for the others."""
_BRACKETS: Final = {None: ("([", "])"), StepKind.END: ("{{", "}}"), StepKind.ROUTED_ON: (">", "]")}

_WIDTH: Final = 50
"""Texts of boxes are broken into lines of so many characters."""


class _Node(NamedTuple):
    """A box of the picture: `above` the number of the one that leads to it, None for the client; `label` its lines."""

    number: int
    above: int | None
    label: tuple[str, ...]
    edge: str
    kind: StepKind | None
    warns: bool
    possible: bool


def _nodes(trace: Trace) -> Iterator[_Node]:
    client = trace.client
    addresses = client.addresses if client.kind != "address" else ()
    yield _Node(0, None, (f"from {client.text}", *addresses), "", None, warns=False, possible=False)
    count = 0

    def below(step: Step, above: int, share: float, file: str) -> Iterator[_Node]:
        nonlocal count
        count += 1
        number = count
        part = percent(step.share / share) if share and step.share < share * 0.9995 else ""
        if step.kind is StepKind.NODE_RULES:
            file = _file_of(step)
        label = tuple(_label(step, file))
        possible = step.certainty is Certainty.POSSIBLE
        yield _Node(number, above, label, part, step.kind, warns=bool(step.remarks), possible=possible)
        for one in step.steps:
            yield from below(one, number, step.share, file)

    for one in trace.steps:
        yield from below(one, 0, 1.0, "")


def _label(step: Step, file: str) -> Iterator[str]:
    """The lines of a step's box. `file`: the one whose lines are given by number alone, which the box of the node names."""
    doubt = " [possible]" if step.certainty is Certainty.POSSIBLE else ""
    yield from _wrapped(f"{_bare(step.text)}{doubt}")
    if step.kind is StepKind.NODE_RULES and file:
        yield f"lines of {file}"
    for rule in step.rules:
        where = str(rule.line) if rule.file == file else f"{rule.file}:{rule.line}"
        kind = " (policy)" if rule.policy else " (other software's)" if rule.foreign else ""
        yield " ".join(filter(None, (rule.table, rule.chain, where))) + kind
    yield from _wrapped(_client_seen(step))
    for remark in dict.fromkeys(one.code or one.text for one in step.remarks):
        yield from _wrapped(f"! {remark}")


def _file_of(step: Step) -> str:
    """The file that the lines of a node's step, and of those that follow it up to the next node, are of; "" without lines."""
    if step.rules:
        return step.rules[0].file
    behind = (_file_of(one) for one in step.steps if one.kind is not StepKind.NODE_RULES)
    return next(filter(None, behind), "")


def _client_seen(step: Step) -> str:
    """Whom an endpoint sees as its client, and whether masquerade or another change of the source made it so; "" of any other step."""
    if step.kind is not StepKind.BACKEND or step.after is None:
        return ""
    seen = step.after.source or step.after.source_text
    came = (step.before.source or step.before.source_text) if step.before is not None else seen
    # Where it is not decided, the text begins with the source that it came with.
    changed = "" if f"{seen} ".startswith(f"{came} ") else "masqueraded: "
    return f"{changed}sees {seen} as the client"


def _wrapped(text: str, width: int = _WIDTH) -> list[str]:
    """A text in lines; names, in which hyphens are, stay whole."""
    return wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _bare(text: str) -> str:
    """A step's text without the share that the edge shows."""
    return re.sub(r"^[0-9.]+% ", "", text)


def dot_trace(trace: Trace) -> str:
    """The trace as a digraph of Graphviz."""
    lines = ["digraph trace {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];', '  edge [fontname="sans-serif"];']
    lines.append(f"  label={_quoted(*_wrapped(trace.answer, 2 * _WIDTH))};")
    for one in _nodes(trace):
        shape = f", shape={_SHAPES[one.kind]}" if one.kind in _SHAPES else ""
        color = ", color=red" if one.warns else ""
        style = ", style=dashed" if one.possible else ""
        lines.append(f"  n{one.number} [label={_quoted(*one.label)}{shape}{color}{style}];")
        if one.above is not None:
            edge = f" [label={_quoted(one.edge)}]" if one.edge else ""
            lines.append(f"  n{one.above} -> n{one.number}{edge};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(*texts: str) -> str:
    """Texts as the lines of a label, which begin at its left where there are several."""
    # Backslashes first: an escape of Graphviz must be of our making.
    lines = [printable(one).replace("\\", "\\\\").replace('"', '\\"') for one in texts]
    return '"' + (lines[0] if len(lines) == 1 else "".join(f"{one}\\l" for one in lines)) + '"'


def mermaid_trace(trace: Trace) -> str:
    """The trace as a flowchart of Mermaid, as GitHub and GitLab draw it in a Markdown block."""
    lines = ["flowchart LR"]
    for one in _nodes(trace):
        label = "<br/>".join(_mermaid(text) for text in one.label)
        left, right = _BRACKETS.get(one.kind, ("[", "]"))
        lines.append(f'  n{one.number}{left}"{label}"{right}')
        if one.above is not None:
            lines.append(f"  n{one.above} -->{f'|{chr(34)}{_mermaid(one.edge)}{chr(34)}|' if one.edge else ''} n{one.number}")
        style = [*(["stroke:#c00"] if one.warns else []), *(["stroke-dasharray:5"] if one.possible else [])]
        if style:
            lines.append(f"  style n{one.number} {','.join(style)}")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Text as Mermaid takes it inside of quotes: its own marks as entities."""
    return "".join(one if one.isalnum() or one in " .,:;/()-_+=*%'" else f"#{ord(one)};" for one in printable(text))
