"""Text made safe for HTML: escaped, and printable, so that it can neither reverse nor hide what stands beside it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ruleaudit.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["prose", "safe", "table"]


def safe(text: str) -> str:
    """Text of an input, for an element or an attribute."""
    return html.escape(printable(text))


def prose(text: str) -> str:
    """Text that may hold code between backticks, as hints do."""
    spans = text.split("`")
    if len(spans) % 2 == 0:
        return safe(text)
    return "".join(f"<code>{safe(span)}</code>" if number % 2 else safe(span) for number, span in enumerate(spans))


def table(label: str, columns: Sequence[str], rows: Sequence[str], kind: str = "") -> Iterator[str]:
    """A table that scrolls where it is too large. `label` is its text for a screen reader, `columns` and `rows` are markup.

    A column whose name begins with "#" holds numbers; `kind` is a class.
    """
    head = "".join(
        f'<th scope="col" class="number">{name[1:]}</th>' if name.startswith("#") else f'<th scope="col">{name}</th>'
        for name in columns
    )
    yield f'<div class="scroll{kind and " " + kind}" tabindex="0" role="region" aria-label="{label}"><table>'
    yield f"<thead><tr>{head}</tr></thead><tbody>"
    yield from rows
    yield "</tbody></table></div>"
