"""What ipvsadm, ipset and ip printed on every captured node, and every sample of their formats: all is read, and comes back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.dumps.virtual_servers import IpvsDump
from ruleaudit.errors import InputError
from ruleaudit.formats import ip_addr, ipset, ipvsadm
from ruleaudit.sources import InputKind, read, recognise

if TYPE_CHECKING:
    from collections.abc import Callable

    from ruleaudit.dumps.lines import Lines

PARSERS: dict[str, Callable[[str, str], Lines]] = {
    "ipvsadm*.txt": ipvsadm.parse,
    "ipset.txt": ipset.parse,
    "ip-addr*.json": ip_addr.parse,
}
KINDS = {
    "ipvsadm*.txt": InputKind.IPVSADM,
    "ipset.txt": InputKind.IPSET,
    "ip-addr*.json": InputKind.IP_ADDR,
    "ip-rule*.txt": InputKind.IP_ROUTE,
}


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of format samples; skips where there is none: RULEAUDIT_SAMPLES names it."""
    folder = Path(os.environ.get("RULEAUDIT_SAMPLES") or Path(__file__).parents[3] / "shared" / "samples")
    if not folder.is_dir():
        pytest.skip("no samples: set RULEAUDIT_SAMPLES to their folder")
    return folder


@pytest.mark.parametrize("pattern", PARSERS)
def test_captured_dumps_come_back_without_a_problem(pattern: str, capture_folders: list[Path]) -> None:
    files = [file for folder in capture_folders for file in sorted(folder.glob(pattern))]
    assert files
    for file in files:
        text = file.read_text()
        dump = PARSERS[pattern](text, str(file))
        assert dump.render() == text, file
        assert (dump.problems, dump.notes) == ([], []), file
        if isinstance(dump, IpvsDump):
            assert all(listing.whole for listing in dump.listings), file


@pytest.mark.parametrize("pattern", KINDS)
def test_captured_dumps_are_known_by_their_content(pattern: str, capture_folders: list[Path]) -> None:
    for folder in capture_folders:
        for file in sorted(folder.glob(pattern)):
            assert recognise(file.read_text()).kind in (KINDS[pattern], InputKind.EMPTY), file


def test_listing_and_commands_of_a_node_agree(capture_folders: list[Path]) -> None:
    for folder in capture_folders:
        if not (folder / "ipvsadm-save.txt").is_file():
            continue
        listed, saved = (
            {
                server.name: (
                    server.scheduler,
                    server.flags,
                    server.persistence,
                    {(real.address, real.port, real.forwarding, real.weight) for real in server.real_servers},
                )
                for server in ipvsadm.parse((folder / name).read_text(), name).servers()
            }
            for name in ("ipvsadm.txt", "ipvsadm-save.txt")
        )
        assert listed == saved, folder


def refusal(file: Path) -> str | None:
    """Why a named file is refused; None where it is read, and comes back."""
    try:
        (source,) = read([str(file)])
        parsers: dict[InputKind, Callable[[str, str], Lines]] = {InputKind.IPVSADM: ipvsadm.parse, InputKind.IPSET: ipset.parse}
        if source.kind is not InputKind.EMPTY:
            dump = parsers[source.kind](source.text, source.path)
            assert dump.render() == source.text, file
            assert dump.problems == [], file
    except InputError as error:
        return error.message
    return None


def test_every_sample_of_ipset_is_read(samples: Path) -> None:
    files = [*sorted((samples / "ipset").glob("*.txt")), *sorted((samples / "versions").glob("*-ipset-*.txt"))]
    assert files
    assert {file.name: refusal(file) for file in files} == {file.name: None for file in files}


def test_every_sample_of_ipvsadm_is_read_or_refused_with_advice(samples: Path) -> None:
    files = [*sorted((samples / "ipvs").glob("*.txt")), *sorted((samples / "versions").glob("*-ipvsadm-*.txt"))]
    assert files
    advice = {
        "proc-ip_vs": "a file of /proc/net",
        "version": "the version of a tool",
        "-Lnc": "the table of connections",
        "-Lc": "the table of connections",
        "timeout": "timeouts or sync daemons",
        "-L.": "names instead of numbers",
        "-L-names": "names instead of numbers",
        "noargs": "names instead of numbers",
        "kube-S.": "names instead of numbers",
        "kube-save.": "names instead of numbers",
    }
    for file in files:
        expected = next((text for part, text in advice.items() if part in file.name), None)
        found = refusal(file)
        if not file.read_text().strip() or file.name == "empty-L.txt":
            expected = None
        assert (found is None) == (expected is None), (file, found)
        assert (expected or "") in (found or ""), file
