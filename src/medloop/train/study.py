"""Optuna's study: where it is kept, how values are drawn, and how processes that share it count its trials."""

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
# Seconds between two signs of life of a trial, and without one until it counts as dead and is done again.
BEAT, GRACE = 5, 30
# Trials before any is compared with the others, and epochs that every trial may take.
FIRST_TRIALS, FIRST_EPOCHS = 4, 2


@contextmanager
def open_study(section: TuneSection, *, storage: str, name: str) -> Iterator[Any]:
    """The study of this name, begun or gone on with."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _told_when_away(storage):
        opened = _open_storage(storage)
        study = optuna.create_study(
            study_name=name,
            storage=opened,
            load_if_exists=True,
            direction="minimize",
            sampler=_sampler(section.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=FIRST_EPOCHS),
        )
    try:
        yield study
    finally:
        opened.remove_session()
        opened.engine.dispose()


def _open_storage(uri: str) -> Any:
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    def open_it(**options: Any) -> Any:
        with _without_experimental_warnings():
            return RDBStorage(
                # The extra `postgres` brings psycopg 3.
                uri.replace(POSTGRESQL, "postgresql+psycopg://", 1) if uri.startswith(POSTGRESQL) else uri,
                heartbeat_interval=BEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                **options,
            )

    # Of two processes that make the tables of a new database at once one fails.
    if not uri.startswith(SQLITE):
        try:
            return open_it()
        except Exception:  # noqa: BLE001 - each driver has errors of its own; what is really wrong stays so
            time.sleep(1)
            return open_it()
    path = Path(uri.removeprefix(SQLITE))
    with file_lock(path.with_suffix(".lock")):
        return open_it(engine_kwargs={"connect_args": {"timeout": 60}})


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler

    class Numbered(TPESampler):
        """Draws that depend on the trial's number, so that no restart and no second process repeats them."""

        def before_trial(self, study: Any, trial: Any) -> None:
            super().__init__(seed=int(np.random.SeedSequence([seed, trial.number]).generate_state(1)[0]))
            super().before_trial(study, trial)

    return Numbered()


def suggest(trial: Any, name: str, space: SearchRange) -> Any:
    """One value from the range."""
    if space.choices:
        return trial.suggest_categorical(name, space.choices)
    if space.whole:
        return trial.suggest_int(name, int(space.low or 0), int(space.high or 0), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def counted(study: Any) -> list[Any]:
    """The trials that have ended, run or wait to be done again; those that died are out."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "FAIL"]


def complete(study: Any) -> list[Any]:
    """The trials that were not given up."""
    return [trial for trial in counted(study) if trial.state.name == "COMPLETE"]


def has_room(study: Any, trials: int) -> bool:
    """Whether a trial may begin here; one whose process died goes first."""
    now = counted(study)
    return len(now) < trials or any(trial.state.name == "WAITING" for trial in now)


def is_surplus(study: Any, number: int, trials: int) -> bool:
    """Whether as many trials as were asked for began before this one: numbers are given out one by one."""
    return len([trial for trial in counted(study) if trial.number < number]) >= trials


def wait_for_others(study: Any) -> None:
    """Until another process has ended a trial, or is found dead."""
    import optuna

    before = _states(study)
    started = time.monotonic()
    # The last one may have ended since the caller looked; then nothing is left to wait for.
    while "RUNNING" in before.values() and _states(study) == before:
        time.sleep(1)
        with _without_experimental_warnings():
            optuna.storages.fail_stale_trials(study)
        if time.monotonic() - started > GRACE:
            _end_unborn(study)


def _states(study: Any) -> dict[int, str]:
    return {trial.number: trial.state.name for trial in counted(study)}


def _end_unborn(study: Any) -> None:
    """A process that was killed before the first sign of life of its trial leaves one without values for ever."""
    for trial in counted(study):
        if trial.state.name == "RUNNING" and not trial.params:
            study.tell(trial.number, state=type(trial.state).FAIL)


def first_number(study: Any, number: int) -> int:
    """The number, or that of the trial which this one does again."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    with _without_experimental_warnings():
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(study.get_trials(deepcopy=False)[number])
    return number if first is None else int(first)


def importances(study: Any) -> dict[str, float]:
    """Each range's share in what makes complete trials differ, the greatest first; none where there are too few."""
    import optuna

    answers = complete(study)
    if len(answers) < FIRST_TRIALS or len({trial.value for trial in answers}) == 1:
        return {}
    return {name: float(share) for name, share in optuna.importance.get_param_importances(study).items()}


@contextmanager
def _without_experimental_warnings() -> Iterator[None]:
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _told_when_away(storage: str) -> Iterator[None]:
    """What the database says in one sentence; its password is not told."""
    scheme, host = urlsplit(storage).scheme, urlsplit(storage).hostname
    place = f"{scheme} at {host}" if host else scheme
    try:
        yield
    except ImportError as error:
        raise UserError(
            "tune.storage needs the driver of its database",
            found=f"none for {place}",
            hint="pip install 'medloop[postgres]' for postgresql://",
        ) from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            "the storage of the tuning study must answer",
            found=f"{type(error).__name__} from {place}",
            hint="start the database, or unset tune.storage in the settings: then the study is a file of the project",
        ) from error
