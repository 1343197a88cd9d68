"""Settings: where things run, their precedence, and no secret in any message."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from medloop.errors import UnknownName, UserError
from medloop.settings import PREFIX, Settings, load_settings, pass_on_foreign_variables
from tests.slips import are_one_slip_apart, slips

SECRET = "hunter2-3f9a"  # pragma: allowlist secret


def sections_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {"": model}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = field.annotation
    return found


SECTIONS = sections_of(Settings)
KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


def write(folder: Path, name: str, content: Any) -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def load(folder: Path, variables: dict[str, str] | None = None) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (variables or {}).items():
            patch.setenv(name, value)
        return load_settings(folder)


def refusal(folder: Path, variables: dict[str, str] | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        load(folder, variables)
    return caught.value


def test_an_empty_folder_has_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings == Settings()
    assert settings.tracking.uri == "sqlite:///mlflow.db"
    assert settings.serve.host == "127.0.0.1"


@pytest.mark.parametrize("top", range(5))
def test_each_source_overrides_the_one_below(top: int, tmp_path: Path) -> None:
    environ = {}
    if top >= 1:
        write(tmp_path, "config.yaml", {"serve": {"port": 1001}})
    if top >= 2:
        write(tmp_path, "secrets.yaml", {"serve": {"port": 1002}})
    if top >= 3:
        write(tmp_path, ".env", "MEDLOOP_SERVE__PORT=1003\n")
    if top >= 4:
        environ["MEDLOOP_SERVE__PORT"] = "1004"
    assert load(tmp_path, environ).serve.port == (1000 + top if top else 8000)


def test_a_source_keeps_the_other_keys_of_a_section(tmp_path: Path) -> None:
    write(tmp_path, "config.yaml", {"serve": {"host": "0.0.0.1", "port": 1}, "storage": {"max_gib": 2}})
    write(tmp_path, "secrets.yaml", {"patient_key": SECRET})
    write(tmp_path, ".env", "MEDLOOP_SERVE__PORT=2\n")
    settings = load(tmp_path, {"MEDLOOP_STORAGE__MAX_ENTRIES": "7"})
    assert (settings.serve.host, settings.serve.port) == ("0.0.0.1", 2)
    assert (settings.storage.max_gib, settings.storage.max_entries) == (2, 7)
    assert settings.patient_key is not None
    assert settings.patient_key.get_secret_value() == SECRET


def test_a_section_whose_lines_are_all_comments_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "config.yaml", {"serve": {"port": 1}})
    write(tmp_path, "secrets.yaml", "serve:\n  # port: 2\n")
    assert load(tmp_path).serve.port == 1


def test_settings_made_in_code_read_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ".env", "MEDLOOP_SERVE__PORT=1003\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDLOOP_SERVE__PORT", "1004")
    assert Settings(work="w").serve.port == 8000


def test_an_empty_variable_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "secrets.yaml", {"patient_key": SECRET})
    settings = load(tmp_path, {"MEDLOOP_PATIENT_KEY": "", "MEDLOOP_SERVE__PORT": ""})
    assert settings.patient_key is not None
    assert settings.serve.port == 8000


@pytest.mark.parametrize("text", ["a.example, b.example", "[a.example, b.example]", '["a.example","b.example"]'])
def test_a_variable_can_hold_a_list(text: str, tmp_path: Path) -> None:
    settings = load(tmp_path, {"MEDLOOP_STORAGE__ALLOW_HOSTS": text})
    assert settings.storage.allow_hosts == ("a.example", "b.example")


@pytest.mark.parametrize("key", ["[abc", "{abc}", "*abc", "a: b", "null", "123", "  "])
def test_a_secret_in_a_variable_is_not_parsed(key: str, tmp_path: Path) -> None:
    settings = load(tmp_path, {"MEDLOOP_PATIENT_KEY": key})
    assert settings.patient_key is not None
    assert settings.patient_key.get_secret_value() == key


def test_other_variables_are_ignored(tmp_path: Path) -> None:
    assert load(tmp_path, {"HOME": "x", "MLFLOW_X": "y", "MEDLOOPY": "z"}) == Settings()


def test_the_name_of_the_user_is_a_setting(tmp_path: Path) -> None:
    assert load(tmp_path, {"MEDLOOP_USER": "ada"}).user == "ada"


@settings(deadline=None)
@given(place=st.sampled_from(KEYS), data=st.data())
def test_one_slip_in_a_key_is_refused_with_the_name_that_was_meant(
    place: tuple[str, str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    section, key = place
    typed = data.draw(slips(key))
    known = list(SECTIONS[section].model_fields)
    assume(len(typed) > 1 and typed not in known)
    folder = tmp_path_factory.mktemp("typo")
    write(folder, "config.yaml", {section: {typed: 1}} if section else {typed: 1})
    error = refusal(folder)
    assert isinstance(error, UnknownName)
    assert error.near in known
    assert are_one_slip_apart(typed, error.near)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "serv: {port: 1}"),
        ("secrets.yaml", "patient_kye: x"),
        (".env", "MEDLOOP_SERVE__PROT=1"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, name, text)
    error = refusal(tmp_path)
    assert isinstance(error, UnknownName)
    assert name in error.problem
    assert "Did you mean" in error.hint


def test_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, {"MEDLOOP_STORAGE__ALOW_HOSTS": "x"})
    assert isinstance(error, UnknownName)
    assert error.near == "allow_hosts"
    assert "the environment" in error.problem


@pytest.mark.parametrize("name", ["config.yaml", "secrets.yaml"])
def test_a_repeated_key_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, "serve:\n  port: 1\nserve:\n  port: 2\n")
    assert "line 3" in refusal(tmp_path).problem


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"MEDLOOP_SERVE": "a", "MEDLOOP_SERVE__PORT": "1"}, "MEDLOOP_SERVE__PORT"),
        ({"MEDLOOP_WORK__X": "1"}, "MEDLOOP_WORK__X"),
        ({"MEDLOOP_SERVE__PORT": "1", "MEDLOOP_SERVE__PORT__X": "1"}, "MEDLOOP_SERVE__PORT__X"),
        ({"MEDLOOP_WORK__X": "1", "MEDLOOP_WORK": "a"}, "MEDLOOP_WORK__X"),
        ({"MEDLOOP_SERVE": "{port: 1}"}, "serve: "),
        ({"MEDLOOP_SERVE__PORT__X": "1"}, "serve.port: "),
        ({"MEDLOOP_SERVE__": "1"}, "the environment.serve"),
        ({"MEDLOOP_SERVE__PORT": "many"}, "serve.port: "),
        ({"MEDLOOP_SERVE__PORT": "65536"}, "serve.port: "),
        ({"MEDLOOP_STORAGE__MAX_GIB": "nan"}, "storage.max_gib: "),
        ({"MEDLOOP_STORAGE__MAX_GIB": "-1"}, "storage.max_gib: "),
    ],
)
def test_a_wrong_variable_is_an_error_that_names_it(variables: dict[str, str], named: str, tmp_path: Path) -> None:
    assert named in refusal(tmp_path, variables).problem


HOW_SECRETS_GO_WRONG = {
    "an open quote": f"patient_key: '{SECRET}",
    "an open bracket": f"patient_key: [{SECRET}",
    "an alias": f"patient_key: *{SECRET}",
    "a tag": f"patient_key: !{SECRET} x",
    "a colon too many": f"patient_key: {SECRET}: b: c",
    "a wrong indent": f"patient_key: {SECRET}\n  other: 1",
    "a tab": f"patient_key:\n\t{SECRET}",
    "a list": f"patient_key: [{SECRET}]",
    "a mapping": f"patient_key: {{{SECRET}: 1}}",
    "no key at all": SECRET,
    "a list for a file": f"- {SECRET}",
    "a control character": f"patient_key: {SECRET}\x07",
    "in a section": f"serve: {SECRET}",
    "in a number": f"serve: {{port: {SECRET}}}",
    "under a misspelt key": f"patient_kye: {SECRET}",
    "twice": f"patient_key: {SECRET}\npatient_key: {SECRET}",
    "with a password in an address": f"tracking: {{uri: [https://me:{SECRET}@host]}}",
}


@pytest.mark.parametrize("name", ["config.yaml", "secrets.yaml"])
@pytest.mark.parametrize("text", HOW_SECRETS_GO_WRONG.values(), ids=HOW_SECRETS_GO_WRONG)
def test_no_error_shows_a_secret_of_a_file(text: str, name: str, tmp_path: Path) -> None:
    write(tmp_path, name, text)
    error = refusal(tmp_path)
    assert name in str(error)
    assert SECRET not in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("variable", ["MEDLOOP_SERVE__PORT", "MEDLOOP_SERVE", "MEDLOOP_PATIENT_KYE", "MEDLOOP_STORAGE"])
@pytest.mark.parametrize("value", [SECRET, f"[{SECRET}", f"{{a: {SECRET}}}"])
def test_no_error_shows_a_secret_of_a_variable(variable: str, value: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, {variable: value})
    assert SECRET not in "".join(traceback.format_exception(error))


def test_settings_do_not_print_the_key(tmp_path: Path) -> None:
    settings = load(tmp_path, {"MEDLOOP_PATIENT_KEY": SECRET})
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_a_dotenv_of_another_encoding_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MEDLOOP_PATIENT_KEY=ä".encode("utf-16"))
    error = refusal(tmp_path)
    assert ".env is not UTF-8" in str(error)
    assert "ä" not in "".join(traceback.format_exception(error))


def test_other_tools_get_their_variables_and_the_environment_goes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, ".env", "AWS_REGION=from-file\nMLFLOW_TRACKING_URI=from-file\nMEDLOOP_WORK=w\nPATH_OF_MINE=x\n")
    monkeypatch.setenv("AWS_REGION", "from-shell")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "to be removed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    pass_on_foreign_variables(tmp_path)
    assert os.environ["AWS_REGION"] == "from-shell"
    assert os.environ["MLFLOW_TRACKING_URI"] == "from-file"
    assert "MEDLOOP_WORK" not in os.environ
    assert "PATH_OF_MINE" not in os.environ
