"""The verdict of the gate: its file, and when two verdicts are the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from medloop.case import RuleOutcome, Verdict
from medloop.errors import GateRefusal, UserError
from medloop.registry.version import has_declared_types
from medloop.storage import read_json, write_json


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Write the verdict to a file."""
    write_json(path, asdict(verdict))


def read_verdict(path: Path) -> Verdict:
    """Read the verdict, or raise an error that says how to obtain one."""
    if not path.is_file():
        raise GateRefusal("There is no verdict on this model.", "Run `medloop gate`.")
    content = read_json(path)
    try:
        rules, warnings = tuple(RuleOutcome(**rule) for rule in content["rules"]), tuple(content.get("warnings", ()))
        verdict = Verdict(**{**content, "rules": rules, "warnings": warnings})
    except (TypeError, LookupError, AttributeError):
        verdict = None
    if verdict is None or not has_declared_types(verdict):
        raise UserError(f"{path.name} does not hold a verdict.", "Run `medloop gate`.")
    return verdict


def is_same_decision(first: Verdict, second: Verdict) -> bool:
    """Return whether two verdicts agree on rules, champion and decision; latencies may differ."""
    return _decision(first) == _decision(second)


def _decision(verdict: Verdict) -> tuple[Any, ...]:
    against = [(one or {}).get("bundle") for one in (verdict.champion, verdict.reference)]
    rules = [(rule.name, rule.needed, rule.passed) for rule in verdict.rules]
    return verdict.bundle, verdict.edition, verdict.passed, verdict.smoke, verdict.gate, against, rules
