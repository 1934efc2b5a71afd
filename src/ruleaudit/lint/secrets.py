"""What must not lie in a repository: Secret objects, private keys, tokens, passwords, kubeconfigs, the values of environment variables (RA803).

They are known by their form, by the object that holds them, or by the name under which they stand (`credentials`), also in documents within
documents: the kubeconfig in a ConfigMap, the object in an annotation. Nothing of a secret itself gets into a finding: only what it is, in which
file and line.
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
from ruleaudit.lint.credentials import assignments, is_reference, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Secret", "secret_findings", "secrets_of"]

_MAX_YAML: Final = 4 << 20
"""Of longer YAML only the patterns are looked for."""
_MAX_LOCATIONS: Final = 12
_MAX_LOCATED: Final = 200
"""The line of so many secrets of a file is looked for: each time the file is gone through."""


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
    _Pattern("a token of npm", ("npm_",), re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    _Pattern("a token of Docker", ("dckr_",), re.compile(r"\bdckr_[a-z]{2,8}_[\w-]{20,}")),
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
        "a password on curl's command line",
        ("curl",),
        re.compile(
            r"\bcurl\b[^\n]{0,400}?[\s\"',](?:-u|--(?:proxy-)?user)[=\s\"',\\]{0,12}(?![$-])[^\s:\"'$\\]{1,64}:(?!\*+[\s\"']|<)[^\s\"'$\\]{1,128}"
        ),
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
_CREDENTIALS: Final = ("token", "password", "client-key-data", "client-key", "auth-provider", "exec")
"""What a kubeconfig proves with who its user is; what it does by the name of a file (tokenFile) is not in it."""
_OF_REGISTRY: Final = ("auth", "password", "identitytoken", "registrytoken")
_MAX_NAME: Final = 100
_MAX_WITHIN: Final = 4
"""How many documents deep within each other are looked into."""
_YAML: Final = re.compile(r"^\s*(?:- )?(?:kind|apiVersion)\s*:", re.MULTILINE)
_MEMBER: Final = re.compile(r"^[ \t]*(?:- )?[\w.\"'/-]+[ \t]*:(?:[ \t]|$)", re.MULTILINE)


def secrets_of(text: str) -> Iterator[Secret]:
    """Everything secret in the text of a file, whatever it is: by form, and in JSON and YAML by what the objects say."""
    by_form = [
        Secret(pattern.what, _line(text, found.start()))
        for pattern in _PATTERNS
        if any(prefix in text for prefix in pattern.prefixes)
        for found in pattern.expression.finditer(text)
    ]
    encoded = _ENCODED_KEY.finditer(text) if "LS0tLS1CRUdJTi" in text else ()
    by_form += [Secret("a private key in base64", _line(text, found.start())) for found in encoded if _is_key(found[0])]
    documents, rest = _documents(text)
    by_place = [
        Secret(one.what, _line_of(text, one) if number < _MAX_LOCATED else 0, one.mild)
        for number, one in enumerate(_walk(documents))
    ]
    yield from by_form
    yield from by_place
    lines = {one.line for one in (*by_form, *by_place)}
    line, before = 1, 0
    for name, _, at in assignments(text[rest:]):
        line += text.count("\n", before, rest + at)
        before = rest + at
        if line not in lines:  # a line that is told already is not told again by a name in it
            yield Secret(f"the value of {name}", line)


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


def _line_of(text: str, found: _Found) -> int:
    """The first line that holds a name and its value as JSON or YAML writes them, else the value, else the name, which of a document within
    the document is the outer one's; 0 where none does.
    """
    name, value = re.escape(found.name), re.escape(found.value)
    member = re.search(rf"{name}[\"']?[ \t]*:[ \t]*[\"']?{value}", text) if found.name and found.value else None
    if member is not None:
        return _line(text, member.start())
    for one in filter(None, (found.value, *found.within, found.name)):
        for written in (json.dumps(one), json.dumps(one, ensure_ascii=False), f": {one}", f"{one}:"):
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


def _documents(text: str) -> tuple[list[object], int]:
    """The JSON or YAML documents of a text, and where what is neither begins, or is broken."""
    if text.lstrip().startswith(("{", "[")):
        return _json(text)
    return _yaml(text) if _YAML.search(text) else ([], 0)


def _json(text: str) -> tuple[list[object], int]:
    decoder = json.JSONDecoder()
    found: list[object] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return found, at
        try:
            document, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found, at
        found.append(document)


def _yaml(text: str) -> tuple[list[object], int]:
    """As `_documents`; of broken YAML all is said to be left, for where it breaks is not where it was wrong."""
    found: list[object] = []
    if len(text) > _MAX_YAML:
        return found, 0
    try:
        found.extend(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError, RecursionError):
        return found, 0
    return found, len(text)


class _Found(NamedTuple):
    """A secret in a document: what it is; the name and the value by which its line is found, "" where there is none; whether it may be
    harmless. `within`: under which names the documents stand that it is in, the innermost first.
    """

    what: str
    name: str = ""
    value: str = ""
    mild: bool = False
    within: tuple[str, ...] = ()


def _walk(documents: Sequence[object], within: int = 0) -> Iterator[_Found]:
    """Every secret of documents, however deep it lies."""
    pending = list(documents)
    seen: set[int] = set()  # YAML's aliases make one value of many places: it is looked at once
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            told = set[str]()  # what is a secret as a whole is not taken apart
            for found, part in _object(value):
                yield found
                if part:
                    told.add(part)
            for name, member in value.items():
                if name in told:
                    continue
                if is_secret(str(name), member):
                    yield _Found(f"the value of {name}", str(name), str(member))
                elif isinstance(member, str):
                    yield from _text(member, str(name), within)
                else:
                    pending.append(member)
        elif isinstance(value, Sequence) and not isinstance(value, bytes):
            for member in value:
                if isinstance(member, str):
                    yield from _text(member, "", within)
                else:
                    pending.append(member)


def _text(text: str, name: str, within: int) -> Iterator[_Found]:
    """What is secret in a text within a document, which may be a document itself. `name`: that under which it stands."""
    if len(text) < 8 or ("=" not in text and ":" not in text):
        return
    inner: list[object] = []
    rest = 0
    if within < _MAX_WITHIN and (text.lstrip().startswith(("{", "[")) or ("\n" in text and _MEMBER.search(text))):
        inner, rest = _json(text) if text.lstrip().startswith(("{", "[")) else _yaml(text)
    if not any(isinstance(one, Mapping | list) for one in inner):
        rest = 0
    where = f" in the annotation {name}" if name == _LAST_APPLIED else f" in {name[:_MAX_NAME]}" if name else ""
    assigned = (_Found(f"the value of {one.name}", one.name, one.value) for one in assignments(text[rest:]))
    for one in (*_walk(inner, within + 1), *assigned):
        place = name or text.split("\n", 1)[0]
        yield one._replace(what=one.what + where, within=(*one.within, place))


def _object(value: Mapping[object, object]) -> Iterator[tuple[_Found, str]]:
    """What is secret because of the object that it is in, and the name of the part that is told with it, "" for none."""
    kind = value.get("kind")
    if kind == "Secret":
        yield from _data_of_secret(value)
    items = value.get("items")
    if kind == "SecretList" and isinstance(items, Sequence) and not isinstance(items, str):
        for item in items:
            if isinstance(item, Mapping) and "kind" not in item:  # the API server leaves it out in such a list
                yield from ((found, "items") for found, _ in _data_of_secret(item))
    users = value.get("users")
    if kind == "Config" and isinstance(users, Sequence) and not isinstance(users, str):
        for user in users:
            credentials = user.get("user") if isinstance(user, Mapping) else None
            if isinstance(credentials, Mapping):
                held = next(
                    ((name, one) for name in _CREDENTIALS if (one := credentials.get(name)) and not _is_elsewhere(one)), None
                )
                if held is not None:
                    yield _Found("a kubeconfig with credentials", held[0], str(held[1])), "users"
    registries = value.get("auths")
    if isinstance(registries, Mapping):
        for registry in registries.values():
            if isinstance(registry, Mapping):
                held = next(
                    ((name, one) for name in _OF_REGISTRY if (one := registry.get(name)) and not _is_elsewhere(one)), None
                )
                if held is not None:
                    yield _Found("credentials of a container registry", held[0], str(held[1])), "auths"
    environment = value.get("env")
    if isinstance(environment, Sequence) and not isinstance(environment, str):
        for variable in environment:
            if not isinstance(variable, Mapping) or not isinstance(variable.get("value"), str) or not variable["value"]:
                continue
            name = str(variable.get("name"))
            if _SECRET_NAME.search(name) and not is_reference(variable["value"]):
                yield _Found(f"the value of the environment variable {name}", value=name), ""
            else:
                yield _Found("values of environment variables", value=name, mild=True), ""


def _data_of_secret(secret: Mapping[object, object]) -> Iterator[tuple[_Found, str]]:
    for name in ("data", "stringData"):
        part = secret.get(name)
        held = next((one for one in part.items() if one[1]), None) if isinstance(part, Mapping) else None
        if held is not None:
            yield _Found("a Secret object with its data", str(held[0]), str(held[1])), name


def _is_elsewhere(value: object) -> bool:
    return isinstance(value, str) and is_reference(value)
