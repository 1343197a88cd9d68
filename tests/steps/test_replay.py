"""Past answers computed again, equal to 1e-6, or the reason why they cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.feedback import Answered, Slice, open_feedback
from medloop.feedback.store import Feedback
from medloop.registry.store import Champion, ModelStore
from medloop.settings import FeedbackSettings
from medloop.steps.replay import find_bundle, note_promotion, replay, verify
from tests.bundle.image_bundles import draw_discs, export_project, png, write_project
from tests.golden.make_table_bundle import ANSWERS
from tests.loop_project import made_once
from tests.registry.versions import bundle_like, report_of, verdict_on


@pytest.fixture
def feedback(tmp_path: Path) -> Iterator[Feedback]:
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as store:
        yield store


@pytest.fixture(scope="module")
def known() -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = json.loads(ANSWERS.read_text("utf-8"))
    return answers


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        parts = {"train": 40, "val": 20, "calib": 20, "test": 20}
        write_project(folder, mode="finetune", epochs=0, parts=parts)
        export_project(folder)

    return made_once(tmp_path_factory, "replayed_discs", make) / "bundle"


def store_rows(feedback: Feedback, bundle: Path, rows: list[Any]) -> list[str]:
    """Answer rows as the service does; the ids."""
    answers = Predictor.load(bundle).predict(rows)
    feedback.record([Answered(prediction=one, kind="table", row=row) for one, row in zip(answers, rows, strict=True)])
    return [one.id for one in answers]


def test_an_answer_for_a_row_is_computed_again(
    feedback: Feedback, golden: Path, known: list[dict[str, Any]], tmp_path: Path
) -> None:
    ids = store_rows(feedback, golden, [one["record"] for one in known[:5]])
    for name in ids:
        found = replay(feedback, name, models=ModelStore(tmp_path / "models"), bundle=golden)
        assert found.difference <= 1e-6
        assert found.again.probabilities == pytest.approx(found.stored.prediction.probabilities, abs=1e-6)


def test_an_answer_for_a_picture_is_computed_again(feedback: Feedback, discs: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(discs)
    for disc in draw_discs(4, seed=3):
        data = png(disc.pixels)
        (answer,) = predictor.predict([data])
        kept = bytes(cv2.imencode(".png", predictor.decode(data).pixels)[1])
        feedback.record([Answered(prediction=answer, kind="image", input_png=kept)])
        found = replay(feedback, answer.id, models=ModelStore(tmp_path / "models"), bundle=discs)
        assert found.again.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


def test_the_bundle_is_found_in_the_store_by_its_hash(golden: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    bundles = [bundle_like(golden, tmp_path / f"bundle{number}", number=number) for number in range(2)]
    for bundle in bundles:
        store.register(bundle, report_of(bundle, tmp_path / f"report{bundle.name}"), verdict_on(bundle))
    row = dict.fromkeys(Predictor.load(golden).preparer.names)
    second, other = (Predictor.load(bundle).predict([row])[0] for bundle in (bundles[1], golden))
    assert find_bundle(second, models=store) == store.folder / "versions" / "2" / "bundle"
    with pytest.raises(UserError, match="does not hold bundle"):
        find_bundle(other, models=store)
    with pytest.raises(UserError, match="The given folder"):
        find_bundle(second, models=store, bundle=bundles[0])


def test_an_answer_of_a_bundle_that_is_gone_says_so(
    feedback: Feedback, golden: Path, known: list[dict[str, Any]], tmp_path: Path
) -> None:
    (name,) = store_rows(feedback, golden, [known[0]["record"]])
    with pytest.raises(UserError, match="The model store"):
        replay(feedback, name, models=ModelStore(tmp_path / "models"))
    with pytest.raises(UserError, match="No prediction with id"):
        replay(feedback, "0" * 32, models=ModelStore(tmp_path / "models"))


def test_an_input_that_was_not_kept_says_so(golden: Path, known: list[dict[str, Any]], tmp_path: Path) -> None:
    settings = FeedbackSettings(keep_inputs=False)
    with closing(open_feedback(settings, root=tmp_path)) as feedback:
        (name,) = store_rows(feedback, golden, [known[0]["record"]])
        with pytest.raises(UserError, match="not kept"):
            replay(feedback, name, models=ModelStore(tmp_path), bundle=golden)


def test_an_input_that_has_expired_says_so(feedback: Feedback, discs: Path, tmp_path: Path) -> None:
    predictor, data = Predictor.load(discs), png(draw_discs(1, seed=3)[0].pixels)
    (answer,) = predictor.predict([data])
    feedback.record([Answered(prediction=answer, kind="image", input_png=data)])
    shutil.rmtree(tmp_path / "work")
    with pytest.raises(UserError, match="expired after 180 days"):
        replay(feedback, answer.id, models=ModelStore(tmp_path), bundle=discs)


def test_another_answer_is_no_replay(
    feedback: Feedback, golden: Path, known: list[dict[str, Any]], tmp_path: Path
) -> None:
    row = known[0]["record"]
    (answer,) = Predictor.load(golden).predict([row])
    first, *others = answer.probabilities
    shifted = {**answer.probabilities, first: answer.probabilities[first] + 2e-6}
    flipped = replace(answer, id="f" * 32, label=others[0] if answer.label == first else first)
    changed = [replace(answer, id="e" * 32, probabilities=shifted), flipped]
    feedback.record([Answered(prediction=one, kind="table", row=row) for one in changed])
    for one in changed:
        with pytest.raises(UserError, match="The replayed prediction"):
            replay(feedback, one.id, models=ModelStore(tmp_path), bundle=golden)


def test_a_promotion_is_in_the_journal(tmp_path: Path) -> None:
    champion = Champion(version=2, bundle="b" * 64, previous=1, promoted="2026-01-01", by="Ann")
    assert note_promotion(tmp_path, FeedbackSettings(), champion) == "in the journal"
    assert note_promotion(tmp_path, FeedbackSettings(), champion, kind="rollback") == "in the journal"
    away = FeedbackSettings(url="postgresql://u@127.0.0.1:1/d", journal_key="k" * 64)
    assert note_promotion(tmp_path, away, champion).startswith("not in the journal")
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        assert [entry.kind for entry in feedback.journal.entries()] == ["promotion", "rollback"]
        said = verify(feedback)
        assert said.startswith("2 entries verified")
        assert verify(feedback, noted=said.rpartition(" ")[2]) == said
        with pytest.raises(UserError, match="entry 3 is missing at the end"):
            verify(feedback, noted="3:" + "a" * 64)
        with pytest.raises(UserError, match="NUMBER:HASH"):
            verify(feedback, noted="3")


def test_a_patient_is_computed_again_from_all_slices(feedback: Feedback, discs: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(discs.parent, project, ignore=shutil.ignore_patterns("bundle"))
    export_project(project, per="patient", combine="noisy-or")
    predictor = Predictor.load(project / "bundle")
    slices = [png(disc.pixels) for disc in draw_discs(5, seed=3)]
    (answer,) = predictor.predict(slices, patients=[0] * 5)
    kept = [Slice(png=data, size=(48, 48)) for data in slices]
    feedback.record([Answered(prediction=answer, kind="image", patient="f" * 64, slices=kept)])
    found = replay(feedback, answer.id, models=ModelStore(tmp_path / "models"), bundle=project / "bundle")
    assert found.difference <= 1e-6
    assert found.again.probabilities == pytest.approx(answer.probabilities, abs=1e-6)
