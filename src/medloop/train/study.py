"""The Optuna study: where it is stored, how values are drawn, and how processes that share it count its trials."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from medloop.errors import UserError
from medloop.recipe import SearchRange, TuneSection
from medloop.storage import file_lock

SQLITE = "sqlite:///"
POSTGRESQL = "postgresql://"
# Seconds between two heartbeats of a trial, and without one until it counts as dead and is repeated.
HEARTBEAT, GRACE = 5, 30
# Trials before pruning begins, and epochs that every trial completes.
STARTUP_TRIALS, WARMUP_EPOCHS = 4, 2


@contextmanager
def open_study(section: TuneSection, *, storage: str, name: str) -> Iterator[Any]:
    """Open the study of this name, or create it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _explain_failure(storage):
        opened = _open_storage(storage)
        study = optuna.create_study(
            study_name=name,
            storage=opened,
            load_if_exists=True,
            direction="minimize",
            sampler=_sampler(section.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_EPOCHS),
        )
    try:
        yield study
    finally:
        opened.remove_session()
        opened.engine.dispose()


def _open_storage(uri: str) -> Any:
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    def connect(**options: Any) -> Any:
        with _without_experimental_warnings():
            return RDBStorage(
                # The extra `postgres` brings psycopg 3.
                uri.replace(POSTGRESQL, "postgresql+psycopg://", 1) if uri.startswith(POSTGRESQL) else uri,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                **options,
            )

    # When two processes create the tables of a new database at once, one of them fails.
    if not uri.startswith(SQLITE):
        try:
            return connect()
        except Exception:  # noqa: BLE001 - every driver has its own errors; a lasting one is raised again
            time.sleep(1)
            return connect()
    path = Path(uri.removeprefix(SQLITE))
    with file_lock(path.with_suffix(".lock")):
        return connect(engine_kwargs={"connect_args": {"timeout": 60}})


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler

    class SeededByTrial(TPESampler):
        """Draws that depend on the number of the trial, so that no restart and no second process repeats them."""

        def before_trial(self, study: Any, trial: Any) -> None:
            super().__init__(seed=int(np.random.SeedSequence([seed, trial.number]).generate_state(1)[0]))
            super().before_trial(study, trial)

    return SeededByTrial()


def suggest(trial: Any, name: str, space: SearchRange) -> Any:
    """Draw one value from the range."""
    if space.choices:
        return trial.suggest_categorical(name, space.choices)
    if space.whole:
        return trial.suggest_int(name, int(space.low or 0), int(space.high or 0), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def list_trials(study: Any) -> list[Any]:
    """Return the trials that have ended, are running or wait to be repeated, but not those that died."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "FAIL"]


def list_complete(study: Any) -> list[Any]:
    """Return the trials that were not pruned."""
    return [trial for trial in list_trials(study) if trial.state.name == "COMPLETE"]


def has_room(study: Any, trials: int) -> bool:
    """Whether this process may begin a trial; one whose process died is repeated first."""
    now = list_trials(study)
    return len(now) < trials or any(trial.state.name == "WAITING" for trial in now)


def is_surplus(study: Any, number: int, trials: int) -> bool:
    """Whether enough trials began before this one; the database hands out their numbers one by one."""
    return len([trial for trial in list_trials(study) if trial.number < number]) >= trials


def wait_for_others(study: Any) -> None:
    """Wait until another process has ended a trial, or is found dead."""
    import optuna

    before = _states(study)
    started = time.monotonic()
    # The last one may have ended in the meantime; then there is nothing to wait for.
    while "RUNNING" in before.values() and _states(study) == before:
        time.sleep(1)
        with _without_experimental_warnings():
            optuna.storages.fail_stale_trials(study)
        if time.monotonic() - started > GRACE:
            _fail_empty_trials(study)


def _states(study: Any) -> dict[int, str]:
    return {trial.number: trial.state.name for trial in list_trials(study)}


def _fail_empty_trials(study: Any) -> None:
    """Mark as failed the trials without values, left by processes that were killed before their first heartbeat."""
    for trial in list_trials(study):
        if trial.state.name == "RUNNING" and not trial.params:
            study.tell(trial.number, state=type(trial.state).FAIL)


def first_number(study: Any, number: int) -> int:
    """Return the number of the trial, or of the one that it repeats."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    with _without_experimental_warnings():
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(study.get_trials(deepcopy=False)[number])
    return number if first is None else int(first)


def importances(study: Any) -> dict[str, float]:
    """Return the importance of each range, the greatest first; empty where there are too few complete trials."""
    import optuna

    trials = list_complete(study)
    if len(trials) < STARTUP_TRIALS or len({trial.value for trial in trials}) == 1:
        return {}
    return {name: float(share) for name, share in optuna.importance.get_param_importances(study).items()}


@contextmanager
def _without_experimental_warnings() -> Iterator[None]:
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _explain_failure(storage: str) -> Iterator[None]:
    """Raise a failure of the database as a UserError, which leaves out its password."""
    scheme, host = urlsplit(storage).scheme, urlsplit(storage).hostname
    database = f"{scheme} at {host}" if host else scheme
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"The driver for tune.storage ({database}) is not installed.",
            "For postgresql://, run `pip install 'medloop[postgres]'`.",
        ) from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"Could not open the tuning study on {database} ({type(error).__name__}).",
            "Start the database, or remove tune.storage from the settings to keep the study in a file of the project.",
        ) from error
