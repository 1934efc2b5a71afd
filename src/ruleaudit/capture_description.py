"""What `meta.json` of a capture says of the capture itself: what could not be collected, and what was read and is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.documents import plain_documents

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NotCollected", "not_collected"]


class NotCollected(NamedTuple):
    """Something that is not in a capture: `what` it is, `why`, and a `hint` at what would change that."""

    what: str
    why: str
    hint: str


def not_collected(data: bytes, path: str) -> Iterator[NotCollected]:
    """What `collect` could not take, as it wrote it down. Raises InputError where `data` is neither JSON nor YAML."""
    for document in plain_documents(data, path):
        entries = document.get("not_collected") if isinstance(document, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("why"), str):
                yield NotCollected(str(entry.get("what")), entry["why"], str(entry.get("hint") or "collect it again"))
