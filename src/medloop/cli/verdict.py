"""The verdict as a table: with lines on a terminal, in plain columns elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from medloop.cli.show import show_table

if TYPE_CHECKING:
    from medloop.case import RuleOutcome, Verdict
    from medloop.steps.project import Project

HEADER = ("", "rule", "needed", "found", "n")


@contextmanager
def showing_verdict(project: Project) -> Iterator[None]:
    """Show the verdict after a block that runs the gate, whether or not it passed."""
    from medloop.errors import GateRefusal

    try:
        yield
    except GateRefusal:
        _show_stored(project)
        raise
    _show_stored(project)


def show_verdict(verdict: Verdict) -> None:
    """Print every rule with its limit and value, then the comparisons and warnings."""
    rows = [_format_rule(rule) for rule in verdict.rules]
    if sys.stdout.isatty():
        _draw(verdict, rows)
    else:
        show_table(HEADER, rows)
        for rule in verdict.rules:
            if rule.note:
                typer.echo(f"  {rule.name}: {rule.note}")
    for line in _footer(verdict):
        typer.echo(line)


def _show_stored(project: Project) -> None:
    from medloop.registry.store import read_verdict

    show_verdict(read_verdict(project.work / "verdict.json"))


def _format_rule(rule: RuleOutcome) -> tuple[str, ...]:
    n = "" if rule.n is None else f"{rule.n:,}"
    return "ok" if rule.passed else "NO", rule.name, rule.needed, rule.found, n


def _draw(verdict: Verdict, rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    result = "[bold green]passed[/]" if verdict.passed else "[bold red]refused[/]"
    table = Table(*HEADER, title=f"gate: {result}", title_justify="left", show_lines=False)
    for rule, (_, *cells) in zip(verdict.rules, rows, strict=True):
        mark = "[green]ok[/]" if rule.passed else "[bold red]NO[/]"
        texts = [escape(cell) for cell in cells]
        if rule.note:
            texts[2] += f"\n[dim]{escape(rule.note)}[/]"
        table.add_row(mark, *texts)
    Console().print(table)


def _footer(verdict: Verdict) -> list[str]:
    lines = [
        *_format_comparison(verdict.champion, "the champion"),
        *_format_comparison(verdict.reference, "the reference version"),
    ]
    if verdict.looks:
        lines.append(f"edition {verdict.edition[:8]}: {verdict.looks} bundles were evaluated on it")
    return [*lines, *(f"warning: {warning}" for warning in verdict.warnings)]


def _format_comparison(other: dict[str, Any] | None, name: str) -> list[str]:
    if other is None or not other.get("compared"):
        return []
    opponent = f"version {other['version']}" if name == "the champion" else f"{name} {other['version']}"
    right = f"only this one correct {other['only_challenger_right']}, only {name} {other['only_champion_right']}"
    n, patients, p_value = other["n"], other["patients"], other["mcnemar_p"]
    cases = f"{n:,} cases" if patients == n else f"{n:,} cases of {patients:,} patients"
    lines = [f"against {opponent} on {cases}: {right} (McNemar p = {p_value:.3g})"]
    if (area := other.get("auc_gain")) and area["lower"] is not None:
        lines.append(f"gain in AUC {area['value']:+.4f} [{area['lower']:+.4f}, {area['upper']:+.4f}] (DeLong)")
    return lines
