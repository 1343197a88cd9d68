"""CSV tables with odd cells: right, or an error that names row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medloop.data import manifest, read_source
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.prepare.csv_cells import unsafe_text
from medloop.recipe import DataSection
from tests.source_examples import COUNT, Order
from tests.tables import LABEL, clinic, places, write_csv


def example(folder: Path, order: Order) -> dict[str, Any]:
    table = clinic(COUNT)
    return {
        "path": str(write_csv(table.iloc[list(order(range(COUNT)))], folder)),
        "label": LABEL,
        "patient": "patient",
    }


EXAMPLES = {"csv": example}


def lines_of(rows: int = 6, **columns: Any) -> list[str]:
    """A small table as lines: id, size, side, diagnosis; a column given as a mapping replaces cells by row."""
    table = {
        "id": [f"p{row}" for row in range(2, rows + 2)],
        "size": [f"{row}.5" for row in range(2, rows + 2)],
        "side": [("left", "right")[row % 2] for row in range(2, rows + 2)],
        "diagnosis": [("B", "M")[row % 2] for row in range(2, rows + 2)],
    }
    for name, cells in columns.items():
        table.setdefault(name, [""] * rows)
        for row, cell in cells.items():
            table[name][row - 2] = cell
    return [",".join(table), *(",".join(cells) for cells in zip(*table.values(), strict=True))]


def read(lines: list[str], folder: Path, **data: Any) -> pd.DataFrame:
    path = folder / "table.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_source(DataSection(**{"path": str(path), "label": "diagnosis", "key": "id", **data}), places(folder))


def values(cases: pd.DataFrame, name: str) -> list[Any]:
    return sorted(cases[f"row.{name}"].tolist(), key=str)


def test_numbers_and_categories_are_told_apart(tmp_path: Path) -> None:
    cases = read(lines_of(), tmp_path)
    assert manifest.value_columns(cases) == ["size", "side"]
    assert values(cases, "size") == [2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert set(values(cases, "side")) == {"left", "right"}
    assert sorted(cases["label"]) == ["B", "B", "B", "M", "M", "M"]


@pytest.mark.parametrize("token", ["", "NA", "N/A", "NaN", "nan", "null", "?", " "])
def test_what_stands_for_nothing_is_missing(token: str, tmp_path: Path) -> None:
    cases = read(lines_of(size={3: token}, side={4: token}), tmp_path)
    assert cases["row.size"].isna().sum() == 1
    assert cases["row.side"].isna().sum() == 1


def test_the_recipe_says_what_else_is_missing(tmp_path: Path) -> None:
    cases = read(lines_of(size={3: "-9"}, side={4: "-"}), tmp_path, missing=[-9, "-"])
    assert cases["row.size"].isna().sum() == 1
    assert cases["row.side"].isna().sum() == 1


ODD_CELLS = {
    "a formula among numbers": ("size", "=1+1", "'=1+1' in row 4"),
    "infinity": ("size", "inf", "'inf' in row 4"),
    "minus infinity": ("size", "-Infinity", "'-Infinity' in row 4"),
    "an overflow": ("size", "1e400", "'1e400' in row 4"),
    "more than the model's numbers hold": ("size", "1e39", "'1e39' in row 4"),
    "another spelling of NaN": ("size", "NAN", "'NAN' in row 4"),
    "a unit": ("size", "4.5 mm", "'4.5 mm' in row 4"),
    "a bound": ("size", "<5", "'<5' in row 4"),
    "a text": ("size", "unknown", "'unknown' in row 4"),
    "an underscore": ("size", "1_000", "'1_000' in row 4"),
    "a long text": ("size", "x" * 500, "'" + "x" * 40 + "' in row 4"),
    "a number among texts": ("side", "7", "'7' in row 4"),
    "a formula among texts": ("side", "=HYPERLINK(x)", "a formula in row 4"),
    "a command among texts": ("side", "@SUM(A1)", "a formula in row 4"),
    "a sum among texts": ("side", "+A1", "a formula in row 4"),
    "a difference among texts": ("side", "-A1", "a formula in row 4"),
    "an invisible letter": ("side", "le\u200bft", "an invisible character in row 4"),
    "a command to the terminal": ("side", "\x1b[2Jleft", "an invisible character in row 4"),
    "a very long text": ("side", "y" * 10_001, "a text of more than 10,000 characters in row 4"),
    "a formula as a label": ("diagnosis", "=A1", "a formula in row 4"),
    "an invisible letter in a label": ("diagnosis", "M\u00ad", "an invisible character in row 4"),
    "a formula as a patient": ("id", "=A1", "a formula in row 4"),
    "no key": ("id", "", "is empty in row 4"),
    "a key twice": ("id", "p2", "the same value in rows 2 and 4"),
}


@pytest.mark.parametrize(("column", "cell", "place"), ODD_CELLS.values(), ids=ODD_CELLS)
def test_an_odd_cell_is_named_with_row_and_column(column: str, cell: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(RejectedInput) as caught:
        read(lines_of(**{column: {4: cell}}), tmp_path)
    assert f"Column '{column}'" in caught.value.problem
    assert place in caught.value.problem
    assert len(str(caught.value)) < 400


def test_decimal_commas_are_not_taken_for_categories(tmp_path: Path) -> None:
    lines = ["id;size;diagnosis", *(f"p{row};{row},5;{'BM'[row % 2]}" for row in range(6))]
    with pytest.raises(RejectedInput, match="decimal point") as caught:
        read(lines, tmp_path)
    assert "'0,5' in row 2" in caught.value.problem


def test_numbers_that_are_names_are_categories_where_the_recipe_says_so(tmp_path: Path) -> None:
    cases = read(lines_of(side={2: "1", 3: "2", 4: "2a"}, size={3: "x"}), tmp_path, categories=["side", "size"])
    assert set(values(cases, "side")) == {"1", "2", "2a", "left", "right"}
    assert "x" in values(cases, "size")


@pytest.mark.parametrize("sign", ["+", "++", "+++", "-", "--", "=", "-1", "+2.5"])
def test_lone_signs_and_signed_numbers_are_no_formulas(sign: str) -> None:
    assert unsafe_text(sign) is None


def test_labels_may_be_plus_and_minus(tmp_path: Path) -> None:
    cells = {row: "+" if row % 2 else "-" for row in range(2, 8)}
    assert set(read(lines_of(diagnosis=cells), tmp_path)["label"]) == {"+", "-"}


@pytest.mark.parametrize("name", ["=A1", "@x", "le\u200bft", "a\x1b[2J", "n" * 10_001])
def test_an_odd_column_name_is_refused(name: str, tmp_path: Path) -> None:
    lines = lines_of()
    lines[0] = lines[0].replace("side", name)
    with pytest.raises(RejectedInput, match="name of column 3") as caught:
        read(lines, tmp_path)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("data", [{"drop": ["notes"]}, {"features": ["size", "side"]}])
def test_what_the_model_never_sees_may_hold_anything(data: dict[str, Any], tmp_path: Path) -> None:
    odd = {2: "=A1", 3: "- a dash", 4: "x" * 20_000, 5: "inf", 6: "7", 7: "\u200b"}
    cases = read(lines_of(notes=odd), tmp_path, **data)
    assert manifest.value_columns(cases) == ["size", "side"]


def test_columns_for_subgroups_stand_beside_the_case_and_the_model_never_sees_them(tmp_path: Path) -> None:
    lines = lines_of(site={2: "north", 3: "south"}, age={2: "61", 3: "72.5"})
    cases = read(lines, tmp_path, columns=["site", "age"])
    assert manifest.value_columns(cases) == ["size", "side"]
    assert sorted(cases["site"].dropna()) == ["north", "south"]
    assert sorted(cases["age"].dropna()) == [61.0, 72.5]
    kept = read(lines, tmp_path, columns=["site", "side"], features=["size", "side"])
    assert manifest.value_columns(kept) == ["size", "side"]
    assert "side" not in kept


@pytest.mark.parametrize("name", ["source", "label", "path"])
def test_a_column_for_subgroups_takes_no_name_of_medloop_itself(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"medloop uses itself: {name}"):
        read(lines_of(**{name: {2: "x"}}), tmp_path, columns=[name])


def test_a_column_for_subgroups_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"(?i)Did you mean 'side'"):
        read(lines_of(), tmp_path, columns=["sde"])


def test_an_all_empty_column_is_passed_over(tmp_path: Path) -> None:
    assert manifest.value_columns(read(lines_of(empty={}), tmp_path)) == ["size", "side"]


@pytest.mark.parametrize("data", [{"drop": ["empty"]}, {"categories": ["empty"]}, {"features": ["size", "empty"]}])
def test_an_all_empty_column_that_the_recipe_names_is_known(data: dict[str, Any], tmp_path: Path) -> None:
    cases = read(lines_of(empty={}), tmp_path, **data)
    assert ("row.empty" in cases) == ("drop" not in data)


def test_a_file_like_the_classic_one_is_read(tmp_path: Path) -> None:
    """Quoted names, an id, M and B, and a last column without name or values."""
    lines = ['"id","diagnosis","radius_mean","concave points_mean",']
    lines += [f"{842302 + row},{'MB'[row % 2]},{17.99 + row},0.{row}471" for row in range(8)]
    cases = read(lines, tmp_path, rename={"M": "malignant", "B": "benign"}, classes=["benign", "malignant"])
    assert manifest.value_columns(cases) == ["radius_mean", "concave points_mean"]
    assert cases["label"].value_counts().to_dict() == {"benign": 4, "malignant": 4}


@pytest.mark.parametrize("missing", ["path", "label"])
def test_path_and_label_are_needed(missing: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs data.path and data.label"):
        read(lines_of(), tmp_path, **{missing: None})


def test_an_unknown_source_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        read(lines_of(), tmp_path, source="cvs")
    assert caught.value.near == "csv"
