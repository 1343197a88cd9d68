"""What the README tells a newcomer to type works, in the order in which it tells it."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sklearn.datasets import load_breast_cancer

from medloop.recipe import Recipe, validated

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent


def block(name: str) -> list[str]:
    match = re.search(rf"<!-- test: {name} -->\n```bash\n(.*?)```", README, re.DOTALL)
    assert match, f"README has no block {name}"
    return [line for line in match[1].splitlines() if line.strip()]


def type_in(lines: list[str], folder: Path) -> Path:
    """Run the lines one after another; `cd` moves on as it does in a shell."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for line in lines:
        words = shlex.split(line)
        if words[0] == "cd":
            folder /= words[1]
            continue
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        allowed = (0, 3) if line == "medloop run" else (0,)
        assert done.returncode in allowed, f"{line}\n{done.stdout}\n{done.stderr}"
    return folder


def write_biopsies(path: Path) -> None:
    bunch = load_breast_cancer()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["diagnosis", *bunch.feature_names])
        writer.writerows([["MB"[target], *row] for target, row in zip(bunch.target, bunch.data.tolist(), strict=True)])


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    write_biopsies(folder / "biopsies.csv")
    return type_in(block("table"), folder)


def test_a_project_from_a_csv_file_asks_for_the_positive_class_and_then_runs(typed: Path) -> None:
    asked = subprocess.run([BIN / "medloop", "run"], cwd=typed, capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "Name the positive class" in asked.stderr
    recipe = typed / "params.yaml"
    text = recipe.read_text("utf-8").replace("  label: diagnosis\n", "  label: diagnosis\n  positive: [M]\n")
    recipe.write_text(text.replace("  folds: 10\n", "  folds: 3\n"), "utf-8")
    run = [line for line in block("run") if line != "medloop serve"]
    type_in(run, typed)
    assert (typed / "MODEL_SELECTION.md").is_file()
    with (typed / "answers.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 569


def test_the_recipes_of_the_readme_are_recipes() -> None:
    texts = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    recipes = [validated(Recipe, yaml.safe_load(text), where="README") for text in texts]
    assert [recipe.data.source for recipe in recipes] == ["folder", "csv", "csv"]
    assert [len(recipe.gate.rules) for recipe in recipes] == [4, 4, 1]


def test_every_command_of_the_table_exists() -> None:
    from medloop.cli import app

    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    named = set(re.findall(r"(?:`|^    )medloop ([a-z]+)", README + operations, re.MULTILINE))
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    assert named <= known


@pytest.mark.parametrize("address", sorted(set(re.findall(r"\]\(((?:docs/[a-z]+|[A-Z]+)(?:\.md)?)\)", README))))
def test_links_lead_to_files(address: str) -> None:
    assert (ROOT / address).is_file()
