"""`medloop new` writes a project that works as it is, whatever it is called and wherever its data lie."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from medloop.cli.project import make_project
from medloop.errors import UserError
from medloop.recipe import Recipe, load_recipe
from medloop.scaffold.project import LIKE, yaml_text
from medloop.settings import Settings, load_settings
from tests.loop_project import medloop


@pytest.mark.parametrize("like", LIKE)
def test_a_new_project_holds_a_recipe_settings_and_a_pipeline_but_no_python(tmp_path: Path, like: str) -> None:
    project = make_project(tmp_path / "mine", like=like)
    names = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert {"params.yaml", "config.yaml", "dvc.yaml", "README.md", ".gitignore", "medloop-lock.yaml"} <= names
    assert not [name for name in names if name.endswith((".py", ".ipynb"))]
    assert load_recipe(project).name == "mine"
    assert list(yaml.safe_load((project / "dvc.yaml").read_text("utf-8"))["stages"])[:2] == ["lock", "ingest"]


def test_the_settings_that_are_written_out_are_the_defaults(tmp_path: Path) -> None:
    project = make_project(tmp_path / "mine", like="breast-cancer")
    assert load_settings(project) == Settings()


@pytest.mark.parametrize("like", ["breast-cancer", "chest-ct"])
def test_the_positive_class_is_named(tmp_path: Path, like: str) -> None:
    recipe: Recipe = load_recipe(make_project(tmp_path / "mine", like=like))
    assert recipe.data.positive
    assert set(recipe.data.positive) <= set(recipe.data.classes)


@pytest.mark.parametrize("like", ["chest-ct", "medical-mnist"])
def test_a_network_that_is_trained_whole_has_calibration_cases_of_their_own(tmp_path: Path, like: str) -> None:
    recipe = load_recipe(make_project(tmp_path / "mine", like=like))
    assert recipe.train.mode == "finetune"
    assert (recipe.split.val, recipe.split.calib) == (0.1, 0.1)


@pytest.mark.parametrize("name", ["a", "true", "null", "No", "PROJECT", "DATA_PATH", "x" * 100, "a.b-c_d", "e5"])
def test_any_allowed_name_survives_the_template(tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path / name, like="breast-cancer")
    assert load_recipe(project).name == name
    with_data = make_project(tmp_path / "data" / name, like="breast-cancer", data="s3://bucket/x.csv", label="y")
    assert load_recipe(with_data).name == name


@pytest.mark.parametrize("name", ["1x", "a b", "-x", "x" * 101, "ä", ".x", "a\nb"])
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        make_project(tmp_path / name, like="breast-cancer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("label", ["y", "yes", "null", "12", "a: b", "'quoted'", "# no", "Größe", "DATA_PATH", "[x]"])
@pytest.mark.parametrize("path", ["t.csv", "with space.csv", "it's: here #1.csv", "PROJECT.csv"])
def test_any_file_and_column_survive_the_template(
    tmp_path: Path, path: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_recipe(make_project(tmp_path / "mine", like="breast-cancer", data=path, label=label)).data
    assert (data.source, data.path, data.label) == ("csv", str(tmp_path / path), label)
    ingest = yaml.safe_load((tmp_path / "mine" / "dvc.yaml").read_text("utf-8"))["stages"]["ingest"]
    assert ingest["deps"] == [str(tmp_path / path)]


@pytest.mark.parametrize("address", ["https://example.org/t.csv", "s3://bucket/t.csv"])
def test_a_remote_table_is_kept_as_an_address(tmp_path: Path, address: str) -> None:
    project = make_project(tmp_path / "mine", like="breast-cancer", data=address, label="y")
    assert load_recipe(project).data.path == address
    assert "deps" not in yaml.safe_load((project / "dvc.yaml").read_text("utf-8"))["stages"]["ingest"]


def test_an_existing_project_is_left_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path / "mine", like="breast-cancer")
    (project / "params.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="already exists"):
        make_project(project, like="breast-cancer")
    assert (project / "params.yaml").read_text("utf-8") == "mine"


def test_the_readme_names_commands_that_exist(tmp_path: Path) -> None:
    text = (make_project(tmp_path / "mine", like="breast-cancer") / "README.md").read_text("utf-8")
    commands = re.findall(r"^ +medloop (.+?)(?:  |$)", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert medloop(*command.split(), "--help", cwd=tmp_path).code == 0, command
    assert "PROJECT" not in text


def test_what_is_made_and_what_is_secret_is_not_committed(tmp_path: Path) -> None:
    ignored = (make_project(tmp_path / "mine", like="breast-cancer") / ".gitignore").read_text("utf-8").split()
    assert {".env", "secrets.yaml", "work/", "models/", "logs/", "mlflow.db", "mlruns/"} <= set(ignored)


@pytest.mark.parametrize("text", ["plain", "yes", "1.0", "", "a: b", "multi\nline", "x" * 500, "'", '"', "\t", "日本"])
def test_a_text_is_read_back_from_yaml_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"key: {yaml_text(text)}") == {"key": text}
