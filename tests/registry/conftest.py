"""An MLflow store to copy."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from tests.loop_project import made_once


def make_store(folder: Path) -> None:
    """MLflow's tables without a row; to make them takes seconds, to copy them nothing."""
    folder.mkdir()
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'mlflow.db'}").search_experiments()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without a run."""
    return made_once(tmp_path_factory, "mlflow-store", make_store) / "mlflow.db"
