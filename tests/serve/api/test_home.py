"""The upload page: scans or values in, classes or errors out, without scripts."""

from __future__ import annotations

import re
from html import unescape
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest

from medloop.page import render
from tests.serve.conftest import TestClient

FORM = {"age (years)": "50", "Größe, cm": "10.5", "c0": "1", "one": "0", "label": "left", "prepare/variable": ""}

AS_A_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_scans_get_their_probabilities_and_heatmap(images: TestClient, scans: list[bytes]) -> None:
    page = images.get("/")
    assert 'enctype="multipart/form-data"' in page.text
    files = [("files", ("clear.png", scans[0])), ("files", ("<b>.png", scans[3])), ("files", ("bad.png", b"%PDF"))]
    answer = images.post("/", files=files)
    assert answer.status_code == 200
    assert answer.text.count("data:image/png;base64,") == 2
    for text in ("clear.png", "&lt;b&gt;.png", "Possible classes (prediction set)", "<meter", "Rejected", "PDF"):
        assert text in answer.text
    assert "<script" not in answer.text
    assert "<b>.png" not in answer.text


@pytest.mark.parametrize("files", [[], [("files", ("", b""))]], ids=["no file", "none chosen"])
def test_a_form_without_a_file_is_rejected_on_the_page(
    images: TestClient, files: list[tuple[str, tuple[str, bytes]]]
) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    answer = images.post("/", files=files) if files else images.post("/", content=b"--x--\r\n", headers=form)
    assert answer.status_code == 422
    assert "Rejected" in answer.text


def test_values_get_their_class(client: TestClient) -> None:
    answer = client.post("/", data=FORM)
    assert answer.status_code == 200
    assert 'class="class"' in answer.text
    assert "benign" in answer.text


def test_values_are_read_as_in_a_csv_file_and_shown_with_the_prediction(client: TestClient) -> None:
    answer = client.post("/", data={**FORM, "one": " 1e-3 ", "c0": "nan", "label": "NA"})
    assert answer.status_code == 200
    read = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", answer.text))
    assert read == {
        "age (years)": "50",
        "Größe, cm": "10.5",
        "c0": "unknown",
        "one": "0.001",
        "label": "unknown",
        "prepare/variable": "unknown",
    }


WRONG = {
    "markup": ({**FORM, "one": "<script>"}, "&lt;script&gt;"),
    "a comma for thousands or a decimal one": ({**FORM, "one": "1,234"}, "1,234"),
    "an underscore": ({**FORM, "one": "1_000"}, "1_000"),
    "a column twice": ([*FORM.items(), ("one", "1")], "more than once"),
    "another column": ({**FORM, "<i>": "1"}, "&lt;i&gt;"),
    "infinite": ({**FORM, "one": "inf"}, "inf"),
    "nothing": ({"x": ""}, "Rejected"),
}


@pytest.mark.parametrize(("form", "shown"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_rejected_and_shown_as_text(client: TestClient, form: Any, shown: str) -> None:
    answer = client.post("/", content=urlencode(form), headers=AS_A_FORM)
    assert answer.status_code == 422
    assert "Rejected" in answer.text
    assert shown in answer.text
    assert "<script>" not in answer.text


def test_a_form_for_the_other_kind_of_model_is_refused(
    images: TestClient, client: TestClient, scans: list[bytes]
) -> None:
    assert client.post("/", files={"files": ("a.png", scans[0])}).status_code == 422
    assert images.post("/", data=FORM).status_code == 422


def form_for(name: str) -> str:
    """The page of a model whose column, classes and title have this name."""
    texts = dict.fromkeys(("title", "lead", "threshold", "rule", "accept"), name)
    lists: dict[str, list[Any]] = {"results": [], "classes": [name], "positive": [name]}
    column = SimpleNamespace(name=name, kind="number")
    switches = {"takes_images": False, "by_patient": True, "max_patient_length": 64}
    return render("upload.html", **texts, **lists, **switches, columns=[column])


def test_markup_in_names_is_shown_as_text() -> None:
    hostile = "<script>alert(1)</script>\" onfocus='x"
    page = form_for(hostile)
    assert "<script" not in page
    assert [unescape(name) for name in re.findall(r'<input name="(.*?)"', page)] == [hostile]


def test_a_column_name_with_invisible_characters_is_sent_back_unchanged() -> None:
    assert '<label>a\\u202eb<input name="a\u202eb"' in form_for("a\u202eb")
