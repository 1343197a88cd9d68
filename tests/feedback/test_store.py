"""Answers are stored as they were given, survive a kill, and keep no more than the settings say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from medloop.errors import UnknownName, UserError
from medloop.feedback import open_feedback
from medloop.feedback.db import tables
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import kept_png, make_png, make_prediction, picture, table
from tests.feedback.conftest import Open, tampering

ROOT = Path(__file__).parents[2]
NAME = "Mustermann, Erika 1964-08-12"


def test_an_answer_comes_back_as_it_was(feedback: Feedback) -> None:
    answered = picture(reason=None, probabilities={"clear": 0.1 + 0.2, "disc": 1e-300})
    feedback.record([answered])
    stored = feedback.prediction(answered.prediction.id)
    assert stored is not None
    assert stored.prediction == answered.prediction
    assert (stored.kind, stored.key, stored.trace_id, stored.size) == ("image", "k1", "t" * 32, (32, 24))
    assert kept_png(feedback, answered.prediction.id) == answered.input_png
    assert feedback.prediction("0" * 32) is None


def test_a_row_comes_back_as_it_was(feedback: Feedback) -> None:
    answered = table({"Größe, cm": 1.25, "grade": "II", "age": None})
    feedback.record([answered])
    stored = feedback.prediction(answered.prediction.id)
    assert stored is not None
    assert stored.row == answered.row
    assert feedback.input_of(stored) == answered.row


def test_inputs_are_not_kept_where_they_shall_not_be(opened: Open, root: Path) -> None:
    feedback = opened(keep_inputs=False)
    scan, row = picture(), table({"age": 61})
    feedback.record([scan, row])
    stored = feedback.prediction(row.prediction.id)
    assert stored is not None
    assert stored.row is None
    assert len(stored.input) == 64
    assert kept_png(feedback, scan.prediction.id) is None
    assert not (root / "work").exists()


def test_old_inputs_go_and_the_answers_stay(opened: Open, root: Path) -> None:
    feedback = opened(keep_days=30)
    old, new, row = picture(1), picture(2), table({"age": 61})
    feedback.record([old, new, row])
    long_ago = datetime.now(UTC) - timedelta(days=31)
    (path,) = (path for path in root.glob("work/inputs/*/*.png") if path.read_bytes() == old.input_png)
    os.utime(path, (long_ago.timestamp(), long_ago.timestamp()))
    with tampering(feedback) as connection:
        connection.execute(update(tables.predictions).values(at=long_ago.isoformat(timespec="microseconds")))
    assert feedback.expire() == 2
    assert kept_png(feedback, old.prediction.id) is None
    assert kept_png(feedback, new.prediction.id) == new.input_png
    stored = feedback.prediction(row.prediction.id)
    assert stored is not None
    assert stored.row is None
    assert stored.prediction == row.prediction


def test_a_picture_that_comes_again_is_kept_once_and_longer(feedback: Feedback, root: Path) -> None:
    feedback.record([picture(1)])
    (path,) = root.glob("work/inputs/*/*.png")
    os.utime(path, (0, 0))
    feedback.record([picture(1), picture(1)])
    assert list(root.rglob("*.png")) == [path]
    assert time.time() - path.stat().st_mtime < 60
    assert feedback.expire() == 0


def test_a_png_that_says_more_than_its_pixels_is_refused(feedback: Feedback, root: Path) -> None:
    from io import BytesIO

    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("PatientName", NAME)
    buffer = BytesIO()
    Image.open(BytesIO(make_png())).save(buffer, "PNG", pnginfo=info)
    for data, found in ((buffer.getvalue(), "tEXt"), (b"GIF89a", "not a PNG"), (make_png()[:-3], "broken")):
        answered = picture(None)
        changed = type(answered)(**{**vars(answered), "input_png": data})
        with pytest.raises(UserError, match="The input to keep is") as refused:
            feedback.record([changed])
        assert found in refused.value.problem
    assert list(root.rglob("*.png")) == []


def test_answers_of_many_callers_are_all_stored(feedback: Feedback) -> None:
    answers = [[picture(None) for _ in range(5)] for _ in range(16)]

    def store(some: list[object]) -> None:
        for one in some:
            feedback.record([one])  # type: ignore[list-item]

    threads = [threading.Thread(target=store, args=(some,)) for some in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(feedback.prediction(one.prediction.id) is not None for some in answers for one in some)
    assert feedback.journal.head().seq == 80
    assert feedback.journal.verify() == []


def test_the_fault_of_one_caller_is_not_the_others(feedback: Feedback) -> None:
    first = picture(None)
    feedback.record([first])
    good, twice, also_good = (feedback.submit([one], enough=3) for one in (picture(None), first, picture(None)))
    assert [future.exception(60) for future in (good, also_good)] == [None, None]
    assert twice.exception(60) is not None
    assert feedback.journal.head().seq == 3
    assert feedback.journal.verify() == []


KILLED = """
import json, sys
from pathlib import Path
from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture
feedback = open_feedback(FeedbackSettings(url=sys.argv[1]), root=Path(sys.argv[2]), migrate=True)
while True:
    answers = [picture(number) for number in range(3)]
    feedback.record(answers)
    print(*(one.prediction.id for one in answers), flush=True)
"""


def test_what_was_answered_survives_a_kill(url: str, root: Path) -> None:
    command = [sys.executable, "-c", KILLED, url, str(root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        # What it had answered before the kill reached it.
        lines += [line for line in process.stdout if line.endswith("\n")]
    answered = [name for line in lines for name in line.split()]
    feedback = open_feedback(FeedbackSettings(url=url), root=root)
    try:
        assert len(answered) >= 15
        assert all(feedback.prediction(name) is not None for name in answered)
        assert all(kept_png(feedback, name) is not None for name in answered)
        assert feedback.journal.verify() == []
    finally:
        feedback.close()


TOGETHER = """
import sys
from pathlib import Path
from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture
feedback = open_feedback(FeedbackSettings(url=sys.argv[1]), root=Path(sys.argv[2]), migrate=True)
for _ in range(30):
    feedback.record([picture(None)])
feedback.close()
"""


def test_processes_that_begin_together_write_one_chain(url: str, root: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, url, str(root)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    feedback = open_feedback(FeedbackSettings(url=url), root=root)
    try:
        assert feedback.journal.head().seq == 60
        assert feedback.journal.verify() == []
    finally:
        feedback.close()


def test_notes_have_known_kinds_fields_and_short_values(feedback: Feedback) -> None:
    feedback.note("refusal", {"status": 401, "route": "/v1/predictions/{id}", "key": None}).result(60)
    (entry,) = feedback.journal.entries()
    assert (entry.seq, entry.kind) == (1, "refusal")
    assert json.loads(entry.content) == {"key": None, "route": "/v1/predictions/{id}", "status": 401}
    with pytest.raises(UnknownName):
        feedback.note("gossip", {})
    with pytest.raises(UnknownName):
        feedback.note("refusal", {"patient": NAME})
    for value in ("x" * 201, "a\x1b[2J", ["a"]):
        with pytest.raises(UserError, match=r"refusal\.route is"):
            feedback.note("refusal", {"route": value})


def test_without_a_journal_answers_are_stored_all_the_same(opened: Open) -> None:
    feedback = opened(journal=False)
    answered = picture()
    feedback.record([answered])
    feedback.note("start", {"medloop": "1"}).result(60)
    assert feedback.prediction(answered.prediction.id) is not None
    assert feedback.journal.entries() == []
    (problem,) = feedback.journal.verify()
    assert "1 rows of predictions are not in the journal" in problem


def test_the_journal_holds_nothing_of_the_patient(feedback: Feedback) -> None:
    row = table({"name": NAME, "age": 61})
    feedback.record([row, picture()])
    feedback.correct(row.prediction.id, "ring", f"seen with {NAME}", "Ann")
    text = "".join(f"{entry}" for entry in feedback.journal.entries())
    assert len(feedback.journal.entries()) == 3
    # A year alone would be found in a digest now and then.
    assert all(word not in text for word in (NAME, "Mustermann", "Erika", '"age"'))


def test_a_failed_open_says_what_to_do(root: Path) -> None:
    answered = make_prediction()
    assert answered.id
    (root / "feedback.db").write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(UserError) as refused:
        open_feedback(FeedbackSettings(), root=root)
    assert str(root) not in str(refused.value)
