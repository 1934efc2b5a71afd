"""How a kubeconfig, or the service account of a pod, says that an API server is reached: the configuration of `kubernetes.client`.

Files are read and merged here, once each, so that what is wrong in them is said with its place, and a pipe can be one. The programs that
give credentials (exec plugins) are run here, so that they end in time and what they say is heard. The rest is the package's.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ruleaudit.live.errors import LiveError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["first_line", "load_files", "load_service_account"]

_LISTS: Final = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""The lists of a kubeconfig, and what an entry of each holds beside its name."""
_PATHS: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
"""What is relative to the file that it stands in."""
_BEFORE_EXPIRY: Final = timedelta(seconds=30)
"""So long before it expires, a credential is asked for again."""
_Fields = dict[str, Any]


def load_files(paths: str, context: str | None, timeout: float, configuration: Any) -> None:  # noqa: ANN401  of a package without types
    """Fill `configuration` by a kubeconfig, or several with the separator of $PATH between.

    `context`: which one counts, None for the current one. `timeout`: seconds for a program that gives credentials. Raises LiveError.
    """
    from kubernetes import config

    merged = _merged(paths)
    name = context or merged.current
    if name is None:
        raise _unusable(paths, "it has no current-context")
    held = _entry(merged, "contexts", name, "it")
    cluster = _entry(merged, "clusters", held.get("cluster"), f"context {name!r}")
    user = dict(_entry(merged, "users", held["user"], f"context {name!r}")) if held.get("user") else {}
    plugin = None
    if isinstance(user.get("exec"), dict) and not {"auth-provider", "token", "tokenFile"} & user.keys():
        plugin = _Plugin(paths, user.pop("exec"), cluster, timeout)
        user.update(plugin.credentials())
    if not str(cluster.get("server") or "").startswith(("http://", "https://")):
        raise _unusable(paths, f"the server of cluster {held.get('cluster')!r} is no URL such as https://10.0.0.1:6443")
    document = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": held["cluster"], "user": "user"}}],
        "clusters": [{"name": held["cluster"], "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
    }
    try:
        config.load_kube_config_from_dict(document, name, client_configuration=configuration, persist_config=False)
    except Exception as error:  # the package lets KeyError, TypeError and its own through
        raise _unusable(paths, first_line(error)) from error
    _keep_fresh(configuration, plugin)


def load_service_account(configuration: Any) -> None:  # noqa: ANN401  of a package without types
    """Fill `configuration` by the service account of the pod that this runs in. Raises LiveError."""
    from kubernetes import config

    try:
        config.load_incluster_config(client_configuration=configuration)
    except Exception as error:
        raise LiveError(f"the pod's service account cannot be used: {first_line(error)}; name a --kubeconfig") from error
    _keep_fresh(configuration, None)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, else its type."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _unusable(paths: str, why: str) -> LiveError:
    return LiveError(f"{paths} cannot be used: {why}; see `kubectl config view`, or choose with --context")


def _keep_fresh(configuration: Any, plugin: _Plugin | None) -> None:  # noqa: ANN401  of a package without types
    """See to it that a token is one that holds and that a header can have: files of tokens end with a newline."""
    of_package = configuration.refresh_api_key_hook

    def refresh(current: Any) -> None:  # noqa: ANN401  of a package without types
        if plugin is not None:
            token = plugin.credentials().get("token")
            if token is not None:
                current.api_key.update(dict.fromkeys(current.api_key, f"Bearer {token}"))
        elif of_package is not None:
            of_package(current)
        current.refresh_api_key_hook = refresh  # the package's puts itself back
        current.api_key.update({name: " ".join(value.split()) for name, value in current.api_key.items()})

    configuration.refresh_api_key_hook = refresh


# --- files ---


@dataclass(slots=True)
class _Merged:
    """Several kubeconfigs as one, by name: of what has the same name the first counts, as kubectl has it."""

    paths: str
    entries: dict[str, dict[str, _Fields]]
    current: str | None = None


def _merged(paths: str) -> _Merged:
    merged = _Merged(paths, {name: {} for name in _LISTS})
    files = [Path(one).expanduser() for one in paths.split(os.pathsep) if one]
    there = [one for one in files if one.exists()]
    if not there:
        raise LiveError(f"{paths}: there is no such kubeconfig; name one with --kubeconfig")
    for file in there:
        document = _document(file)
        merged.current = merged.current or document.get("current-context") or None
        for plural, singular in _LISTS.items():
            entries = document.get(plural)
            for entry in entries if isinstance(entries, list) else ():
                if not isinstance(entry, dict) or "name" not in entry:
                    raise _unusable(str(file), f"an entry of its {plural} has no name")
                held = entry.get(singular)
                merged.entries[plural].setdefault(str(entry["name"]), _absolute(held, file) if isinstance(held, dict) else {})
    return merged


def _document(file: Path) -> _Fields:
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise _unusable(f"{file}:{line}", f"it is no YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unusable(str(file), f"it is no YAML ({first_line(error)})") from error
    except OSError as error:
        raise _unusable(str(file), f"it cannot be read ({error.strerror or error})") from error
    if not isinstance(document, dict):
        raise _unusable(str(file), "it is empty" if document is None else "it is no kubeconfig")
    return document


def _absolute(held: _Fields, file: Path) -> _Fields:
    """An entry with its paths as they are from everywhere."""
    folder = file.absolute().parent
    found = {name: str(folder / value) if name in _PATHS and isinstance(value, str) else value for name, value in held.items()}
    plugin = found.get("exec")
    if isinstance(plugin, dict) and isinstance(plugin.get("command"), str) and os.sep in plugin["command"]:
        found["exec"] = {**plugin, "command": str(folder / plugin["command"])}
    return found


def _entry(merged: _Merged, plural: str, name: object, where: str) -> _Fields:
    found = merged.entries[plural].get(str(name))
    if found is None:
        there = ", ".join(sorted(merged.entries[plural])[:5]) or "none"
        kind = _LISTS[plural]
        why = f"{where} has no {kind} {name!r}" if where == "it" else f"{where} names the {kind} {name!r}, which is not there"
        raise _unusable(merged.paths, f"{why} (there are: {there})")
    return found


# --- programs that give credentials ---


class _Plugin:
    """A program that gives credentials (client.authentication.k8s.io, ExecCredential); asked again when what it gave expires."""

    def __init__(self, paths: str, described: Mapping[str, Any], cluster: _Fields, timeout: float) -> None:
        self.paths = paths
        self.described = described
        self.cluster = cluster
        self.timeout = timeout
        self._given: _Fields = {}
        self._until: datetime | None = None

    def credentials(self) -> _Fields:
        """What it gives, as the fields of a user in a kubeconfig. Raises LiveError."""
        if not self._given or (self._until is not None and datetime.now(UTC) > self._until - _BEFORE_EXPIRY):
            self._given = self._asked()
        return self._given

    def _asked(self) -> _Fields:
        command = str(self.described.get("command") or "")
        out = self._run([command, *map(str, self.described.get("args") or ())])
        try:
            answer = json.loads(out)
            status = answer["status"]
            self._until = _time(status.get("expirationTimestamp"))
            if status.get("token"):
                return {"token": str(status["token"]).strip()}
            pair = {"client-certificate-data": "clientCertificateData", "client-key-data": "clientKeyData"}
            return {field: base64.b64encode(status[key].encode()).decode() for field, key in pair.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # What it printed may be the credential itself, in another form: none of it is repeated.
            size = len(out.strip().encode())
            raise self._failed(f"printed {size:,} bytes that are no ExecCredential" if size else "printed nothing") from error

    def _run(self, command: list[str]) -> str:
        interactive = sys.stdin is not None and sys.stdin.isatty() and self.described.get("interactiveMode") != "Never"
        spec: _Fields = {"interactive": interactive}
        if self.described.get("provideClusterInfo"):
            spec["cluster"] = {name: value for name, value in self.cluster.items() if name != "extensions"}
            for extension in self.cluster.get("extensions") or ():
                if extension.get("name") == "client.authentication.k8s.io/exec":
                    spec["cluster"]["config"] = extension.get("extension")
        about = {"apiVersion": self.described.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
        environment = {str(one["name"]): str(one["value"]) for one in self.described.get("env") or ()}
        try:
            done = subprocess.run(
                command,
                check=False,
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if interactive else subprocess.PIPE,
                timeout=self.timeout,
                env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": json.dumps(about)},
            )
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"did not end within {self.timeout:g} seconds; --request-timeout gives it more") from error
        except (OSError, ValueError) as error:
            hint = " ".join(str(self.described.get("installHint") or "").split())
            raise self._failed(
                f"cannot be run ({getattr(error, 'strerror', None) or error}){'; ' if hint else ''}{hint}"
            ) from error
        if done.returncode != 0:
            said = " ".join((done.stderr or b"").decode("utf-8", "replace").split())[:300]
            raise self._failed(f"failed with status {done.returncode}{': ' if said else ''}{said}")
        return done.stdout.decode("utf-8", "replace")

    def _failed(self, why: str) -> LiveError:
        command = self.described.get("command")
        return LiveError(f"{self.paths}: no credentials: the program {command} that is to give them {why}")


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
