"""Near matches: what somebody may have meant by a name that is not there."""

from __future__ import annotations

from bisect import bisect_left
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from ruleaudit.errors import RuleauditError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["UnknownNameError", "did_you_mean", "near_matches", "unknown"]

_MANY: Final = 20_000
"""Of more names only so many that begin alike are compared: a comparison takes some ten microseconds."""


class UnknownNameError(RuleauditError):
    """A name that was asked for and is not known; the message names near matches."""


def near_matches(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> tuple[str, ...]:
    """The at most `count` names of `known` that `name` may stand for, the likeliest first.

    In names with a slash ("namespace/name", also "namespace/name:port") the part behind it counts first: the same name in another
    namespace, then names that begin with it, as the pods of a Deployment do, then names spelt alike (`cutoff`: how much so, up to 1).
    """
    names = sorted(set(known))
    wanted = name.lower()
    _, slash, last = wanted.rpartition("/")
    same = (
        [one for one in names if one.lower().rpartition("/")[2] == last and one != name]
        if slash or "/" in "".join(names[:1])
        else []
    )
    begins = [one for one in names if last and one.lower().startswith(f"{wanted}-")] if slash else []
    found = list(dict.fromkeys((*same, *begins)))[:count]
    if len(found) < count:
        if len(names) > _MANY:
            middle = bisect_left(names, name)
            names = names[max(0, middle - _MANY // 2) : middle + _MANY // 2]
        lowered = {one.lower(): one for one in names}
        alike = [lowered[one] for one in get_close_matches(wanted, lowered, count, cutoff)]
        if not alike and slash:  # what follows the slash, spelt alike, anywhere
            by_last: dict[str, str] = {}
            for one in names:
                by_last.setdefault(one.lower().rpartition("/")[2], one)
            alike = [by_last[one] for one in get_close_matches(last, by_last, count, max(cutoff, 0.7))]
        found = list(dict.fromkeys((*found, *(one for one in alike if one != name))))
    return tuple(found[:count])


def did_you_mean(near: Sequence[str]) -> str:
    """What ends such a message: "; did you mean a or b?", nothing without near matches."""
    return f"; did you mean {' or '.join(near)}?" if near else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message that there is no such thing: `what` is its kind ("pod"), `known` the names that there are."""
    names = list(known)
    if not names:
        return f"there is no {what} {name!r}: the objects hold no {what} at all"
    return f"there is no {what} {name!r} among the objects{did_you_mean(near_matches(name, names))}"
