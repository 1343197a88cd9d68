"""A bundle that decides per patient, over HTTP: patients in, one answer each, all slices kept; strangers refused."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.bundle.predictor import Predictor
from medloop.client import Client, ServiceError
from medloop.decode.raster import decode, keyed_hash
from medloop.feedback import open_feedback
from medloop.feedback.reader import BEGINNING, Reader
from medloop.registry.follow import LoadedModel
from medloop.registry.store import ModelStore
from medloop.serve.http.access import LOCAL
from medloop.serve.http.uploads import Upload
from medloop.serve.inference.inference_service import Caller
from medloop.serve.service import Service
from medloop.serve.shadow.process import Incomparable, Scorer, load_challenger
from medloop.serve.shadow.report import Pair, ShadowReport, Task
from medloop.settings import ServeSettings, Settings
from tests.bundle.image_bundles import SIZE, draw_discs, export_project, png
from tests.decode.dicom_files import dicom
from tests.registry.versions import bundle_like
from tests.serve.conftest import TestClient, served
from tests.serve.shadow.challengers import register
from tests.serve.test_lifecycle import wait_until

PATIENT = "Jane Doe 1950"
SLICES = [png(disc.pixels) for disc in draw_discs(8, seed=11)]


@pytest.fixture(scope="module")
def by_patient(image_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of the other tests, which now decides by all slices together."""
    folder = tmp_path_factory.mktemp("by_patient")
    for name in ("prepared", "trained", "splits.parquet"):
        (folder / name).symlink_to(image_bundle.parent / name)
    export_project(folder, threshold="sensitivity >= 0.95", per="patient", combine="noisy-or")
    return folder / "bundle"


@pytest.fixture(scope="module")
def predictor(by_patient: Path) -> Predictor:
    return Predictor.load(by_patient)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture(scope="module")
def patients(predictor: Predictor, root: Path) -> Iterator[TestClient]:
    with served(predictor, root) as client:
        yield client


def form(slices: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"slice{number}.png", data)) for number, data in enumerate(slices)]


def series(seed: int, frames: int, **tags: Any) -> bytes:
    """A DICOM file of this many frames."""
    grey = np.concatenate([disc.pixels for disc in draw_discs(2 * frames, seed=seed)[:frames]])
    values = {"NumberOfFrames": str(frames), "Rows": SIZE, "Modality": "OT"}
    return dicom(grey, **{**values, **tags})


def test_all_slices_of_a_patient_become_one_prediction(patients: TestClient, predictor: Predictor) -> None:
    (expected,) = predictor.predict(SLICES[:4], patients=[0] * 4)
    answer = patients.post("/v1/predictions", files=form(SLICES[:4]), data={"patient": PATIENT})
    assert answer.status_code == 200, answer.text
    (body,) = answer.json()["predictions"]
    assert body["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert (body["label"], body["reason"]) == (expected.label, expected.reason)
    assert [one["file"] for one in body["slices"]] == [f"slice{number}.png" for number in range(4)]
    assert PATIENT not in answer.text


def test_several_slightly_suspicious_slices_add_up(patients: TestClient, predictor: Predictor) -> None:
    share = predictor.score(SLICES[:4]).probabilities[:, 1]
    (body,) = patients.post("/v1/predictions", files=form(SLICES[:4]), data={"patient": "p"}).json()["predictions"]
    assert body["probabilities"]["disc"] == pytest.approx(1 - np.prod(1 - share), abs=1e-6)


def test_files_of_different_patients_get_one_prediction_each(patients: TestClient, predictor: Predictor) -> None:
    whose = ["a", "b", "a", "c", "b", "a"]
    expected = predictor.predict(SLICES[:6], patients=whose)
    body = patients.post("/v1/predictions", files=form(SLICES[:6]), data={"patient": whose}).json()
    assert [one["probabilities"] for one in body["predictions"]] == [
        pytest.approx(one.probabilities, abs=1e-6) for one in expected
    ]
    assert [[at["number"] for at in one["slices"]] for one in body["predictions"]] == [[0, 2, 5], [1, 4], [3]]
    assert len({one["id"] for one in body["predictions"]}) == len({one["patient"] for one in body["predictions"]}) == 3


def test_a_dicom_file_names_its_patient_and_its_frames_are_slices(patients: TestClient, by_patient: Path) -> None:
    files = [("files", (f"{n}.dcm", dicom(draw_discs(2, seed=n)[0].pixels, PatientID="P7"))) for n in range(3)]
    answer = patients.post("/v1/predictions", files=[*files, *form(SLICES[:1])], data={"patient": ["", "", "", "x"]})
    one, other = answer.json()["predictions"]
    assert ([at["number"] for at in one["slices"]], [at["number"] for at in other["slices"]]) == ([0, 1, 2], [3])
    assert "P7" not in answer.text
    # Sent with the request, the same name is the same patient.
    (named,) = patients.post("/v1/predictions", files=form(SLICES[:1]), data={"patient": "P7"}).json()["predictions"]
    assert named["patient"] == one["patient"]


def test_the_series_identifies_the_patient_if_the_header_does_not(patients: TestClient) -> None:
    tags = {"PatientID": None, "StudyInstanceUID": None}
    files = [
        ("files", (f"{n}.dcm", dicom(draw_discs(2, seed=n)[0].pixels, SeriesInstanceUID=f"1.2.{n % 2}", **tags)))
        for n in range(4)
    ]
    found = patients.post("/v1/predictions", files=files).json()["predictions"]
    assert [[at["number"] for at in one["slices"]] for one in found] == [[0, 2], [1, 3]]


@pytest.mark.parametrize("path", ["/v1/predictions", "/predict"])
def test_a_request_without_patients_is_refused(patients: TestClient, path: str) -> None:
    answer = patients.post(path, files=form(SLICES[:2]))
    assert answer.status_code == 422
    assert "decides per patient" in answer.json()["message"]
    assert "`patient`" in answer.json()["hint"]


WRONG: dict[str, tuple[Any, str]] = {
    "two for three": (["a", "b"], "2 fields `patient` for 3 files"),
    "none for one of them": (["a", "b", " "], "the case has no patient"),
    "too long": (["x" * 201], "201 characters"),
    "a control character": (["a\x07"], "U+0007"),
    "another encoding": ([b"M\xfcller"], "not text in UTF-8"),
    "a letter lost before": (["M\ufffdller"], "U+FFFD"),
}


@pytest.mark.parametrize(("whose", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_refused_without_being_repeated(patients: TestClient, whose: list[str], told: str) -> None:
    answer = patients.post("/v1/predictions", files=form(SLICES[:3]), data={"patient": whose})
    assert answer.status_code == 422
    assert told in answer.json()["message"]


def test_names_in_another_encoding_are_not_confused(patients: TestClient) -> None:
    names = [b"M\xfcller", b"M\xf6ller"]
    answer = patients.post("/v1/predictions", files=[*form(SLICES[:2]), *(("patient", (None, one)) for one in names)])
    assert (answer.status_code, "UTF-8" in answer.json()["message"]) == (422, True), answer.text
    one, other = (
        patients.post("/v1/predictions", files=form(SLICES[:1]), data={"patient": name.decode("latin-1")}).json()
        for name in names
    )
    assert one["predictions"][0]["patient"] != other["predictions"][0]["patient"]


@pytest.mark.parametrize("name", [r"M\ufffdller", r"M\udcfcller"])
def test_a_name_in_json_must_have_all_its_letters(patients: TestClient, name: str) -> None:
    sent = f'{{"image": "{base64.b64encode(SLICES[0]).decode()}", "patient": "{name}"}}'
    answer = patients.post("/predict", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text


def test_a_patient_with_an_unusable_slice_gets_no_prediction_and_others_do(patients: TestClient) -> None:
    files = form([SLICES[0], b"%PDF-1.7", SLICES[1], SLICES[2]])
    body = patients.post("/v1/predictions", files=files, data={"patient": ["a", "a", "a", "b"]}).json()
    assert [[at["number"] for at in one["slices"]] for one in body["predictions"]] == [[3]]
    assert [one["number"] for one in body["rejected"]] == [0, 1, 2]
    assert ["PDF" in one["message"] for one in body["rejected"]] == [False, True, False]


def test_the_short_forms_take_the_slices_of_one_patient(patients: TestClient, predictor: Predictor) -> None:
    (expected,) = predictor.predict(SLICES[:3], patients=[0] * 3)
    texts = [base64.b64encode(data).decode() for data in SLICES[:3]]
    for sent in ({"files": form(SLICES[:3]), "data": {"patient": "a"}}, {"json": {"image": texts, "patient": "a"}}):
        answer = patients.post("/predict", **sent)
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)


def stored(root: Path) -> int:
    with closing(sqlite3.connect(root / "feedback.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM predictions").fetchone()
    return int(count)


UNUSED: dict[str, tuple[list[bytes], str]] = {
    "two patients": (SLICES[:2], "one patient"),
    "a file that is none": ([SLICES[0], b"%PDF-1.7"], "File 2: "),
}


@pytest.mark.parametrize(("slices", "told"), UNUSED.values(), ids=UNUSED)
def test_a_refused_short_form_stores_no_prediction(
    patients: TestClient, root: Path, slices: list[bytes], told: str
) -> None:
    before = stored(root)
    answer = patients.post("/predict", files=form(slices), data={"patient": ["a", "b"]})
    assert (answer.status_code, told in answer.json()["message"]) == (422, True), answer.text
    assert stored(root) == before


def test_every_slice_is_stored_and_has_a_heatmap(patients: TestClient, predictor: Predictor) -> None:
    (body,) = patients.post("/v1/predictions", files=form(SLICES[:4]), data={"patient": "k"}).json()["predictions"]
    place = f"/v1/predictions/{body['id']}"
    stored = patients.get(place).json()
    assert (stored["slices"], stored["patient"], stored["label"]) == (4, body["patient"], body["label"])
    for number, data in enumerate(SLICES[:4]):
        kept = patients.get(f"{place}/input.png", params={"slice": number}).content
        assert (decode(kept).pixels == decode(data).pixels).all()
        heatmap = patients.get(f"{place}/heatmap.png", params={"slice": number})
        assert heatmap.content == predictor.heatmap(data, label=body["label"])
    for what in ("input.png", "heatmap.png"):
        assert patients.get(f"{place}/{what}", params={"slice": 4}).status_code == 404


def test_a_corrected_patient_is_exported_slice_by_slice(patients: TestClient, root: Path, tmp_path: Path) -> None:
    (body,) = patients.post("/v1/predictions", files=form(SLICES[4:7]), data={"patient": PATIENT}).json()["predictions"]
    sent = {"prediction_id": body["id"], "label": "clear", "reason": "seen"}
    correction = patients.post("/v1/corrections", json=sent).json()
    feedback = patients.app.state.service.feedback  # type: ignore[attr-defined]
    feedback.review(correction["id"], "accepted", "somebody else")
    assert feedback.export_corrections(tmp_path / "cases.csv") == 3
    lines = (tmp_path / "cases.csv").read_text("utf-8").splitlines()[1:]
    assert len({line.split(",")[0] for line in lines}) == 3
    assert all(body["patient"] in line and PATIENT not in line for line in lines)


def test_patients_are_stored_as_keyed_hashes_only(patients: TestClient, root: Path) -> None:
    patients.post("/v1/predictions", files=form(SLICES[:2]), data={"patient": PATIENT})
    service = patients.app.state.service  # type: ignore[attr-defined]
    with closing(sqlite3.connect(root / "feedback.db")) as database:
        hashes = {one for (one,) in database.execute("SELECT patient FROM predictions")}
        text = "\n".join(database.iterdump())
    assert keyed_hash(PATIENT, service.feedback.patient_key) in hashes
    assert "Jane" not in text
    assert service.feedback.journal.verify() == []


def test_the_page_asks_for_the_patient_and_shows_one_prediction(patients: TestClient) -> None:
    assert 'name="patient"' in patients.get("/").text
    page = patients.post("/", files=form(SLICES[:4]), data={"patient": PATIENT})
    assert page.status_code == 200
    assert page.text.count('class="class"') == page.text.count("data:image/png;base64,") == 1
    assert "slice0.png, and 3 more" in page.text
    assert PATIENT not in page.text
    assert "one prediction per patient" in patients.post("/", files=form(SLICES[:4])).text


def test_the_model_describes_how_it_decides(patients: TestClient, images: TestClient) -> None:
    assert [patients.get("/v1/model").json()[name] for name in ("per", "combine")] == ["patient", "noisy-or"]
    assert [images.get("/v1/model").json()[name] for name in ("per", "combine")] == ["case", None]


def test_a_bundle_that_decides_per_case_ignores_patients(images: TestClient) -> None:
    answer = images.post("/v1/predictions", files=form(SLICES[:4]), data={"patient": ["a", "b"]})
    assert [one["file"] for one in answer.json()["predictions"]] == [f"slice{number}.png" for number in range(4)]
    assert 'name="patient"' not in images.get("/").text


def test_a_long_series_does_not_block_other_requests(predictor: Predictor, tmp_path: Path) -> None:
    settings = Settings(serve=ServeSettings(auth=False, threads=1))
    feedback = open_feedback(settings.feedback, root=tmp_path)
    service = Service(settings, root=tmp_path, serving=LoadedModel(predictor=predictor), feedback=feedback)
    ends: list[int] = []

    async def ask(slices: list[bytes]) -> None:
        files = [Upload(name="a", data=data, patient="p") for data in slices]
        found = await service.predict_patients(predictor, files, Caller(key=LOCAL, trace="0" * 32))
        ends.append(sum(len(one.slices) for one in found.results))

    async def run() -> None:
        await asyncio.gather(ask(SLICES * 16), ask(SLICES[:2]))

    asyncio.run(run())
    service.close()
    assert ends == [2, 128]


def test_a_challenger_predicts_from_all_slices_of_a_patient(predictor: Predictor, tmp_path: Path) -> None:
    settings, report = Settings(), ShadowReport(pair=Pair(), since="now")
    task = Task(settings=settings, folder=tmp_path, pair=Pair())
    with served(predictor, tmp_path) as client, closing(Reader(settings.feedback, root=tmp_path)) as reader:
        client.post("/v1/predictions", files=form(SLICES[:4]), data={"patient": "p"})
        wait_until(lambda: reader.count_after(BEGINNING, bundle=predictor.hash) == 1)
        (stored,) = reader.after(BEGINNING, bundle=predictor.hash, limit=5)
        Scorer(task, report, reader=reader, challenger=predictor, ended=threading.Event())._score_one(stored)
    assert (report.tally.scored, report.tally.agreed, dict(report.tally.failed)) == (1, 1, {})
    assert report.tally.largest <= 1e-6


def test_a_bundle_per_case_and_one_per_patient_are_not_compared(golden: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    register(store, bundle_like(golden, tmp_path / "one"))
    register(store, bundle_like(golden, tmp_path / "two", decide={"per": "patient", "rule": "mean"}))
    pair = [one.numbered for one in store.versions()]
    task = Task(settings=Settings(), folder=tmp_path, pair=Pair())
    with pytest.raises(Incomparable, match="The champion decides per case, and the challenger per patient"):
        load_challenger(task, *pair)


def test_the_client_names_patients_and_gets_their_predictions(patients: TestClient, predictor: Predictor) -> None:
    client = Client("http://testserver")
    client._http = patients
    files = {f"{number}.png": data for number, data in enumerate(SLICES[:5])}
    sent = {PATIENT: {name: files[name] for name in ("0.png", "2.png", "4.png")}, "b": {"1.png": files["1.png"]}}
    found = client.predict_patients(sent)
    expected = predictor.predict([*(SLICES[n] for n in (0, 2, 4)), SLICES[1]], patients=[0, 0, 0, 1])
    assert [name for name, _ in found.predictions] == [PATIENT, "b"]
    for (_, one), said in zip(found.predictions, expected, strict=True):
        assert one.probabilities == pytest.approx(said.probabilities, abs=1e-6)
    assert client.input_png(found.predictions[0][1].id, slice_number=2) == SLICES[4]
    with pytest.raises(ServiceError, match="decides per patient"):
        client.predict_files(files)
