"""The way of a connection, drawn as SVG: client, frontend, what leads on, the endpoints, and where it goes wrong.

A drawing is a ladder of boxes, as wide as a telephone, so that it is as readable there as beside the text on a large screen. It says
nothing in colour alone. Only presentation attributes and classes are used: a page with a strict Content-Security-Policy shows it.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ruleaudit.reports.printable import printable, shortened
from ruleaudit.reports.way import way

if TYPE_CHECKING:
    from ruleaudit.findings import Finding
    from ruleaudit.reports.way import Box

__all__ = ["drawing"]

_WIDTH = 340
_CHARACTER = 7.3
_SMALL_CHARACTER = 6.4
"""Widths of a character of the title and of the note, in the fonts of page.css."""
_KINDS = {"": "", "note": ' class="note"', "mark": ' class="mark" text-anchor="end"'}


def drawing(finding: Finding) -> str:
    """The SVG element of a finding's way; "" where it has none to show."""
    found = way(finding)
    if found is None:
        return ""
    stations, ends = found.stations, found.ends
    parts: list[str] = []
    top = 1
    for number, box in enumerate(stations):
        if number:
            line = "way" if box.reached else "way unseen"
            parts.append(f'<path class="{line}" d="M24 {top}v14"/><path class="way" d="M20 {top + 9}l4 5l4 -5"/>')
            top += 16
        text, height = _box(box, 1, top)
        parts.append(text)
        top += height
    for number, box in enumerate(ends, 1):
        middle = top + 18
        line = "way lost" if box.state == "missing" else "way"
        parts.append(f'<path class="{line}" d="M24 {top}V{middle}H38"/><path class="way" d="M33 {middle - 4}l5 4l-5 4"/>')
        text, height = _box(box, 40, top + 5)
        parts.append(text)
        top += height + 5
        if number < len(ends):
            parts.append(f'<path class="way" d="M24 {middle}V{top}"/>')
    label = _text(", then ".join(_spoken(box) for box in (*stations, *ends)))
    return (
        f'<svg class="drawing" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {top + 2}" width="{_WIDTH}" height="{top + 2}">'
        f"{''.join(parts)}</svg>"
    )


def _box(box: Box, left: int, top: int) -> tuple[str, int]:
    """A box that reaches to the right edge, and its height: title and mark share a line where there is room for both."""
    width = _WIDTH - 1 - left
    room = int((width - 14) / _CHARACTER)
    mark = shortened(box.mark, room)
    beside = len(box.title) + len(mark) + 2 <= room
    texts = [("", left + 8, top + 17, shortened(box.title, room))]
    bottom = top + 17
    if box.note:
        bottom += 15
        texts.append(("note", left + 8, bottom, shortened(box.note, int((width - 14) / _SMALL_CHARACTER))))
    if mark:
        bottom += 0 if beside else 15
        texts.append(("mark", left + width - 6, top + 17 if beside else bottom, mark))
    drawn = "".join(f'<text{_KINDS[kind]} x="{x}" y="{y}">{_text(text)}</text>' for kind, x, y, text in texts)
    height = bottom - top + 9
    return f'<g class="{box.state}"><rect x="{left}" y="{top}" width="{width}" height="{height}" rx="4"/>{drawn}</g>', height


def _text(text: str) -> str:
    return html.escape(printable(text))


def _spoken(box: Box) -> str:
    return f"{box.title} ({box.mark.removeprefix('✕ ')})" if box.mark else box.title
