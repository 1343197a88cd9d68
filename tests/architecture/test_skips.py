"""The rules of tests/conftest.py, tried on a small set of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"

PASSES = "import pytest\ndef test_passes():\n    assert True\n"
SKIPS = {
    "marker": "@pytest.mark.skip(reason='no browser')\ndef test_x(): ...",
    "condition": "@pytest.mark.skipif(True, reason='no browser')\ndef test_x(): ...",
    "call": "def test_x():\n    pytest.skip('no browser')",
    "fixture": "@pytest.fixture\ndef browser():\n    pytest.skip('no browser')\ndef test_x(browser): ...",
    "module": "pytest.skip('no browser', allow_module_level=True)",
}
SOAK = "@pytest.mark.soak\ndef test_long():\n    assert True"


@pytest.fixture
def planted(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    return pytester


@pytest.mark.parametrize("text", SKIPS.values(), ids=SKIPS)
def test_a_skip_fails_in_ci_and_says_why(text: str, planted: pytest.Pytester) -> None:
    planted.makepyfile(PASSES + text)
    done = planted.runpytest()
    assert done.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert "cannot run proves nothing (Skipped: no browser)" in done.stdout.str()


@pytest.mark.parametrize("text", SKIPS.values(), ids=SKIPS)
def test_a_skip_is_accepted_elsewhere(text: str, planted: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    planted.makepyfile(PASSES + text)
    done = planted.runpytest()
    assert done.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert done.parseoutcomes()["skipped"] == 1


def test_an_expected_failure_is_no_skip(planted: pytest.Pytester) -> None:
    planted.makepyfile(PASSES + "@pytest.mark.xfail\ndef test_x():\n    assert False")
    assert planted.runpytest().parseoutcomes() == {"passed": 1, "xfailed": 1}


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ([], {"passed": 1, "deselected": 1}),
        (["-m", "soak"], {"passed": 1, "deselected": 1}),
        (["-m", "soak or not soak"], {"passed": 2}),
    ],
)
def test_soak_tests_run_only_when_asked_for(
    options: list[str], outcome: dict[str, int], planted: pytest.Pytester
) -> None:
    planted.makepyfile(PASSES + SOAK)
    assert planted.runpytest(*options).parseoutcomes() == outcome
