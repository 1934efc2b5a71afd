"""Captures of this node, or of every node of a cluster from outside; with the objects of the cluster, where it is asked."""

from __future__ import annotations

import platform
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ruleaudit.live.capture import About, capture_files
from ruleaudit.live.cluster import read_objects
from ruleaudit.live.dumps import Kernel, take
from ruleaudit.live.errors import LiveError, Missing
from ruleaudit.live.execute import pod_settings, proxy_pods, runner
from ruleaudit.live.node import read_node, tool_versions
from ruleaudit.live.objects import documents, reduced_objects
from ruleaudit.near import unknown
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ruleaudit.live.cluster import Connection
    from ruleaudit.live.execute import ProxyPod
    from ruleaudit.sources import Source

__all__ = ["SELECTOR", "Collected", "collect_cluster", "collect_node", "collect_objects"]

SELECTOR: Final = "k8s-app=kube-proxy"
"""The label of kube-proxy's pods as kubeadm, kops, EKS and AKS set it; GKE has component=kube-proxy."""
AT_ONCE: Final = 8
"""So many nodes are read at the same time."""
_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OBJECTS: Final = "objects.json"


@dataclass(frozen=True, slots=True)
class Collected:
    """The files of a capture, by their path in it; the nodes in it; and those that could not be read, each with why.

    `partial`: the nodes in it of whose rules not all could be read, each with why.
    """

    files: Mapping[str, bytes]
    nodes: tuple[str, ...]
    failures: Mapping[str, str]
    partial: Mapping[str, str] = field(default_factory=dict)


def collect_node(
    timeout: float, name: str | None, connection: Connection | None = None, progress: Callable[[str, float], None] | None = None
) -> Collected:
    """The node that this runs on, and the objects where there is a connection. `name`: the Node that this is. Raises LiveError."""
    began = time.time()
    live = read_node(timeout)
    files, missing = _objects(connection, progress)
    about = About(
        began=began,
        node=name,
        hostname=live.hostname,
        version=None if live.proxy is None else live.proxy.version,
        mode=None if live.proxy is None else live.proxy.mode,
        kernel=platform.release(),
        tools=tool_versions(live.dumps),
    )
    dumps = [*live.dumps.dumps, *(() if live.proxy is None else live.proxy.dumps)]
    files = {**capture_files(dumps, [*live.dumps.missing, *missing], about), **files}
    called = name or live.hostname
    return Collected(files, (called,), {}, _partial({called: live.dumps.unread}))


def collect_objects(connection: Connection, progress: Callable[[str, float], None] | None = None) -> Collected:
    """Nothing but the objects. Raises LiveError."""
    files, missing = _objects(connection, progress)
    return Collected(files, (), {one.what: one.message for one in missing})


def collect_cluster(
    connection: Connection, selector: str, names: Sequence[str] = (), progress: Callable[[str, float], None] | None = None
) -> Collected:
    """Every node, or those of `names`, through its kube-proxy pod, and the objects.

    One node that is asked for lies at the top of the capture, several in a folder each. Raises LiveError where none can be read.
    """
    sources = read_objects(connection, progress)
    lost = [one for one in sources if one.kind is InputKind.ABSENT]
    present = [one for one in sources if one.kind is InputKind.OBJECTS]
    pods = proxy_pods(connection, selector)
    nodes = _nodes(present)
    failures = {
        name: unknown("node", name, nodes, cutoff=0.4)
        if nodes and name not in nodes
        else f"no running pod with the label {selector} is on it"
        for name in names or [one for one, system in nodes.items() if system == "linux"]
        if name not in pods
    }
    chosen = [pod for name, pod in sorted(pods.items()) if not names or name in names]
    missing = [Missing(one.path, one.reason, one.hint) for one in lost]
    files: dict[str, bytes] = {}
    unread: dict[str, Sequence[Missing]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = {pod.node: pool.submit(_collect_pod, connection, pod, missing) for pod in chosen}
        for number, (node, result) in enumerate(results.items()):
            if progress is not None:
                progress(f"node {node}", number / len(results))
            try:
                found, unread[node] = result.result()
            except LiveError as error:
                failures[node] = str(error)
                continue
            if _FOLDER.fullmatch(node) is None:
                failures[node] = "its name is none that a folder can have"
                continue
            folder = f"Node-{node}" if node == _OBJECTS else node  # no Node has a capital in its name
            files.update({(name if len(names) == 1 else f"{folder}/{name}"): data for name, data in found.items()})
    read = tuple(node for node in results if node not in failures)
    if not read:
        raise LiveError("; ".join(why if name in why else f"{name}: {why}" for name, why in list(failures.items())[:3]))
    files[_OBJECTS] = reduced_objects(present)
    return Collected(files, read, failures, _partial({node: unread[node] for node in read}))


def _partial(unread: Mapping[str, Sequence[Missing]]) -> dict[str, str]:
    """The nodes of whose rules something was not read, with why."""
    return {node: "; ".join(one.message for one in missing) for node, missing in unread.items() if missing}


def _objects(
    connection: Connection | None, progress: Callable[[str, float], None] | None
) -> tuple[dict[str, bytes], list[Missing]]:
    if connection is None:
        return {}, []
    sources = read_objects(connection, progress)
    missing = [Missing(one.path, one.reason, one.hint) for one in sources if one.kind is InputKind.ABSENT]
    return {_OBJECTS: reduced_objects(one for one in sources if one.kind is InputKind.OBJECTS)}, missing


def _nodes(sources: Sequence[Source]) -> dict[str, str]:
    """The names of the Nodes, with their system: only the kube-proxy of a Linux writes such rules. Nothing where they could not be listed."""
    found = {}
    for source in sources:
        for kind, _, item in documents(source) if source.path.endswith("/nodes") else ():
            if kind == "Node":
                found[str(item["metadata"]["name"])] = str(
                    (item["metadata"].get("labels") or {}).get("kubernetes.io/os", "linux")
                )
    return dict(sorted(found.items()))


def _collect_pod(connection: Connection, pod: ProxyPod, missing: Sequence[Missing]) -> tuple[dict[str, bytes], Sequence[Missing]]:
    """The files of a node, and what could not be read of its rules. `missing`: of the objects. Raises LiveError."""
    began = time.time()
    run = runner(connection, pod)
    try:
        dumps = take(run, Kernel())
    except LiveError as error:
        if str(error) != "there is no iptables-save":
            raise
        raise LiveError(
            f"{pod} on {pod.node}: its image has no iptables-save: use `ruleaudit collect --script` on the node"
        ) from error
    settings, unread = pod_settings(connection, pod)
    said = run((pod.words[0] if pod.words and pod.words[0].endswith("kube-proxy") else "kube-proxy", "--version"))
    version = said.out.decode("utf-8", "replace").strip() if said.status == 0 else ""
    about = About(
        began=began, node=pod.node, version=version or pod.image.rpartition("/")[2] or None, tools=tool_versions(dumps, run)
    )
    hints = [
        one._replace(hint=f"use `ruleaudit collect --script` on the node: the image of {pod} does not have it")
        if "there is no" in one.message
        else one
        for one in dumps.missing
    ]
    return capture_files([*dumps.dumps, *settings], [*hints, *unread, *missing], about), dumps.unread
