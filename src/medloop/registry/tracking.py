"""The mirror in MLflow: one run a version with what was really used, and a registered model with aliases."""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.errors import UserError
from medloop.registry.store import Version
from medloop.storage import read_json
from medloop.storage.atomic import scratch_folder

# The names that dashboards of the tutorial systems read.
SHORT = {"logistic_regression": "lr", "decision_tree": "dt", "random_forest": "rf"}
MODEL_FOLDER = "model"
SQLITE = "sqlite:///"
# Left to itself MLflow waits four minutes for a server that is away.
DEFAULTS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """A tracking server and the experiment in it."""

    uri: str
    experiment: str
    artifacts: str | None

    def client(self) -> Any:
        """MLflow's client for this server; the process's own settings stay as they are."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # A new database tells of each of its tables.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        if self.uri.startswith(SQLITE):
            _make_database(Path(self.uri.removeprefix(SQLITE)))
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def record(self, version: Version, *, promoted: bool) -> str:
        """Log the version as a run and register it, once; the run's id is returned."""
        with _told_when_away(self.uri):
            return self._record(self.client(), version, promoted=promoted)

    def _record(self, client: Any, version: Version, *, promoted: bool) -> str:
        report = _report(version)
        if known := _mirrored(client, version, report["name"]):
            return str(known.run_id)
        experiment, tags = self._experiment_id(client), _tags(version, report)
        _end_broken_runs(client, experiment, version)
        run = client.create_run(experiment, run_name=f"{report['name']} {version.number}", tags=tags)
        run_id = str(run.info.run_id)
        _log(client, run_id, report, promoted=promoted)
        client.log_artifacts(run_id, str(version.folder / "report"))
        client.log_artifact(run_id, str(version.folder / "verdict.json"))
        client.log_artifact(run_id, str(version.folder / "report" / "plots" / "confusion_matrix.png"))
        _log_model(client, run_id, version)
        client.set_terminated(run_id)
        _register(client, run_id, report["name"], tags)
        return run_id

    def point(self, champion: Version, previous: Version | None) -> None:
        """Let MLflow's aliases say what the pointer says, as far as the versions were recorded."""
        name = _report(champion)["name"]
        with _told_when_away(self.uri):
            client = self.client()
            for alias, version in (("champion", champion), ("previous", previous)):
                known = _mirrored(client, version, name) if version is not None else None
                if known is not None:
                    client.set_registered_model_alias(name, alias, known.version)

    def _experiment_id(self, client: Any) -> str:
        known = client.get_experiment_by_name(self.experiment)
        return str(known.experiment_id if known else client.create_experiment(self.experiment, self.artifacts))


def _make_database(path: Path) -> None:
    """MLflow makes its tables one by one; a kill in between would leave a database that it refuses for ever."""
    from mlflow import MlflowClient

    if path.exists():
        return
    with scratch_folder(path.with_name(f".{path.name}.partial")) as scratch:
        uri = f"{SQLITE}{scratch / path.name}"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models()
        (scratch / path.name).replace(path)


@contextmanager
def _told_when_away(uri: str) -> Iterator[None]:
    """MLflow's errors in one sentence; the address is told without the password in it."""
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import sqlalchemy  # type: ignore[attr-defined]

    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        place = re.sub(r"//[^/@]*@", "//", uri)
        raise UserError(
            "the MLflow server must answer",
            found=f"{type(error).__name__} from {place}",
            hint="start it, or set tracking.uri in config.yaml; `medloop models verify` mirrors the versions later",
        ) from error


def tracker_for(root: Path, *, uri: str, experiment: str) -> Tracker:
    """The tracker of a project; `MLFLOW_TRACKING_URI` goes before the settings."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or uri
    local = chosen.startswith(SQLITE) and not chosen.startswith(f"{SQLITE}/")
    if local:
        chosen = f"{SQLITE}{root.resolve() / chosen.removeprefix(SQLITE)}"
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    return Tracker(uri=chosen, experiment=name, artifacts=(root.resolve() / "mlruns").as_uri() if local else None)


def run_params(report: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that were really used, under the names that people's dashboards know."""
    model = report["model"]
    prefix = SHORT.get(model["name"], model["name"])
    params = {
        "model_type": model["name"],
        "k_folds": report["recipe"]["split"]["folds"],
        "random_state": model["seed"],
        "data_version": report["data_version"],
        "edition": report["edition"],
        "n_samples_train": report["n_train"],
        "n_samples_test": report["n_test"],
        "n_features": report["n_features"],
        "positive": ", ".join(report["positive"]),
        "threshold_rule": report["threshold"]["rule"],
        **{f"{prefix}_{name}": value for name, value in model["params"].items()},
    }
    return {name: str(value) for name, value in params.items()}


def _log(client: Any, run_id: str, report: Mapping[str, Any], *, promoted: bool) -> None:
    from mlflow.entities import Metric, Param

    when = 0
    flat = {**report["scores"], "promoted": float(promoted)}
    metrics = [Metric(name, value, when, 0) for name, value in flat.items() if _is_finite(value)]
    for name, figure in report["cross_validation"].items():
        folds = enumerate(figure["folds"])
        metrics += [Metric(f"fold_{name}", value, when, fold) for fold, value in folds if _is_finite(value)]
    client.log_batch(run_id, params=[Param(name, value) for name, value in run_params(report).items()])
    for start in range(0, len(metrics), 500):
        client.log_batch(run_id, metrics=metrics[start : start + 500])


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _log_model(client: Any, run_id: str, version: Version) -> None:
    """A pyfunc that names a loader and carries the bundle: plain artifacts, which every server keeps."""
    from mlflow.pyfunc import save_model

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / MODEL_FOLDER
        save_model(
            str(target),
            loader_module="medloop.registry.pyfunc",
            data_path=str(version.folder / "bundle"),
            pip_requirements=["medloop"],
        )
        client.log_artifacts(run_id, str(target), MODEL_FOLDER)


def _report(version: Version) -> dict[str, Any]:
    report: dict[str, Any] = read_json(version.folder / "report" / "report.json")
    return report


def _tags(version: Version, report: Mapping[str, Any]) -> dict[str, str]:
    return {
        "medloop_version": str(version.number),
        "bundle": version.bundle,
        "data_version": report["data_version"],
        "edition": report["edition"],
        "verdict": "passed" if version.verdict.passed else "refused",
    }


def _end_broken_runs(client: Any, experiment: str, version: Version) -> None:
    """A killed process leaves its run open; the record that is made now takes its place."""
    mine = f"tags.bundle = '{version.bundle}' and tags.medloop_version = '{version.number}'"
    for run in client.search_runs([experiment], f"{mine} and attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, "KILLED")


def _register(client: Any, run_id: str, name: str, tags: Mapping[str, str]) -> None:
    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"
    client.create_model_version(name, source, run_id, tags=tags)


def _mirrored(client: Any, version: Version, name: str) -> Any | None:
    """The registered model version that stands for this one; its number may be another."""
    same = {"medloop_version": str(version.number), "bundle": version.bundle}
    found = client.search_model_versions(f"name = '{name}'")
    return next((one for one in found if same.items() <= one.tags.items()), None)
