"""Compare what kube-proxy has programmed on a node with what the Kubernetes objects ask for, offline.

The library in five calls; each is imported where it is first used, so that importing `ruleaudit` costs nothing:

    sources = ruleaudit.read(["iptables-save.txt", "objects.json"])      # files, folders, archives, "-"
    report = ruleaudit.audit_inputs(sources, node="node-a")              # findings, what they rest on, what was not checked

    dump = ruleaudit.parse(text, "iptables-save.txt")                    # the faithful model of a dump
    cluster = ruleaudit.load([("objects.json", data)])                   # the objects
    evaluator = ruleaudit.Evaluator(ruleaudit.Ruleset(4, dump.tables), ruleaudit.Host(frozenset({"192.0.2.1"})))
    outcomes, affinity = evaluator.evaluate(ruleaudit.Packet(4, "tcp", "198.18.0.1", "10.96.0.1", 443))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ruleaudit.version import __version__

if TYPE_CHECKING:
    from ruleaudit.audit import UnknownNodeError, audit_inputs
    from ruleaudit.cluster.load import Cluster, load
    from ruleaudit.dataplane.evaluator import Evaluator
    from ruleaudit.dataplane.packet import Host, Packet
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.dumps.rules import Dump
    from ruleaudit.errors import InputError, RuleauditError
    from ruleaudit.findings import Certainty, Finding, Report, Severity
    from ruleaudit.formats.iptables_save import parse
    from ruleaudit.forwarding import Forwarding, Frontend, FrontendKind, Vantage, Verdict
    from ruleaudit.kubeproxy.settings import read_settings
    from ruleaudit.sources import Source, read

__all__ = [
    "Certainty",
    "Cluster",
    "Dump",
    "Evaluator",
    "Finding",
    "Forwarding",
    "Frontend",
    "FrontendKind",
    "Host",
    "InputError",
    "Outcome",
    "Packet",
    "Report",
    "RuleauditError",
    "Ruleset",
    "Severity",
    "Source",
    "UnknownNodeError",
    "Vantage",
    "Verdict",
    "__version__",
    "audit_inputs",
    "load",
    "parse",
    "read",
    "read_settings",
]

_PLACES = {
    **dict.fromkeys(("UnknownNodeError", "audit_inputs"), "ruleaudit.audit"),
    **dict.fromkeys(("Cluster", "load"), "ruleaudit.cluster"),
    "Evaluator": "ruleaudit.dataplane.evaluator",
    "Ruleset": "ruleaudit.dataplane.ruleset",
    "Outcome": "ruleaudit.dataplane.walk",
    **dict.fromkeys(("Host", "Packet"), "ruleaudit.dataplane.packet"),
    **dict.fromkeys(("InputError", "RuleauditError"), "ruleaudit.errors"),
    **dict.fromkeys(("Certainty", "Finding", "Report", "Severity"), "ruleaudit.findings"),
    "parse": "ruleaudit.formats.iptables_save",
    **dict.fromkeys(("Forwarding", "Frontend", "FrontendKind", "Vantage", "Verdict"), "ruleaudit.forwarding"),
    "Dump": "ruleaudit.dumps.rules",
    "read_settings": "ruleaudit.kubeproxy.settings",
    **dict.fromkeys(("Source", "read"), "ruleaudit.sources"),
}


def __getattr__(name: str) -> object:
    """Import a public name where it is first used (PEP 562). AttributeError for any other."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'ruleaudit' has no attribute {name!r}")
    return getattr(import_module(place), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
