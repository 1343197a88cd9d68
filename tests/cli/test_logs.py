"""The logs of commands: for their owner alone, and never larger than the settings allow."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from medloop.settings import Settings
from tests.loop_project import medloop, new_table, run_stages, small_rows

# As many bytes as a few lines have.
SMALL_MIB = "0.0005"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_table(tmp_path_factory.mktemp("logs") / "table", small_rows(150))
    run_stages(folder, "ingest")
    return folder


def test_logs_rotate_by_size_and_are_private(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLOOP_LOG_MIB", SMALL_MIB)
    monkeypatch.setenv("MEDLOOP_LOG_FILES", "2")
    (table / "logs").mkdir()
    (table / "logs" / "ingest.log").touch(mode=0o644)
    for _ in range(40):
        assert medloop("ingest", cwd=table).code == 0
    logs = sorted((table / "logs").iterdir())
    assert [path.name for path in logs] == ["ingest.log", "ingest.log.1", "ingest.log.2"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in logs} == {0o600}
    assert max(path.stat().st_size for path in logs) <= float(SMALL_MIB) * 2**20
    assert "ingest" in logs[0].read_text("utf-8")


def test_by_default_ten_mebibytes_are_kept_five_times() -> None:
    settings = Settings()
    assert (settings.log_mib, settings.log_files) == (10.0, 5)
