"""A file of rows in, a file of answers out; a bad row costs nobody else an answer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle.batch.score import ROWS_PER_BATCH, score_files
from medloop.bundle.predictor import Predictor
from medloop.errors import RejectedInput, UserError
from tests.loop_project import small_rows, write_table


@pytest.fixture(scope="module")
def predictor(golden: Path) -> Predictor:
    return Predictor.load(golden)


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scored(predictor: Predictor, tmp_path: Path, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    score_files(predictor, [write_table(tmp_path / "in.csv", rows)], tmp_path / "out.csv")
    return lines_of(tmp_path / "out.csv")


def test_predictions_are_in_the_order_of_the_rows(predictor: Predictor, tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(20, seed=3)]
    lines = scored(predictor, tmp_path, rows)
    assert [line["row"] for line in lines] == [str(number) for number in range(2, 22)]
    for line, row in zip(lines, rows, strict=True):
        record = {name: None if row[name] in ("", "?") else row[name] for name in predictor.preparer.names}
        answer = predictor.predict([record])[0]
        assert float(line["p_malignant"]) == pytest.approx(answer.probabilities["malignant"], abs=1e-6)
        assert (line["label"] or None, line["bundle"]) == (answer.label, predictor.hash)


def test_one_bad_row_among_a_hundred_is_one_named_rejection(predictor: Predictor, tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(100, seed=3)]
    rows[41]["c0"] = "many"
    table = write_table(tmp_path / "in.csv", rows)
    result = score_files(predictor, [table], tmp_path / "out.csv", names=True)
    assert (result.answered, result.rejected) == (99, 1)
    bad = [line for line in lines_of(tmp_path / "out.csv") if line["rejected"]]
    assert [(line["file"], line["row"], line["label"], line["p_benign"]) for line in bad] == [("in.csv", "43", "", "")]
    assert "not a finite number" in bad[0]["rejected"]


def test_a_bad_row_beyond_the_first_chunk_keeps_its_number(predictor: Predictor, tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(ROWS_PER_BATCH + 5, seed=3)]
    rows[ROWS_PER_BATCH + 2]["one"] = "1e999"
    lines = scored(predictor, tmp_path, rows)
    assert [line["row"] for line in lines if line["rejected"]] == [str(ROWS_PER_BATCH + 4)]


def test_the_words_for_missing_are_those_of_training(predictor: Predictor, tmp_path: Path) -> None:
    row = dict(small_rows(1)[0])
    words = [{**row, "c0": word, "label": word} for word in predictor.meta["recipe"]["data"]["missing"]]
    lines = scored(predictor, tmp_path, [*words, {**row, "label": "unknown", "c0": ""}])
    assert len({line["p_malignant"] for line in lines[:-1]}) == 1
    assert not any(line["rejected"] for line in lines)
    assert lines[-1]["p_malignant"] != lines[0]["p_malignant"]


def test_further_columns_are_passed_over(predictor: Predictor, tmp_path: Path) -> None:
    row = dict(small_rows(1)[0])
    with_name, without = scored(predictor, tmp_path, [{"name": "x", **row}])[0], scored(predictor, tmp_path, [row])[0]
    assert with_name == without


def test_an_absent_column_is_named_before_anything_is_written(predictor: Predictor, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name not in ("c0", "one")} for row in small_rows(3)]
    with pytest.raises(RejectedInput, match="has no column 'c0' and 1 others"):
        scored(predictor, tmp_path, rows)
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_ending_is_refused_before_the_work(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not end in \.csv or \.parquet"):
        score_files(predictor, [tmp_path / "absent.csv"], tmp_path / "out.txt")


def test_several_files_share_one_output(predictor: Predictor, tmp_path: Path) -> None:
    tables = [write_table(tmp_path / f"{name}.csv", small_rows(3, seed=1)) for name in "ab"]
    score_files(predictor, tables, tmp_path / "new" / "out.csv", names=True)
    lines = lines_of(tmp_path / "new" / "out.csv")
    assert [(line["file"], line["row"]) for line in lines] == [
        (f"{name}.csv", str(row)) for name in "ab" for row in (2, 3, 4)
    ]


def test_the_same_file_produces_the_same_bytes(predictor: Predictor, tmp_path: Path) -> None:
    table = write_table(tmp_path / "in.csv", small_rows(10))
    for name in ("first.csv", "second.csv"):
        score_files(predictor, [table], tmp_path / name)
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()
