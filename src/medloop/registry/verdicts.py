"""The gate's decision as a file, and when two decisions are the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from medloop.case import RuleOutcome, Verdict
from medloop.errors import GateRefusal, UserError
from medloop.registry.shapes import is_as_declared
from medloop.storage import read_json, write_json


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Store the gate's decision."""
    write_json(path, asdict(verdict))


def read_verdict(path: Path) -> Verdict:
    """The gate's decision, or an error that says how to get one."""
    if not path.is_file():
        raise GateRefusal("a model needs the gate's verdict", found="none", hint="run `medloop gate`")
    content = read_json(path)
    try:
        rules, warnings = tuple(RuleOutcome(**rule) for rule in content["rules"]), tuple(content.get("warnings", ()))
        verdict = Verdict(**{**content, "rules": rules, "warnings": warnings})
    except (TypeError, LookupError, AttributeError):
        verdict = None
    if verdict is None or not is_as_declared(verdict):
        raise UserError(
            f"{path.name} does not hold the gate's decision", found="something else", hint="run `medloop gate`"
        )
    return verdict


def is_same_decision(first: Verdict, second: Verdict) -> bool:
    """Whether two verdicts decide the same by the same rules, against the same champion; latencies vary."""
    return _decision(first) == _decision(second)


def _decision(verdict: Verdict) -> tuple[Any, ...]:
    against = [(one or {}).get("bundle") for one in (verdict.champion, verdict.reference)]
    rules = [(rule.name, rule.needed, rule.passed) for rule in verdict.rules]
    return verdict.bundle, verdict.edition, verdict.passed, verdict.smoke, verdict.gate, against, rules
