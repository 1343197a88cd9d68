"""Times are stored in UTC, and shown to people in their own time with its zone."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from medloop.times import local_time
from tests.feedback.answers import picture
from tests.loop_project import edit_recipe

# India's zone, as POSIX writes it.
ZONE, SHOWN = "<IST>-05:30", "UTC+05:30"
STORED = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.0-9]*([-+:Z0-9]*)")


def there(*words: str, cwd: Path) -> str:
    """What a command prints in India."""
    environment = {**os.environ, "TZ": ZONE}
    done = subprocess.run(
        [sys.executable, "-m", "medloop", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(stored: str) -> str:
    """The time as India reads it."""
    return (datetime.fromisoformat(stored) + timedelta(hours=5.5)).strftime(f"%Y-%m-%d %H:%M:%S {SHOWN}")


@pytest.fixture(scope="module")
def abroad(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project that goes on in India."""
    from tests.loop_project import copied

    project = copied(finished, tmp_path_factory.mktemp("abroad") / "project")
    edit_recipe(project, evaluate={"draws": 101})
    there("evaluate", cwd=project)
    there("keys", "create", "Ann", "--days", "30", cwd=project)
    return project


def texts_in(project: Path) -> Iterator[tuple[str, str]]:
    """Every text that is stored, by where it is."""
    for path in [*project.rglob("*.json"), *project.rglob("*.jsonl")]:
        yield str(path.relative_to(project)), path.read_text("utf-8")
    with closing(sqlite3.connect(project / "feedback.db")) as connection:
        for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            yield name, repr(connection.execute(f"select * from {name}").fetchall())  # noqa: S608 - its own tables


def test_what_is_stored_is_in_utc(abroad: Path) -> None:
    found = [(where, match[0], match[1]) for where, text in texts_in(abroad) for match in STORED.finditer(text)]
    assert len(found) > 10
    assert [one for one in found if one[2] != "+00:00"] == []


def test_keys_are_listed_in_local_time(abroad: Path) -> None:
    (key,) = json.loads(there("keys", "list", "--json", cwd=abroad))
    assert key["created"].endswith("+00:00")
    listed = there("keys", "list", cwd=abroad)
    assert shown(key["created"]) in listed
    assert shown(key["expires"]) in listed
    assert key["created"] not in listed


def test_versions_are_listed_and_shown_in_local_time(abroad: Path) -> None:
    (version,) = json.loads(there("models", "list", "--json", cwd=abroad))
    assert version["created"].endswith("+00:00")
    assert shown(version["created"]) in there("models", "list", cwd=abroad)
    assert f"by {version['by']}, {shown(version['created'])}" in there("models", "show", "1", cwd=abroad)


def test_corrections_are_listed_in_local_time(tmp_path: Path) -> None:
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        answered = picture(1)
        feedback.record([answered])
        when = feedback.correct(answered.prediction.id, "ring", "a ring", "Ann").when
    assert shown(when) in there("corrections", "list", cwd=tmp_path)
    assert when in there("corrections", "list", "--json", cwd=tmp_path)


def test_the_card_and_the_report_are_in_local_time(abroad: Path) -> None:
    report = abroad / "work" / "report"
    created = json.loads((report / "report.json").read_text("utf-8"))["created"]
    assert created.endswith("+00:00")
    assert f"- Created {shown(created)}\n" in (report / "card.md").read_text("utf-8")
    assert shown(created) in (report / "report.html").read_text("utf-8")


def test_a_log_says_which_zone_its_times_are_of(abroad: Path) -> None:
    line = (abroad / "logs" / "evaluate.log").read_text("utf-8").splitlines()[-1]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+0530 INFO", line), line


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert local_time("") == ""
    assert local_time("2026-01-01") == "2026-01-01"
    now = datetime.now(UTC)
    assert datetime.fromisoformat(now.isoformat()) == now
    assert local_time(now.isoformat()).startswith(f"{now.astimezone():%Y-%m-%d %H:%M:%S} UTC")
