"""A project with answers, kept pictures and a model store, without a training; and what its files hold."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

from medloop.feedback import open_feedback
from medloop.registry.store import ModelStore
from medloop.settings import FeedbackSettings
from medloop.storage import sha256_file
from tests.feedback.answers import picture
from tests.loop_project import Ended, medloop
from tests.registry.versions import report_of, verdict_on

# What every opening changes, and what a lock leaves.
CHANGING = ("-wal", "-shm", ".lock")


def make_stored(folder: Path, golden: Path) -> Path:
    """The project; the golden bundle serves in it."""
    folder.mkdir()
    (folder / "config.yaml").write_text("serve: {port: 8123}\n", "utf-8")
    store = ModelStore(folder / "models")
    report = folder / "work" / "report"
    store.register(golden, report_of(golden, report), verdict_on(golden), by="Ann")
    store.promote(1, by="Ann")
    (folder / "work" / "ledger.jsonl").write_text("{}\n", "utf-8")
    answer(folder, 1, 2, 3)
    return folder


def answer(folder: Path, *numbers: int, **settings: Any) -> list[str]:
    """Store answers with a kept picture each; their ids."""
    with closing(open_feedback(FeedbackSettings(**settings), root=folder, migrate=True)) as feedback:
        answers = [picture(number) for number in numbers]
        feedback.record(answers)
    return [one.prediction.id for one in answers]


def kinds(folder: Path, **settings: Any) -> list[str]:
    """The kinds of the journal's entries that these tests are about."""
    with closing(open_feedback(FeedbackSettings(**settings), root=folder)) as feedback:
        found = [entry.kind for entry in feedback.journal.entries()]
    return [kind for kind in found if kind in ("prediction", "alarm", "restore")]


def contents(folder: Path) -> dict[str, str]:
    """The checksums of the files below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(CHANGING))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def done(*words: object, cwd: Path, code: int = 0) -> Ended:
    """A command that must end with this code."""
    ended = medloop(*map(str, words), cwd=cwd)
    assert ended.code == code, ended.out + ended.err
    return ended


def killed(*words: object, cwd: Path, renames: int) -> bool:
    """Run a command in a process of its own that is killed before its next rename; whether it came so far."""
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside other threads is warned of; this child only runs until it is killed.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        left = [renames]

        def count(event: str, _: object) -> None:
            left[0] -= event == "os.rename"
            # Killing is an event of its own.
            if event == "os.rename" and left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            done(*words, cwd=cwd)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
