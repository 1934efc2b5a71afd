"""Credentials by their names: whether what a name such as DB_PASSWORD or apiToken is given is a secret, or only says where one is."""

from __future__ import annotations

import re
import string
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Assignment", "assignments", "is_reference", "is_secret"]

_MAX_NAME: Final = 100
_MAX_VALUE: Final = 400


class _Kind(Enum):
    """What a name promises, which decides what of its values is believed."""

    NOTHING = 0
    PASSWORD = 1
    """Any value is one that is no prose, a number too."""
    TOKEN = 2
    """Long enough, with a digit, without blanks, and no name of something else."""


_TOKENS: Final = (
    "token",
    "secret",
    "secrets",
    "credential",
    "credentials",
    *(
        f"{kind}key"
        for kind in ("api", "access", "account", "auth", "encryption", "master", "private", "secret", "shared", "signing")
    ),
)
_HARMLESS: Final = ("checksum", "hash", "initialclustertoken", "public")
"""Names that end like a secret's and are given something else: Helm's checksum/secret, etcd's --initial-cluster-token."""
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_HINT: Final = r"(?:pass(?:word|wd|phrase)?|pwd|token|secret|credential|key)"
_HINTED: Final = re.compile(_HINT, re.IGNORECASE)
"""Where no such word is, there is nothing to be found by names."""

_PLACEHOLDER: Final = re.compile(
    r"""\**  | [*xX.\-_?#\s]{3,}                                 # masked
      | <.*> | \[.*\] | \{\{.*\}\} | %.*% | \(.*\)              # a part to be filled in, or [REDACTED]
      | .*\$[({]?[A-Za-z_].*                                    # a variable of a shell, of Kubernetes, of a template
      | (?:\.{0,2}|~|file:/{0,2}|[A-Za-z]:)[/\\][\w.~/\\-]*     # a path
      | @\S*                                                    # a file, as curl has it
      | (?:env|vault|ref|secret|arn|sha256|sops)[:+]\S*         # where it is kept
      | https?://[^@\s]*
      | \W*(?:redacted|data\+omitted|removed|hidden|masked|omitted|placeholder|example|dummy|change[-_ ]?(?:me|it)|todo|tbd
          | your[-_ ].*|my[-_ ]?(?:password|token|secret)|password|passwd|token|secret|credentials?
          | str|string|bytes|bool(?:ean)?|none|null|nil|true|false|yes|no|on|off|enabled?|disabled?
          | required|optional|unset|default|auto|empty|n/a)\W*""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_TYPE_NAME: Final = re.compile(r"\w*(?:secret|token|key)\w*", re.IGNORECASE | re.ASCII)
"""What calls itself one: V1SecretVolumeSource."""
_PART: Final = re.compile(r"[a-z]+\d{0,2}|[a-z0-9]{1,6}")
_BETWEEN_PARTS: Final = re.compile(r"[-._/:]")


@lru_cache(maxsize=4096)
def _kind(name: str) -> _Kind:
    if len(name) > _MAX_NAME or not _HINTED.search(name):
        return _Kind.NOTHING
    squashed = re.sub(r"[^a-z0-9]", "", name.lower())
    if any(one in squashed for one in _HARMLESS):
        return _Kind.NOTHING
    words = [word.lower() for word in _WORDS.findall(name)]
    if squashed.endswith(("password", "passwd", "passphrase")) or (len(words) > 1 and words[-1] in ("pass", "pwd")):
        return _Kind.PASSWORD
    return _Kind.TOKEN if squashed.endswith(_TOKENS) else _Kind.NOTHING


def is_reference(value: str) -> bool:
    """Whether a value is a placeholder, or says where the secret is, instead of being it."""
    return len(value) <= _MAX_VALUE and _PLACEHOLDER.fullmatch(value.strip()) is not None


def is_secret(name: str, value: object) -> bool:
    """Whether `value`, as JSON or YAML has it, is a secret, going by the name under which it stands."""
    kind = _kind(name)
    if kind is _Kind.NOTHING or isinstance(value, bool) or not isinstance(value, str | int):
        return False
    if kind is _Kind.PASSWORD:
        return len(str(value)) > 2 and len(str(value).split()) < 5 and not is_reference(str(value))
    return (
        isinstance(value, str)
        and len(value) >= 8
        and not re.search(r"\s", value.strip())
        and re.search(r"\d", value) is not None
        and _TYPE_NAME.fullmatch(value) is None
        and not _is_object_name(value)
        and not is_reference(value)
    )


def _is_object_name(value: str) -> bool:
    """Whether a value may be the name of an object or of a key, as a reference to a Secret has it: short parts, which a token has not."""
    return all(_PART.fullmatch(part) for part in _BETWEEN_PARTS.split(value))


# --- texts that are neither JSON nor YAML ---


class Assignment(NamedTuple):
    """A name and what a text gives it; `at`: where the name begins."""

    name: str
    value: str
    at: int


_ASSIGNED: Final = re.compile(
    _HINT + r"""s?(?P<closing>\\?["'])?[ \t]{0,8}(?P<sign>:=|[:=])(?![=>])(?P<gap>[ \t]{0,8})""", re.IGNORECASE
)
_IN_NAMES: Final = f"{string.ascii_letters}{string.digits}_./-"
_VALUE: Final = re.compile(
    rf"""\\?"(?P<double>[^"\n\\]{{1,{_MAX_VALUE}}})\\?"
       | \\?'(?P<single>[^'\n\\]{{1,{_MAX_VALUE}}})\\?'
       | (?P<plain>[^\s"'`,;&|<>(){{}}\[\]\\]{{1,{_MAX_VALUE}}})(?P<rest>[^\n]{{0,8}})""",
    re.VERBOSE,
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z_.]*")
_CONSTANT: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")


def assignments(text: str) -> Iterator[Assignment]:
    """What a text gives to names of secrets, where that is a secret: lines of YAML, of INI and of .env files, words of commands, queries of URLs."""
    told = 0  # up to where: what looks like a name within a secret is a part of it
    for found in _ASSIGNED.finditer(text) if _HINTED.search(text) else ():
        if found.start() < told:
            continue
        closed, sign, gap = found["closing"], found["sign"], found["gap"]
        if sign == ":" and not gap and closed is None:
            continue  # "shop/token:http", the name of a port, and suchlike
        value = _VALUE.match(text, found.end())
        if value is None:
            continue
        if value["plain"] is not None and _CONSTANT.fullmatch(value["plain"]):
            continue  # a program: "password": TEST_PASSWORD
        if value["plain"] is not None and (sign != "=" or gap):
            if not re.match(r"\s*(?:$|[#,;}\\])", value["rest"]):
                continue  # prose, or a call
            if sign != ":" and _IDENTIFIER.fullmatch(value["plain"]):
                continue  # a program: password = arguments.password
        end = found.end("closing") - len(closed) if closed is not None else found.start("sign")
        before = text[max(0, found.start() - _MAX_NAME) : found.start()]
        start = found.start() - (len(before) - len(before.rstrip(_IN_NAMES)))
        name = text[start:end].rstrip().lstrip("-./")
        held = value["double"] or value["single"] or value["plain"]
        if held.removeprefix("self.") != name and is_secret(name, held):
            told = max(map(value.end, ("double", "single", "plain")))
            yield Assignment(name, held, found.start())
