"""Answers for patients in the store: every slice kept and bound, no name, and older databases brought up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from medloop.errors import UserError
from medloop.feedback import Answered, Slice, open_feedback
from medloop.feedback.operations import Operation, prediction_operation
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings
from medloop.storage import sha256_bytes
from tests.feedback.answers import make_png, make_prediction, picture, signer_of, spooled_line, table
from tests.feedback.conftest import Open, sqlite_in, tampering
from tests.loop_project import medloop

HASH = "f" * 64


def patient(*seeds: int, keep: bool = True, **changes: Any) -> Answered:
    """An answer for a patient with these pictures."""
    pngs = [make_png(seed) for seed in seeds]
    slices = [Slice(png=png if keep else None, sha256="" if keep else sha256_bytes(png), size=(32, 24)) for png in pngs]
    return Answered(prediction=make_prediction(**changes), kind="image", key="k1", patient=HASH, slices=slices)


def change(feedback: Feedback, statement: str) -> None:
    with tampering(feedback) as connection:
        connection.execute(text(statement))


def test_every_slice_is_kept_in_its_order(feedback: Feedback) -> None:
    answered = patient(3, 1, 2)
    feedback.record([answered, picture(4)])
    stored = feedback.prediction(answered.prediction.id)
    assert stored is not None
    assert (stored.prediction, stored.patient) == (answered.prediction, HASH)
    assert [one.size for one in stored.slices] == [(32, 24)] * 3
    assert feedback.inputs_of(stored) == [make_png(3), make_png(1), make_png(2)]
    assert feedback.input_of(stored, 1) == make_png(1)
    assert feedback.journal.verify() == []


def test_what_is_not_kept_whole_is_not_given_in_part(feedback: Feedback, root: Path) -> None:
    answered = patient(1, 2)
    feedback.record([answered])
    stored = feedback.prediction(answered.prediction.id)
    assert stored is not None
    (place,) = root.glob(f"work/inputs/*/{stored.addresses[1]}.png")
    place.unlink()
    assert feedback.inputs_of(stored) is None


EDITS = {
    "patient": "UPDATE predictions SET patient = 'e'",
    "slices": "UPDATE predictions SET slices = replace(slices, '32', '33')",
}


@pytest.mark.parametrize("statement", EDITS.values(), ids=EDITS)
def test_the_journal_binds_the_patient_and_the_slices(feedback: Feedback, statement: str) -> None:
    feedback.record([patient(1, 2, keep=False)])
    change(feedback, statement)
    (problem,) = feedback.journal.verify()
    assert "edited in its table" in problem


def test_the_same_slices_are_the_same_input_in_any_order(feedback: Feedback) -> None:
    one, other = patient(1, 2), patient(2, 1)
    feedback.record([one, other])
    made = [
        feedback.correct(answered.prediction.id, label, "seen", "ann")
        for answered, label in ((one, "clear"), (other, "ring"))
    ]
    states = [feedback.review(correction.id, "accepted", "bob").state for correction in made]
    assert states == ["accepted", "second_reader"]


def test_a_line_that_an_older_medloop_spooled_is_taken(feedback: Feedback, opened: Open, root: Path) -> None:
    answered = picture(None)
    signer = signer_of(root)
    operation = prediction_operation(answered, addresses=["a" * 64], keep_row=True, signer=signer)
    assert "patient" not in operation.content
    older = {name: value for name, value in operation.values.items() if name not in ("patient", "slices")}
    feedback.close()
    left = root / "feedback.spool" / "left.jsonl"
    left.parent.mkdir()
    left.write_bytes(spooled_line(Operation(**{**vars(operation), "values": older}), signer))
    again = opened()
    assert again.prediction(answered.prediction.id) is not None
    assert again.journal.verify() == []


def make_older(feedback: Feedback) -> None:
    """Bring the database back to the form that knew of no patients."""
    for column in ("patient", "slices"):
        change(feedback, f"ALTER TABLE predictions DROP COLUMN {column}")
    change(feedback, "UPDATE alembic_version SET version_num = '0001'")


def test_an_older_database_is_brought_up_with_all_it_holds(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("name: old\n", encoding="utf-8")
    feedback = open_feedback(sqlite_in(tmp_path), root=tmp_path)
    before = [picture(1), table({"age": 50.0})]
    feedback.record(before)
    make_older(feedback)
    feedback.close()
    with pytest.raises(UserError, match="schema version 0001; 0003 is needed") as refused:
        open_feedback(FeedbackSettings(), root=tmp_path)
    assert "medloop db upgrade" in refused.value.hint
    done = medloop("db", "upgrade", cwd=tmp_path)
    assert (done.code, done.out) == (0, "the feedback database has schema version 0003\n"), done.err
    feedback = open_feedback(FeedbackSettings(), root=tmp_path)
    for answered in before:
        stored = feedback.prediction(answered.prediction.id)
        assert stored is not None
        assert (stored.prediction, stored.patient, stored.slices) == (answered.prediction, None, ())
        assert feedback.inputs_of(stored) == [answered.input_png or answered.row]
    feedback.record([patient(1, 2)])
    assert feedback.journal.verify() == []
    feedback.close()
