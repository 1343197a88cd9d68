"""The gate's reasons: drawn on a terminal, in plain columns elsewhere, with all that there is to say."""

from __future__ import annotations

import sys

import pytest

from medloop.case import RuleOutcome, Verdict
from medloop.cli.verdict import show_verdict

NOTE = "not enough cases: need n >= 640 positives (have 43)"
VERDICT = Verdict(
    passed=False,
    rules=(
        RuleOutcome(name="not a smoke run", needed="a full run", found="a full run", passed=True),
        RuleOutcome(name="test_recall [x]", needed="> -0.05", found="-0.01", passed=False, n=43, note=NOTE),
    ),
    bundle="b" * 64,
    edition="e" * 16,
    created="2026-01-01",
    champion={
        "version": 3,
        "compared": True,
        "n": 114,
        "patients": 114,
        "only_challenger_right": 4,
        "only_champion_right": 6,
        "mcnemar_p": 0.7539,
        "auc_gain": {"value": 0.01, "lower": -0.02, "upper": 0.04, "p_value": 0.5},
    },
    looks=12,
    warnings=("it wears out",),
)


def test_in_a_file_it_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show_verdict(VERDICT)
    told = capsys.readouterr().out
    assert told.splitlines()[0].split() == ["rule", "needed", "found", "n"]
    assert "NO  test_recall [x]  > -0.05     -0.01       43" in told
    assert f"test_recall [x]: {NOTE}" in told
    assert "\x1b" not in told
    assert told.endswith(
        "against version 3 on 114 cases: only this one correct 4, only the champion 6 "
        "(McNemar p = 0.754)\n"
        "gain in AUC +0.0100 [-0.0200, +0.0400] (DeLong)\n"
        "edition eeeeeeee: 12 bundles were evaluated on it\n"
        "warning: it wears out\n"
    )


def test_on_a_terminal_it_is_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_verdict(VERDICT)
    told = capsys.readouterr().out
    assert "gate: " in told
    assert "refused" in told
    assert "test_recall [x]" in told
    assert "need n >= 640" in told
    assert "warning: it wears out" in told
