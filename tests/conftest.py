"""Rules for every test: the long ones run only when asked for, none hangs on the clock, CI accepts no skipped one."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: takes minutes, so it runs only with `make soak`")
    config.option.markexpr = config.option.markexpr or "not soak"
    settings.register_profile(
        "medloop",
        deadline=None,
        # How long an example takes says how busy the machine is, and nothing of the code.
        suppress_health_check=[HealthCheck.too_slow],
        # `make test` tries the same examples each time; `make soak` looks for others.
        derandomize=config.option.markexpr == "not soak",
    )
    settings.load_profile("medloop")
    # What MLflow's own modules do cannot be mended here.
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning:mlflow")
    config.addinivalue_line("filterwarnings", "ignore:.*Any type hint is inferred as AnyType:UserWarning:mlflow")


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip into a failure where CI=true; an expected failure is no skip."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"a test that CI cannot run proves nothing ({why}): install what it needs in .ci/run"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project, to read and to copy but not to change."""
    from tests.loop_project import made_once, make_finished

    return made_once(tmp_path_factory, "finished", make_finished)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, to change."""
    from tests.loop_project import copied

    return copied(finished, tmp_path / "project")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The committed bundle, which needs nothing but the core; not to be changed."""
    return Path(__file__).parent / "golden" / "table_bundle"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a small table with awkward columns, done as far as the report; not to be changed."""
    from tests.loop_project import made_once, make_small

    return made_once(tmp_path_factory, "small", make_small)


@pytest.fixture(scope="session")
def finished_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project on small pictures of patients; to read and to copy but not to change."""
    from tests.loop_project import made_once, make_pictures

    return made_once(tmp_path_factory, "pictures", make_pictures)
