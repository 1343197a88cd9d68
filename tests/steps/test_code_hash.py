"""The hash of the code that a stage runs covers every module and template."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import medloop
from medloop.steps.inputs import WORDS, code_hash
from medloop.steps.stages import STAGES

PACKAGE = Path(medloop.__file__).parent


@pytest.mark.parametrize("name", STAGES)
def test_every_part_of_the_code_exists(name: str) -> None:
    assert [part for part in (*WORDS, *STAGES[name].packages) if not (PACKAGE / part).exists()] == []


@pytest.mark.parametrize("file", ["page/templates/base.html", "page/templates/style.css", "audit/findings.py"])
def test_a_changed_file_changes_the_hash(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "medloop"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(medloop, "__file__", str(copy / "__init__.py"))
    before = code_hash(STAGES["audit"])
    with (copy / file).open("a", encoding="utf-8") as stream:
        stream.write("\n")
    assert code_hash(STAGES["audit"]) != before
