"""Help names every command, and what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.steps.stages import OUTCOMES, STAGES
from tests.loop_project import medloop

COMMANDS = [
    *STAGES,
    *OUTCOMES,
    *("new", "run", "compare", "predict", "serve", "models", "doctor", "demo", "lock", "backup", "restore"),
]


def test_help_names_every_command_with_a_sentence(tmp_path: Path) -> None:
    said = medloop("--help", cwd=tmp_path)
    lines = dict(
        line.split(maxsplit=1) for line in said.out.splitlines() if line.startswith("  ") and " " in line.strip()
    )
    assert said.code == 0
    assert set(COMMANDS) <= set(lines)
    assert all(lines[name][0].isupper() for name in COMMANDS)


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    said = medloop(cwd=tmp_path)
    assert "  compare " in said.out + said.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, name: str) -> None:
    said = medloop(name, "--help", cwd=tmp_path)
    assert said.code == 0
    assert "--help" in said.out
    assert list(tmp_path.iterdir()) == []


def test_the_store_has_its_five_commands(tmp_path: Path) -> None:
    said = medloop("models", "--help", cwd=tmp_path)
    assert all(f"  {name} " in said.out for name in ("list", "show", "promote", "rollback", "verify"))


@pytest.mark.parametrize("words", [["trane"], ["run", "--fast"], ["run", "--k-folds", "1"], ["models", "promote", "x"]])
def test_a_word_that_is_no_command_ends_with_2(tmp_path: Path, words: list[str]) -> None:
    said = medloop(*words, cwd=tmp_path)
    assert said.code == 2
    assert "Usage" in said.err
