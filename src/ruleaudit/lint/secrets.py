"""What must not lie in a repository: Secret objects, private keys, tokens, passwords, kubeconfigs, the values of environment variables (RA803).

Nothing of a secret itself gets into a finding: only what it is, in which file and line.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.findings import Finding, Location, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Secret", "secret_findings", "secrets_of"]

_MAX_YAML: Final = 4 << 20
"""Of longer YAML only the patterns are looked for."""
_MAX_LOCATIONS: Final = 12


class Secret(NamedTuple):
    """One thing that is secret: what it is, in words; its 1-based line, 0 where it cannot be told; whether it may be harmless."""

    what: str
    line: int
    mild: bool = False


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A form by which a secret is known. `prefix`: text without which there is none, so that most files are passed quickly."""

    what: str
    prefixes: tuple[str, ...]
    expression: re.Pattern[str]


_TOKEN: Final = "a token"
_PATTERNS: Final = (
    _Pattern("a private key", ("PRIVATE KEY",), re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")),
    _Pattern("a JSON web token", ("eyJ",), re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}")),
    _Pattern(
        "an Authorization header",
        ("uthorization",),
        re.compile(r"[Aa]uthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:[Bb]earer|[Bb]asic)\s{1,4}[\w.~+/=-]{8,}"),
    ),
    _Pattern(
        "a bootstrap token",
        ("oken",),
        re.compile(r"[Tt]oken[\w-]{0,40}[\\\"']{0,4}\s{0,4}[:=\s]\s{0,4}[\\\"']{0,4}[a-z0-9]{6}\.[a-z0-9]{16}\b"),
    ),
    _Pattern("a token of k3s", ("K10",), re.compile(r"\bK10[0-9a-f]{64}::[^\s\"']+")),
    _Pattern("a key of AWS", ("AKIA", "ASIA"), re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    _Pattern("a token of GitHub", ("gh", "github_pat_"), re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})")),
    _Pattern("a token of GitLab", ("glpat-",), re.compile(r"\bglpat-[\w-]{20,}")),
    _Pattern("a token of Slack", ("xox",), re.compile(r"\bxox[abprs]-[\w-]{10,}")),
    _Pattern("a key of Google", ("AIza",), re.compile(r"\bAIza[\w-]{35}\b")),
    _Pattern(
        "a password in an address",
        ("://",),
        re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^/\s:@\"'\\]{1,64}:[^/\s@\"'\\]{1,128}@[\w\[]"),
    ),
    _Pattern(
        "the key of a kubeconfig",
        ("client-key-data",),
        re.compile(r"client-key-data[\\\"']{0,4}\s{0,4}:\s{0,4}[\\\"']{0,4}[A-Za-z0-9+/=]{20,}"),
    ),
    _Pattern(
        "a secret on a command line",
        ("--",),
        re.compile(
            r"--(?:token|password|client-secret|api-key|etcd-password)(?:=|[\\\"']{0,4}[,\s]\s{0,40}[\\\"']{0,4})(?![-/$])[^\s\"'\\,]{6,}"
        ),
    ),
)
_ENCODED_KEY: Final = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{30,}")
_SECRET_NAME: Final = re.compile(
    r"PASS(?:WORD|WD|PHRASE)?(?:$|_)|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|AUTH(?:$|_KEY)|DSN$", re.IGNORECASE
)
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_CREDENTIALS: Final = ("token", "password", "client-key-data", "client-key", "tokenFile", "auth-provider", "exec")
_YAML: Final = re.compile(r"^\s*(?:- )?(?:kind|apiVersion)\s*:", re.MULTILINE)


def secrets_of(text: str) -> Iterator[Secret]:
    """Everything secret in the text of a file, whatever it is: by form, and in JSON and YAML by what the objects say."""
    for pattern in _PATTERNS:
        if any(prefix in text for prefix in pattern.prefixes):
            for found in pattern.expression.finditer(text):
                yield Secret(pattern.what, _line(text, found.start()))
    for found in _ENCODED_KEY.finditer(text) if "LS0tLS1CRUdJTi" in text else ():
        if _is_key(found[0]):
            yield Secret("a private key in base64", _line(text, found.start()))
    for document in _documents(text):
        for what, value, mild in _walk(document):
            yield Secret(what, _line_of_value(text, value), mild)


def secret_findings(path: str, text: str) -> Iterator[Finding]:
    """RA803 for a file: one finding for each kind of secret, with the lines; a warning where it may be harmless."""
    found: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for secret in secrets_of(text):
        found[secret.what, secret.mild].append(secret.line)
    entry = CATALOGUE["RA803"]
    for (what, mild), lines in found.items():
        places = sorted({line for line in lines if line})
        count = f" ({len(lines)} times)" if len(lines) > 1 else ""
        yield Finding(
            entry.code,
            entry.name,
            Severity.WARNING if mild else entry.severity,
            f"{path} holds {what}{count}",
            hint=entry.action,
            locations=tuple(Location(path, line, "") for line in places[:_MAX_LOCATIONS]) or (Location(path, 0, ""),),
            subject=f"{path} {what}",
        )


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _line_of_value(text: str, value: str) -> int:
    """The first line that holds a value, or a key, as JSON or YAML writes it; 0 where none does."""
    quoted = json.dumps(value, ensure_ascii=False)
    for written in (json.dumps(value), quoted, f": {value}", f"{value}:"):
        at = text.find(written)
        if at >= 0:
            return _line(text, at)
    return 0


def _is_key(encoded: str) -> bool:
    try:
        head = base64.b64decode(encoded[: min(len(encoded), 80) // 4 * 4])
    except binascii.Error:
        return False
    return b"PRIVATE KEY" in head


def _documents(text: str) -> Iterator[object]:
    """The JSON or YAML documents of a text; nothing for what is neither. A broken one ends it: the patterns were looked for."""
    stripped = text.lstrip()
    if stripped.startswith(("{", "[")):
        decoder = json.JSONDecoder()
        at = 0
        while at < len(stripped):
            try:
                document, at = decoder.raw_decode(stripped, at)
            except (ValueError, RecursionError):
                return
            yield document
            while at < len(stripped) and stripped[at].isspace():
                at += 1
        return
    if len(text) > _MAX_YAML or not _YAML.search(text):
        return
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from yaml.load_all(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return


_Found = tuple[str, str, bool]
"""What is secret, the text that shows where it stands, whether it may be harmless."""


def _walk(document: object) -> Iterator[_Found]:
    """Every secret of a document, however deep it lies."""
    pending = [document]
    seen: set[int] = set()  # YAML's aliases make one value of many places: it is looked at once
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield from _object(value)
            annotations = value.get("annotations")
            applied = annotations.get(_LAST_APPLIED) if isinstance(annotations, Mapping) else None
            if isinstance(applied, str):
                for inner in _documents(applied):
                    for what, _, mild in _walk(inner):
                        yield f"{what} in the annotation {_LAST_APPLIED}", _LAST_APPLIED, mild
            pending.extend(value.values())
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            pending.extend(value)


def _object(value: Mapping[object, object]) -> Iterator[_Found]:
    kind = value.get("kind")
    if kind in ("Secret", "SecretList"):
        parts = [part for name in ("data", "stringData") if isinstance(part := value.get(name), Mapping)]
        held = next((str(one) for part in parts for one in part.values() if one), None)
        if held is not None:
            yield "a Secret object with its data", held, False
    users = value.get("users")
    if kind == "Config" and isinstance(users, Sequence) and not isinstance(users, str):
        for user in users:
            credentials = user.get("user") if isinstance(user, Mapping) else None
            if isinstance(credentials, Mapping) and any(credentials.get(name) for name in _CREDENTIALS):
                yield "a kubeconfig with credentials", str(next(filter(None, map(credentials.get, _CREDENTIALS)))), False
    environment = value.get("env")
    if isinstance(environment, Sequence) and not isinstance(environment, str):
        for variable in environment:
            if not isinstance(variable, Mapping) or not isinstance(variable.get("value"), str) or not variable["value"]:
                continue
            secret = _SECRET_NAME.search(str(variable.get("name") or "")) is not None
            name = str(variable.get("name"))
            if secret:
                yield f"the value of the environment variable {name}", name, False
            else:
                yield "values of environment variables", name, True
