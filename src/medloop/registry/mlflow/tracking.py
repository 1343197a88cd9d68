"""The mirror in MLflow: a run for each version with its actual parameters, and a registered model with aliases."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medloop.errors import UserError
from medloop.registry.store import Version
from medloop.storage import read_json, sha256_bytes
from medloop.storage.atomic import scratch_folder

# The names that dashboards of the tutorial systems read.
SHORT = {"logistic_regression": "lr", "decision_tree": "dt", "random_forest": "rf"}
MODEL_FOLDER = "model"
# HTTP statuses of a server that lacks an endpoint.
UNSUPPORTED = {404, 405, 501}
SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
CONNECT_SECONDS = 5
# MLflow accepts no more in one request.
MAX_METRICS = 1000
# By default MLflow waits four minutes for a server that does not respond.
DEFAULTS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """A tracking server and an experiment on it."""

    uri: str
    experiment: str
    artifacts: str | None

    def client(self) -> Any:
        """Return MLflow's client for this server without changing the settings of the process."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # It logs every table of a new database.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        if self.uri.startswith(SQLITE):
            _create_database(Path(self.uri.removeprefix(SQLITE)))
        _check_database(self.uri)
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def record(self, version: Version, *, promoted: bool) -> str:
        """Log the version as a run and register it, once, and return the id of the run."""
        with _server_errors_explained(self.uri):
            return self._record(self.client(), version, promoted=promoted)

    def _record(self, client: Any, version: Version, *, promoted: bool) -> str:
        report = _report(version)
        if known := _find_mirrored(client, version, report["name"]):
            return str(known.run_id)
        experiment, tags = self._experiment_id(client), _tags(version, report)
        _end_killed_runs(client, experiment, version)
        run_id = _run_of_training(client, experiment, report, tags)
        _log(client, run_id, report, promoted=promoted)
        client.log_artifacts(run_id, str(version.folder / "report"))
        client.log_artifact(run_id, str(version.folder / "verdict.json"))
        client.log_artifact(run_id, str(version.folder / "report" / "plots" / "confusion_matrix.png"))
        model_id = _begin_model(client, experiment, run_id, report["name"])
        source = _log_model(client, run_id, version, model_id)
        client.set_terminated(run_id)
        _ensure_registered_model(client, report["name"])
        client.create_model_version(report["name"], source, run_id, tags=tags, model_id=model_id)
        return run_id

    def point(self, champion: Version, previous: Version | None, challenger: Version | None = None) -> None:
        """Set MLflow's aliases to the champion, previous version and challenger, as far as they were recorded."""
        name = _report(champion)["name"]
        with _server_errors_explained(self.uri):
            client = self.client()
            for alias, version in (("champion", champion), ("previous", previous), ("challenger", challenger)):
                known = _find_mirrored(client, version, name) if version is not None else None
                if known is not None:
                    client.set_registered_model_alias(name, alias, known.version)
                elif version is None:
                    client.delete_registered_model_alias(name, alias)

    def begin(self, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any], parent: str | None = None) -> str:
        """Begin a run, or join a running one with the same name and tags, and return its id."""
        with _server_errors_explained(self.uri):
            from mlflow.entities import Param

            client = self.client()
            experiment = self._experiment_id(client)
            if found := _running(client, experiment, {**tags, "mlflow.runName": name}):
                return found
            tags = {**tags, "mlflow.parentRunId": parent} if parent else tags
            run_id = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
            client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
            return run_id

    def log_points(self, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log metrics with their name, value, time in milliseconds and step."""
        with _server_errors_explained(self.uri):
            from mlflow.entities import Metric

            metrics = [Metric(name, value, when, step) for name, value, when, step in points if _is_finite(value)]
            for start in range(0, len(metrics), MAX_METRICS):
                self.client().log_batch(run_id, metrics=metrics[start : start + MAX_METRICS])

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run; the tag `state` ends it."""
        with _server_errors_explained(self.uri):
            client = self.client()
            for name, value in tags.items():
                client.set_tag(run_id, name, value)
            if "state" in tags:
                client.set_terminated(run_id, "FAILED" if tags["state"] == "failed" else "FINISHED")

    def _experiment_id(self, client: Any) -> str:
        known = client.get_experiment_by_name(self.experiment)
        return str(known.experiment_id if known else client.create_experiment(self.experiment, self.artifacts))


def _check_database(uri: str) -> None:
    """Connect to the database once, since MLflow retries for more than 90 seconds."""
    from mlflow.store.db.utils import sqlalchemy  # type: ignore[attr-defined]

    place = urlsplit(uri)
    port = place.port or PORTS.get(place.scheme.split("+")[0])
    if port is None or place.scheme.startswith("http"):
        return
    if place.hostname is not None:
        socket.create_connection((place.hostname, port), CONNECT_SECONDS).close()
    engine = sqlalchemy.create_engine(uri)
    engine.connect().close()
    engine.dispose()


def _create_database(path: Path) -> None:
    """Create MLflow's database atomically: a kill between two tables would leave one that MLflow refuses."""
    from mlflow import MlflowClient

    if path.exists():
        return
    with scratch_folder(path.with_name(f".{path.name}.partial")) as scratch:
        uri = f"{SQLITE}{scratch / path.name}"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models()
        (scratch / path.name).replace(path)


@contextmanager
def _server_errors_explained(uri: str) -> Iterator[None]:
    """Raise MLflow's errors as a UserError, with the server's address but without its password."""
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import sqlalchemy  # type: ignore[attr-defined]

    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError, ImportError) as error:
        place = re.sub(r"//[^/@]*@", "//", uri)
        raise UserError(
            f"The MLflow server at {place} cannot be used ({type(error).__name__}).",
            "Start it, or set tracking.uri in config.yaml; `medloop models verify` records the versions later.",
        ) from error


def tracker_for(root: Path, *, uri: str, experiment: str) -> Tracker:
    """Return the tracker of a project; `MLFLOW_TRACKING_URI` overrides the settings."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or uri
    local = chosen.startswith(SQLITE) and not chosen.startswith(f"{SQLITE}/")
    if local:
        chosen = f"{SQLITE}{root.resolve() / chosen.removeprefix(SQLITE)}"
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    return Tracker(uri=chosen, experiment=name, artifacts=(root.resolve() / "mlruns").as_uri() if local else None)


def run_params(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that were actually used, under the names that dashboards expect."""
    model = report["model"]
    prefix = SHORT.get(model["name"], model["name"])
    params = {
        "model_type": model["name"],
        # Reports of an older medloop lack the number of folds; then the recipe's.
        "k_folds": report.get("folds", report["recipe"]["split"]["folds"]),
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


def _begin_model(client: Any, experiment: str, run_id: str, name: str) -> str | None:
    """Create a logged model of this run; return None on servers without them, such as DagsHub or MLflow 2."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_logged_model(experiment, name=name, source_run_id=run_id).model_id)
    except MlflowException as error:
        if error.get_http_status_code() not in UNSUPPORTED:  # type: ignore[no-untyped-call]
            raise
        logging.getLogger("medloop").info("no logged models on this MLflow server; the run's artifacts hold the model")
        return None


def _log_model(client: Any, run_id: str, version: Version, model_id: str | None) -> str:
    """Log a pyfunc with a loader and the bundle, in the logged model or the run, and return its address."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.pyfunc import save_model

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / MODEL_FOLDER
        save_model(
            str(target),
            loader_module="medloop.registry.pyfunc",
            data_path=str(version.folder / "bundle"),
            pip_requirements=["medloop"],
        )
        if model_id is None:
            client.log_artifacts(run_id, str(target), MODEL_FOLDER)
            return f"{client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"
        client.log_model_artifacts(model_id, str(target))
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    return str(client.finalize_logged_model(model_id, "READY").artifact_location)


def _report(version: Version) -> dict[str, Any]:
    report: dict[str, Any] = read_json(version.folder / "report" / "report.json")
    return report


def _tags(version: Version, report: Mapping[str, Any]) -> dict[str, str]:
    return {
        "medloop_version": str(version.number),
        "bundle": version.bundle,
        "data_version": report["data_version"],
        "edition": report["edition"],
        "recipe": sha256_bytes(json.dumps(report.get("recipe"), sort_keys=True).encode())[:16],
        "verdict": "passed" if version.verdict.passed else "refused",
    }


def _running(client: Any, experiment: str, tags: Mapping[str, str]) -> str | None:
    same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment], f"{same} and attributes.status = 'RUNNING'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _run_of_training(client: Any, experiment: str, report: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Return the run with the epochs of this training if no version has it yet, else a new one."""
    name, training = f"{report['name']} {tags['medloop_version']}", report["model"].get("training")
    same = f"tags.training = '{training}' and attributes.status = 'FINISHED'"
    trained = client.search_runs([experiment], same) if training else []
    free = [run for run in trained if "bundle" not in run.data.tags]
    if not free:
        return str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
    run_id = str(free[0].info.run_id)
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    client.update_run(run_id, status="RUNNING", name=name)
    return run_id


def _end_killed_runs(client: Any, experiment: str, version: Version) -> None:
    """End runs that a killed process left open; the new record replaces them."""
    mine = f"tags.bundle = '{version.bundle}' and tags.medloop_version = '{version.number}'"
    for run in client.search_runs([experiment], f"{mine} and attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, "KILLED")


def _ensure_registered_model(client: Any, name: str) -> None:
    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name)


def _find_mirrored(client: Any, version: Version, name: str) -> Any | None:
    """Return the registered model version of this version, whose number may differ."""
    same = {"medloop_version": str(version.number), "bundle": version.bundle}
    found = client.search_model_versions(f"name = '{name}'")
    return next((one for one in found if same.items() <= one.tags.items()), None)
