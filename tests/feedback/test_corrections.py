"""Corrections: who, what and why, once each, decided on by somebody else."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.feedback.records import Conflict, NotFound
from medloop.feedback.store import Feedback
from tests.feedback.answers import kept_png, picture, table
from tests.feedback.conftest import Open


@pytest.fixture
def answer(feedback: Feedback) -> str:
    """The id of a stored answer."""
    answered = picture(1)
    feedback.record([answered])
    return answered.prediction.id


def test_a_correction_is_stored_with_who_when_and_why(feedback: Feedback, answer: str) -> None:
    made = feedback.correct(answer, "ring", "a ring,\nseen twice", "Ann")
    assert (made.prediction_id, made.label, made.reason, made.who) == (answer, "ring", "a ring,\nseen twice", "Ann")
    assert made.state == "pending"
    assert made.when.endswith("+00:00")
    assert feedback.corrections() == [made]


def test_the_same_key_gives_the_same_correction(feedback: Feedback, answer: str) -> None:
    first = feedback.correct(answer, "ring", "a ring", "Ann", idempotency="k")
    assert feedback.correct(answer, "ring", "a ring", "Ann", idempotency="k") == first
    assert feedback.correct(answer, "ring", "a ring", "Bob", idempotency="k").id != first.id
    assert feedback.correct(answer, "ring", "a ring", "Ann").id != first.id
    with pytest.raises(Conflict, match="already used for another correction"):
        feedback.correct(answer, "clear", "a ring", "Ann", idempotency="k")
    assert len(feedback.corrections()) == 3
    assert [entry.kind for entry in feedback.journal.entries(after=1)] == ["correction"] * 3


def test_what_does_not_fit_the_prediction_is_refused(feedback: Feedback, answer: str) -> None:
    with pytest.raises(NotFound):
        feedback.correct("0" * 32, "ring", "a ring", "Ann")
    with pytest.raises(UnknownName, match="clear, disc, ring"):
        feedback.correct(answer, "rimg", "a ring", "Ann")
    assert feedback.corrections() == []
    assert feedback.journal.verify() == []


BAD = ["", "  ", "x" * 1001, "a\x00b", "a\x1b[31mb", "a\u202eb", "a\ud800b", "a\rb"]


@pytest.mark.parametrize("text", BAD, ids=["none", "blank", "long", "NUL", "escape", "turn", "surrogate", "return"])
@pytest.mark.parametrize("field", ["label", "reason", "who", "idempotency"])
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_text_can_mislead(field: str, text: str, feedback: Feedback, answer: str) -> None:
    fields = {"label": "ring", "reason": "a ring", "who": "Ann", "idempotency": "k", field: text}
    with pytest.raises(RejectedInput, match=r"is empty|characters|several lines|control character"):
        feedback.correct(answer, fields.pop("label"), fields.pop("reason"), fields.pop("who"), **fields)


def test_somebody_else_decides_and_once(feedback: Feedback, answer: str) -> None:
    one, other = (feedback.correct(answer, "ring", "a ring", "Ann") for _ in range(2))
    for name in ("Ann", "ann", " ANN ", "Ａnn"):
        with pytest.raises(Conflict, match="You made this correction"):
            feedback.review(one.id, "accepted", name)
    assert feedback.review(one.id, "accepted", "Bob", "I see it, too").state == "accepted"
    assert feedback.review(other.id, "rejected", "Bob").state == "rejected"
    for decided in (one, other):
        with pytest.raises(Conflict, match=r"is already (accepted|rejected)"):
            feedback.review(decided.id, "rejected", "Cyd")
    with pytest.raises(NotFound):
        feedback.review("0" * 32, "accepted", "Bob")
    with pytest.raises(UnknownName):
        feedback.review(one.id, "acepted", "Bob")  # type: ignore[arg-type]
    assert feedback.journal.verify() == []


def test_a_second_reader_is_a_third_person(feedback: Feedback, answer: str) -> None:
    made = feedback.correct(answer, "ring", "a ring", "Ann")
    assert feedback.review(made.id, "second_reader", "Bob").state == "second_reader"
    with pytest.raises(Conflict, match="already reviewed this correction"):
        feedback.review(made.id, "accepted", "Bob")
    assert feedback.review(made.id, "accepted", "Cyd").state == "accepted"


def test_two_that_disagree_go_to_a_second_reader(feedback: Feedback, answer: str) -> None:
    same_picture, other_picture = picture(1), picture(2)
    feedback.record([same_picture, other_picture])
    ring = feedback.correct(answer, "ring", "a ring", "Ann")
    clear = feedback.correct(same_picture.prediction.id, "clear", "nothing", "Bob")
    far = feedback.correct(other_picture.prediction.id, "clear", "nothing", "Bob")
    assert feedback.review(ring.id, "accepted", "Cyd").state == "accepted"
    assert feedback.review(far.id, "accepted", "Cyd").state == "accepted"
    assert feedback.review(clear.id, "accepted", "Cyd").state == "second_reader"
    assert [one.state for one in feedback.corrections()] == ["second_reader", "second_reader", "accepted"]
    assert feedback.review(ring.id, "accepted", "Dan").state == "accepted"
    assert [one.state for one in feedback.corrections()] == ["accepted", "rejected", "accepted"]
    assert feedback.journal.verify() == []


def test_corrections_are_listed_by_state_and_page(feedback: Feedback, answer: str) -> None:
    made = [feedback.correct(answer, "ring", f"ring {number}", "Ann") for number in range(5)]
    feedback.review(made[1].id, "rejected", "Bob")
    assert [one.id for one in feedback.corrections(limit=2)] == [one.id for one in made[:2]]
    assert [one.id for one in feedback.corrections(limit=2, after=made[1].id)] == [one.id for one in made[2:4]]
    assert [one.id for one in feedback.corrections(state="rejected")] == [made[1].id]
    with pytest.raises(UnknownName):
        feedback.corrections(state="open")
    with pytest.raises(NotFound):
        feedback.corrections(after="nothing")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_accepted_corrections_become_cases(feedback: Feedback, answer: str, root: Path) -> None:
    again, unread = picture(1), picture(3)
    row = table({"age": 61.5, "grade": "II"})
    feedback.record([again, unread, row])
    made = [
        feedback.correct(name, "ring", "seen with Erika Mustermann", "Ann")
        for name in (answer, again.prediction.id, unread.prediction.id, row.prediction.id)
    ]
    for one in (made[0], made[1], made[3]):
        feedback.review(one.id, "accepted", "Bob")
    assert feedback.export_corrections(root / "cases.csv") == 2
    scan, values = read(root / "cases.csv")
    assert (scan["case_id"], scan["label"], scan["predicted"], scan["source"]) == (
        made[0].id,
        "ring",
        "disc",
        "corrections",
    )
    assert Path(scan["path"]).read_bytes() == kept_png(feedback, answer)
    assert (values["row.age"], values["row.grade"], values["path"]) == ("61.5", "II", "")
    assert "Mustermann" not in (root / "cases.csv").read_text("utf-8")
    assert feedback.export_corrections(root / "cases.parquet") == 2
    assert pq.read_table(root / "cases.parquet").to_pylist()[1]["row.age"] == 61.5
    with pytest.raises(UserError, match=r"\.csv or \.parquet"):
        feedback.export_corrections(root / "cases.xlsx")


def test_a_case_whose_input_is_gone_says_so(opened: Open, root: Path) -> None:
    feedback = opened(keep_inputs=False)
    answered = [picture(1), table({"age": 61})]
    feedback.record(answered)
    for one in answered:
        feedback.review(feedback.correct(one.prediction.id, "ring", "a ring", "Ann").id, "accepted", "Bob")
    feedback.export_corrections(root / "cases.csv")
    assert [one["quarantined"] for one in read(root / "cases.csv")] == ["the input was not kept, or has expired"] * 2
