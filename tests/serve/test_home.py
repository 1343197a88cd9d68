"""The plain page: a scan or a row in, a class or the reason for none out, without scripts."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from .conftest import TestClient

FORM = {"age (years)": "50", "Größe, cm": "10.5", "c0": "1", "one": "0", "label": "left", "prepare/variable": ""}

AS_A_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_scans_get_their_class_shares_and_heatmap(images: TestClient, scans: list[bytes]) -> None:
    page = images.get("/")
    assert 'enctype="multipart/form-data"' in page.text
    files = [("files", ("clear.png", scans[0])), ("files", ("<b>.png", scans[3])), ("files", ("bad.png", b"%PDF"))]
    answer = images.post("/", files=files)
    assert answer.status_code == 200
    assert answer.text.count("data:image/png;base64,") == 2
    told = ("clear.png", "&lt;b&gt;.png", "Classes that remain possible", "<meter", "Cannot be used", "a PDF document")
    for text in told:
        assert text in answer.text
    assert "<script" not in answer.text
    assert "<b>.png" not in answer.text


@pytest.mark.parametrize("files", [[], [("files", ("", b""))]], ids=["no file", "none chosen"])
def test_nothing_chosen_is_told_on_the_page(images: TestClient, files: list[tuple[str, tuple[str, bytes]]]) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    answer = images.post("/", files=files) if files else images.post("/", content=b"--x--\r\n", headers=form)
    assert answer.status_code == 422
    assert "Cannot be used" in answer.text


def test_a_row_gets_its_class(client: TestClient) -> None:
    answer = client.post("/", data=FORM)
    assert answer.status_code == 200
    assert 'class="class"' in answer.text
    assert "benign" in answer.text


def test_values_are_read_as_in_a_csv_file_and_shown_beside_the_answer(client: TestClient) -> None:
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
    "a text": ({**FORM, "one": "<script>"}, "&#x27;one&#x27; must be a finite number"),
    "a comma for thousands or a decimal one": ({**FORM, "one": "1,234"}, "found: &#x27;1,234&#x27;"),
    "an underscore": ({**FORM, "one": "1_000"}, "found: &#x27;1_000&#x27;"),
    "a column twice": ([*FORM.items(), ("one", "1")], "name each column once"),
    "another column": ({**FORM, "<i>": "1"}, "&lt;i&gt;"),
    "infinite": ({**FORM, "one": "inf"}, "must be a finite number"),
    "nothing": ({"x": ""}, "Cannot be used"),
}


@pytest.mark.parametrize(("form", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_told_as_text(client: TestClient, form: Any, told: str) -> None:
    answer = client.post("/", content=urlencode(form), headers=AS_A_FORM)
    assert answer.status_code == 422
    assert told in answer.text
    assert "<script>" not in answer.text


def test_a_form_for_the_other_kind_is_refused(images: TestClient, client: TestClient, scans: list[bytes]) -> None:
    assert client.post("/", files={"files": ("a.png", scans[0])}).status_code == 422
    assert images.post("/", data=FORM).status_code == 422
