"""A capture: what `collect` and `anonymize` write and `check` reads, as a folder or an archive, whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ruleaudit.live.errors import LiveError, Missing
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.live.dumps import Dump

__all__ = ["About", "capture_files", "require_writable", "write_capture"]

_ARCHIVES: Final = (".tar.gz", ".tgz")
_OTHER_FILE: Final = re.compile(r"\.(?:zip|7z|rar|tar(?:\.[a-z0-9]+)?|t[bxz]z?2?|gz|xz|bz2|zst|json|ya?ml|txt)/*$", re.IGNORECASE)
"""What a file is called: who names one does not mean a folder."""
_ENDINGS: Final = {InputKind.IP_ADDR: ".json", InputKind.NFT: ".json", InputKind.PROXY_CONFIG: ""}


@dataclass(frozen=True, slots=True)
class About:
    """What `meta.json` says of a capture; None where it is not known.

    `node`: the name of the Node; `hostname` as the node itself says it. `mode` and `version` are kube-proxy's. `began`: seconds since
    the epoch. `tools`: program -> what it says of its version.
    """

    began: float
    node: str | None = None
    hostname: str | None = None
    version: str | None = None
    mode: str | None = None
    kernel: str | None = None
    tools: Mapping[str, str] | None = None


def capture_files(dumps: Sequence[Dump], missing: Sequence[Missing], about: About) -> dict[str, bytes]:
    """The files of one node: its dumps, and `meta.json`."""
    files: dict[str, bytes] = {}
    for one in dumps:
        ending = _ENDINGS.get(one.kind, ".txt")
        if ending == ".json" and not one.data.lstrip().startswith((b"[", b"{")):
            ending = ".txt"
        files[f"{one.name}{ending}"] = one.data
    described = {
        "kube_proxy_version": about.version,
        "mode": about.mode,
        "node": about.node,
        "hostname": about.hostname,
        "captured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(about.began)),
        "dump_seconds": round(time.time() - about.began, 3),
        "kernel": about.kernel,
        "tools": dict(about.tools or {}),
        "commands": {one.name: one.command for one in dumps if one.command},
        "not_collected": [{"what": one.what, "why": one.message, "hint": one.hint} for one in missing],
        "collected_by": "ruleaudit collect",
    }
    described = {name: value for name, value in described.items() if value is not None or name == "kube_proxy_version"}
    files["meta.json"] = (json.dumps(described, indent=1) + "\n").encode()
    return files


def require_writable(output: str, *, into_empty: bool = False) -> None:
    """Raises LiveError where a capture cannot be written to `output`: said before the work, not after it.

    `into_empty`: it may be a folder that is there already and empty.
    """
    path = Path(output)
    if not path.absolute().parent.is_dir():
        raise LiveError(f"{output}: there is no such folder to write to")
    if _is_archive(output):
        if path.is_dir():
            raise LiveError(f"{output}: is a folder; name a file")
    elif _OTHER_FILE.search(output):
        raise LiveError(f"{output}: no such file is written; name one that ends in .tar.gz or .tgz, or a folder")
    elif (path.exists() or path.is_symlink()) and not (into_empty and path.is_dir() and not any(path.iterdir())):
        wanted = "a new or an empty folder" if into_empty else "a folder that is not"
        raise LiveError(f"{output}: is there already; name {wanted}, or an archive (.tar.gz)")


def write_capture(files: Mapping[str, bytes], output: str, *, into_empty: bool = False, moment: int | None = None) -> None:
    """Write `files` (path within the capture -> content) as a folder, or an archive where `output` ends in .tar.gz or .tgz.

    Readable for the owner alone: a capture names what runs in a cluster. `into_empty` is that of require_writable; `moment`: the time
    that an archive says it is from, in seconds since the epoch, None for now. Raises LiveError; then nothing is left.
    """
    require_writable(output, into_empty=into_empty)
    target = Path(output).absolute()
    try:
        if _is_archive(output):
            with _beside(target, folder=False) as temporary:
                temporary.write_bytes(_packed(files, _stem(target.name), int(time.time()) if moment is None else moment))
                temporary.chmod(0o600)
                temporary.replace(target)
        else:
            with _beside(target, folder=True) as temporary:
                for name, data in files.items():
                    file = temporary / name
                    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123  of a descriptor
                        stream.write(data)
                temporary.rename(target)
    except OSError as error:
        raise LiveError(f"{output}: cannot be written: {error.strerror or error}") from error


def _is_archive(output: str) -> bool:
    return output.endswith(_ARCHIVES)


def _stem(name: str) -> str:
    for ending in _ARCHIVES:
        name = name.removesuffix(ending)
    return name or "capture"


@contextlib.contextmanager
def _beside(target: Path, *, folder: bool) -> Iterator[Path]:
    """A new place beside `target`, which is gone afterwards unless it was renamed."""
    prefix = f".{target.name}."
    if folder:
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
    else:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix)
        os.close(descriptor)
        temporary = Path(name)
    try:
        yield temporary
    finally:
        if folder:
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _packed(files: Mapping[str, bytes], folder: str, moment: int) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=moment) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            member.mtime = moment
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
