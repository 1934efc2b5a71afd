"""Near matches: what somebody may have meant by a name that is not there."""

from __future__ import annotations

from bisect import bisect_left
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from ruleaudit.errors import RuleauditError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["UnknownNameError", "did_you_mean", "near_matches", "unknown"]

_MANY: Final = 20_000
"""Of more names only so many that begin alike are compared: a comparison takes some ten microseconds."""
_FEW: Final = 5
"""So many names are all told to somebody who has named none of them."""


class UnknownNameError(RuleauditError):
    """A name that was asked for and is not known; the message names near matches."""


def near_matches(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> tuple[str, ...]:
    """The at most `count` names of `known` that `name` may stand for, the likeliest first.

    In names with a slash ("namespace/name", also "namespace/name:port") the part behind it counts first: the same name in another
    namespace, then names that begin with it, as the pods of a Deployment do, then names spelt alike (`cutoff`: how much so, up to 1).
    A namespace that both have makes no two names alike: namespace and name are each compared with their like.
    """
    names = sorted(set(known))
    wanted = name.lower()
    namespace, slash, last = wanted.rpartition("/")
    in_namespaces = bool(slash) or "/" in "".join(names[:1])
    same = [one for one in names if one.lower().rpartition("/")[2] == last and one != name] if in_namespaces else []
    begins = [one for one in names if last and one.lower().startswith(f"{wanted}-")] if slash else []
    found = list(dict.fromkeys((*same, *begins)))[:count]
    if len(found) < count:
        if len(names) > _MANY:
            middle = bisect_left(names, name)
            names = names[max(0, middle - _MANY // 2) : middle + _MANY // 2]
        lowered = {one.lower(): one for one in names}
        if in_namespaces:
            alike = _alike_by_parts(namespace, last, lowered, count, cutoff)
        else:
            alike = [lowered[one] for one in get_close_matches(wanted, lowered, count, cutoff)]
        found = list(dict.fromkeys((*found, *(one for one in alike if one != name))))
    return tuple(found[:count])


def _alike_by_parts(namespace: str, last: str, lowered: Mapping[str, str], count: int, cutoff: float) -> list[str]:
    """The names whose part behind the slash is spelt alike, and whose namespace is (any, where none is given); where there are none, those
    anywhere whose part behind the slash is spelt much alike. `lowered`: the names by their lower case.
    """
    by_last: dict[str, list[str]] = {}
    for one in lowered:
        by_last.setdefault(one.rpartition("/")[2], []).append(one)
    namespaces = {one.rpartition("/")[0] for one in lowered}
    near = {namespace, *get_close_matches(namespace, namespaces, count, cutoff)} if namespace else namespaces
    alike = [
        lowered[one]
        for part in get_close_matches(last, by_last, count, cutoff)
        for one in by_last[part]
        if one.rpartition("/")[0] in near
    ]
    return alike or [lowered[by_last[part][0]] for part in get_close_matches(last, by_last, count, max(cutoff, 0.7))]


def did_you_mean(near: Sequence[str]) -> str:
    """What ends such a message: "; did you mean a or b?", nothing without near matches."""
    return f"; did you mean {' or '.join(near)}?" if near else ""


def unknown(what: str, name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The message that there is no such thing: `what` is its kind ("pod"), `known` the names that there are; a few are all named where
    none is alike (`cutoff` as in `near_matches`).
    """
    names = sorted(set(known))
    if not names:
        return f"there is no {what} {name!r}: the objects hold no {what} at all"
    hint = did_you_mean(near_matches(name, names, cutoff=cutoff))
    if not hint and len(names) <= _FEW:
        hint = f"; there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
    return f"there is no {what} {name!r} among the objects{hint}"
