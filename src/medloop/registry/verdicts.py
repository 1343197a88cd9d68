"""The gate's decision as a file, and when two decisions are the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from medloop.case import RuleOutcome, Verdict
from medloop.errors import GateRefusal
from medloop.storage import read_json, write_json


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Store the gate's decision."""
    write_json(path, asdict(verdict))


def read_verdict(path: Path) -> Verdict:
    """The gate's decision, or an error that says how to get one."""
    if not path.is_file():
        raise GateRefusal("a model needs the gate's verdict", found="none", hint="run `medloop gate`")
    content = read_json(path)
    rules, warnings = tuple(RuleOutcome(**rule) for rule in content["rules"]), tuple(content.get("warnings", ()))
    return Verdict(**{**content, "rules": rules, "warnings": warnings})


def is_same_decision(first: Verdict, second: Verdict) -> bool:
    """Whether two verdicts decide the same by the same rules, against the same champion; latencies vary."""
    return _decision(first) == _decision(second)


def _decision(verdict: Verdict) -> tuple[Any, ...]:
    against = [(one or {}).get("bundle") for one in (verdict.champion, verdict.reference)]
    rules = [(rule.name, rule.needed, rule.passed) for rule in verdict.rules]
    return verdict.bundle, verdict.edition, verdict.passed, verdict.smoke, verdict.gate, against, rules
