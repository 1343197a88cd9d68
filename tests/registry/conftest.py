"""An MLflow store to copy, and an object store."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from tests.loop_project import made_once
from tests.storage.conftest import bucket, object_store

__all__ = ["bucket", "object_store"]


def make_store(folder: Path) -> None:
    """MLflow's tables without a row; to make them takes seconds, to copy them nothing."""
    folder.mkdir()
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'mlflow.db'}").search_experiments()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without a run."""
    return made_once(tmp_path_factory, "mlflow-store", make_store) / "mlflow.db"
