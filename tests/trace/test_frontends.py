"""Every frontend of real nodes from every vantage point: a trace ends where the objects ask for, and names rules that are there."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.trace.every_frontend import OUTSIDE, ask_everything, ends_of, local_pod

from ruleaudit.findings import Certainty
from ruleaudit.forwarding import FrontendKind, Verdict, equal_shares
from ruleaudit.trace import Nodes, read_nodes, trace
from ruleaudit.ways.ingress import backend_of, ingress_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.trace import Trace
    from ruleaudit.trace.values import RuleUse

FEATURES = tuple(f"features-{minor}-{mode}" for minor in ("1.20", "1.30", "1.36") for mode in ("iptables", "ipvs"))


def rules_of(found: Trace) -> Iterator[RuleUse]:
    for step in found.all_steps():
        yield from step.rules
    for outcome in found.outcomes:
        yield from outcome.rules


def judge(found: Trace, files: dict[str, list[str]]) -> None:
    assert sum(one.share for one in found.outcomes) == pytest.approx(1)
    for rule in rules_of(found):
        lines = files.setdefault(rule.file, Path(rule.file).read_text().splitlines())
        assert lines[rule.line - 1] == rule.text


def check_frontends(nodes: Nodes) -> int:
    """How many questions were asked; every one of them ends as the objects ask for."""
    count = 0
    files: dict[str, list[str]] = {}
    for frontend, vantage, found in ask_everything(nodes):
        count += 1
        judge(found, files)
        asked = found.expected[0]
        where = f"{frontend} from {vantage.value}: {found.answer}"
        # A load balancer with ipMode Proxy goes to the node port, whether or not this release knows the field.
        proxied = asked.frontend.kind is FrontendKind.NODE_PORT and frontend.kind is FrontendKind.LOAD_BALANCER_IP
        assert asked.frontend == frontend or proxied, where
        assert asked.same is not False, where
        assert not {one.code for one in found.findings} - {"RA701"}, where
        wanted = asked.forwarding
        if wanted is None:
            continue
        verdicts = {one.verdict for one in found.outcomes}
        if wanted.verdict is Verdict.FORWARD:
            assert equal_shares(wanted.backends, ends_of(found)), where
        else:
            assert not ends_of(found), where
            assert verdicts & {wanted.verdict, Verdict.PASS, Verdict.LOCAL, Verdict.DROP, Verdict.REJECT} == verdicts, where
        ready = all(one.endpoint is not None and one.endpoint.ready for one in found.outcomes)
        definite = all(one.certainty is Certainty.DEFINITE for one in found.outcomes)
        assert found.reached is (wanted.verdict is Verdict.FORWARD and ready and definite), where
    return count


def check_ingresses(nodes: Nodes) -> int:
    """Every path of every Ingress, from outside: reached exactly where its backend is there and has a ready endpoint."""
    count = 0
    cluster = nodes.cluster
    for (namespace, _), ingress in cluster.ingresses.items():
        for path in ingress_paths(ingress):
            if path.path is None:
                continue
            count += 1
            backend = backend_of(cluster, namespace, path.backend)
            found = trace(nodes, OUTSIDE[4], f"http://{path.host}{path.path}")
            judge(found, {})
            where = f"{path}: {found.answer}"
            ready = backend.service is not None and any(
                endpoint.conditions is None or endpoint.conditions.ready is not False
                for piece in cluster.slices_of(*backend.service.metadata.key)
                for endpoint in piece.endpoints
            )
            assert found.reached is (backend.problem is None and ready), where
            codes = {one.code for one in found.findings}
            assert ("RA704" in codes) is backend.broken, where
            if backend.problem is None:
                ways = {one.way[-1].label for one in found.outcomes if one.way}
                assert ways == {"by the Service", "straight to its endpoints"}, where
    return count


@pytest.mark.parametrize(("name", "count"), [("healthy", 464), ("ipvs-healthy", 648)])
def test_bundled_healthy_nodes(nodes: Path, name: str, count: int) -> None:
    opened = read_nodes([str(nodes / name)])
    assert local_pod(opened) is not None
    assert check_frontends(opened) == count
    assert check_ingresses(opened) == 6


@pytest.mark.parametrize("name", FEATURES)
def test_features(name: str, capture_folders: Sequence[Path]) -> None:
    folder = next((one for one in capture_folders if one.name == name), None)
    if folder is None:
        pytest.skip(f"no capture {name}")
    opened = read_nodes([str(folder)])
    assert check_frontends(opened) > 380
    assert check_ingresses(opened) == 6


def _truth(folder: Path) -> dict[str, object]:
    for path in folder.glob("truth.json*"):
        data = path.read_bytes()
        found = json.loads(lzma.decompress(data) if path.suffix == ".xz" else data)
        assert isinstance(found, dict)
        return found
    return {}


SHOWN = (
    "dnat-port-changed",
    "dnat-destination-changed",
    "clusterip-jump-to-wrong-svc",
    "foreign-accept-nat-before-services",
    "foreign-dnat-nodeport",
    "foreign-drop-before-kube-forward",
    "foreign-drop-raw-clusterip",
    "foreign-notrack",
)
"""What was changed or added in these can be met by a packet: a trace that meets it shows it, and says that it is wrong."""


def test_tampered_rules_are_shown(capture_folders: Sequence[Path], subtests: pytest.Subtests) -> None:
    folders = [one for one in capture_folders if one.name.startswith("tamper-") and one.name.endswith(SHOWN)]
    folders = [one for one in folders if "nftables" not in one.name]
    if not folders:
        pytest.skip("no tampered captures")
    for folder in folders:
        with subtests.test(capture=folder.name):
            added = _truth(folder)["lines_added"]
            assert isinstance(added, list)
            rules = {line for line in added if line.startswith("-A ")}
            shown = {
                rule.text: found
                for _, _, found in ask_everything(read_nodes([str(folder)]))
                for rule in rules_of(found)
                if rule.text in rules
            }
            assert shown.keys() == rules
            assert all(any(one.same is False for one in found.expected) and found.findings for found in shown.values())
