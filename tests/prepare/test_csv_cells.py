"""CSV files from everywhere: read as they are meant, or refused with the place."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.errors import RejectedInput, UserError
from medloop.prepare.csv_cells import MAX_NUMBER, finite_number, is_number, read_cells


def read(content: str | bytes, folder: Path) -> tuple[list[str], list[list[str]]]:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_cells(path)


PLAIN = (["a", "b"], [["1", "x"], ["2", "y"]])
SPELLINGS = {
    "plain": "a,b\n1,x\n2,y\n",
    "without a last line end": "a,b\n1,x\n2,y",
    "with empty lines at the end": "a,b\n1,x\n2,y\n\n\n",
    "from Windows": "a,b\r\n1,x\r\n2,y\r\n",
    "from an old Mac": "a,b\r1,x\r2,y\r",
    "with a byte order mark": b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
    "with semicolons": "a;b\n1;x\n2;y\n",
    "with quotes": '"a","b"\n"1","x"\n"2","y"\n',
    "with a mark and quotes": b'\xef\xbb\xbf"a","b"\n1,x\n2,y\n',
    "with spaces": " a , b \n 1, x\n2 ,y \n",
    "with hard spaces": "\u00a0a,b\n1\u00a0,x\n2,y\n",
    "with an empty column at the end of the header": "a,b,\n1,x\n2,y\n",
    "with an empty column at the end": "a,b,\n1,x,\n2,y,\n",
    "with empty columns at the end": "a,b,,\n1,x,,\n2,y\n",
    "with commas at the ends of the rows": "a,b\n1,x,,\n2,y,\n",
}


@pytest.mark.parametrize("content", SPELLINGS.values(), ids=SPELLINGS)
def test_the_same_table_is_read_however_it_is_spelt(content: str | bytes, tmp_path: Path) -> None:
    assert read(content, tmp_path) == PLAIN


def test_quoted_cells_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    assert read('a,b\n"x, y","he said ""no"""\n"1\n2",z\n', tmp_path)[1] == [["x, y", 'he said "no"'], ["1\n2", "z"]]


REFUSED = {
    "nothing": ("", "0 lines"),
    "only a mark": (b"\xef\xbb\xbf", "0 lines"),
    "only a header": ("a,b\n", "1 lines"),
    "a NUL": ("a,b\n1,2\n3,\0\n", "line 3"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "line 1"),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), "NUL byte in line 1"),
    "another encoding": ("a,b\n1,2\nGröße,3\n".encode("latin-1"), "line 3"),
    "an open quote": ('a,b\n1,2\n"3,4\n', "line 3"),
    "a quote in the middle": ('a,b\n"1"2,3\n', "line 2"),
    "an endless cell": ("a,b\n1,2\n" + "x" * 200_000 + ",3\n", "line 3"),
    "a column without a name": ("a,,c\n1,2,3\n", "(empty)"),
    "a last column without a name": ("a,\n1,2\n", "(empty)"),
    "two columns of one name": ("a,b,a\n1,2,3\n", "a"),
    "two columns of one name but for spaces": ("a,b,a \n1,2,3\n", "a"),
    "a short row": ("a,b\n1,2\n3\n", "1 cells in row 3"),
    "a long row": ("a,b\n1,2\n3,4\n5,6,7\n", "3 cells in row 4"),
    "a decimal comma between commas": ("a,b\n1,5,2\n", "3 cells in row 2"),
    "an empty line": ("a,b\n1,2\n\n3,4\n", "row 3"),
    "empty lines before the header": ("\n\na,b\n1,2\n", "row 1"),
    "a second line end in each line": ("a,b\r\r\n1,2\r\r\n", "row 2"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "line 1"),
    "a workbook": (b"PK\x03\x04\x14\x00" + b"\x00" * 50, "NUL byte in line 1"),
}


@pytest.mark.parametrize(("content", "place"), REFUSED.values(), ids=REFUSED)
def test_a_broken_table_is_refused_with_the_place(content: str | bytes, place: str, tmp_path: Path) -> None:
    with pytest.raises(RejectedInput) as caught:
        read(content, tmp_path)
    assert place in caught.value.problem
    assert caught.value.problem.startswith("table.csv")


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_what_is_no_file_is_refused_without_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file") as caught:
        read_cells(tmp_path / name)
    assert str(tmp_path.parent) not in str(caught.value)


@settings(deadline=None)
@given(content=st.binary(max_size=300) | st.text(alphabet='ab1,;"\n\r =', max_size=80).map(str.encode))
def test_any_bytes_are_a_table_or_a_named_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        header, rows = read(content, tmp_path_factory.getbasetemp())
    except UserError:
        return
    assert all(len(row) == len(header) for row in rows)
    assert len(set(header)) == len(header)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=8)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), delimiter=st.sampled_from(",;"))
def test_what_a_csv_writer_writes_is_read_back(
    rows: list[tuple[str, str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("first", "second"), *rows])
    header, cells = read(text.getvalue(), tmp_path_factory.getbasetemp())
    assert header == ["first", "second"]
    assert cells == [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize(
    "text", ["1", "-1", "+1.5", ".5", "1e-3", "1E5", "0", "-0.0", "inf", "-Infinity", "nan", "1e400"]
)
def test_what_reads_as_a_number(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize(
    "text", ["", "x", "1,5", "1 000", "1_000", "0x10", "1.2.3", "--1", "12 mm", "<5", "1e", "\u22121"]
)
def test_what_does_not_read_as_a_number(text: str) -> None:
    assert not is_number(text)


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e400", "1e39", "-3.5e38", "x", "1,5", "=1+1"])
def test_a_cell_that_is_no_finite_number_is_named_with_row_and_column(text: str) -> None:
    with pytest.raises(RejectedInput, match="not a finite number") as caught:
        finite_number(text, column="area", row=7)
    assert f"Column 'area' has {text!r} in row 7" in caught.value.problem


def test_the_largest_number_is_that_of_the_model() -> None:
    assert finite_number(repr(MAX_NUMBER), column="a", row=2) == MAX_NUMBER
    with pytest.raises(RejectedInput):
        finite_number(repr(MAX_NUMBER * 1.001), column="a", row=2)
