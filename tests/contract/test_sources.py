"""What holds for every entry of SOURCES: the fixed columns, ids of their own, and no order that matters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.data import SOURCES, manifest, read_source
from medloop.errors import UnknownName, UserError
from medloop.recipe import DataSection
from tests.slips import are_one_slip_apart, slips
from tests.source_examples import Example, Order
from tests.tables import places

TESTS = Path(__file__).parents[1] / "data" / "sources"


def _examples() -> Iterator[tuple[str, Example]]:
    """Yield the examples that the test files of the sources bring, by the name of the source."""
    for file in sorted(TESTS.glob("test_*.py")):
        module = importlib.import_module(f"tests.data.sources.{file.stem}")
        yield from getattr(module, "EXAMPLES", {}).items()


EXAMPLES = dict(_examples())
every_source = pytest.mark.parametrize("name", list(EXAMPLES))


def read(name: str, folder: Path, order: Order = list) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    section = DataSection(source=name, **EXAMPLES[name](folder, order))
    return read_source(section, places(folder.resolve()))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return {name: read(name, tmp_path_factory.mktemp(name)) for name in EXAMPLES}


def test_every_source_has_an_example() -> None:
    assert set(EXAMPLES) == set(SOURCES)


@every_source
def test_an_entry_explains_itself(name: str) -> None:
    assert SOURCES[name].summary.endswith(".")


@every_source
def test_the_fixed_columns_come_first(name: str, manifests: dict[str, pd.DataFrame]) -> None:
    cases = manifests[name]
    assert cases.columns.tolist()[: len(manifest.COLUMNS)] == list(manifest.COLUMNS)
    assert set(cases["source"]) == {name}


@every_source
def test_every_case_has_an_id_of_its_own_and_stands_in_their_order(
    name: str, manifests: dict[str, pd.DataFrame]
) -> None:
    ids = manifests[name]["case_id"]
    assert ids.is_unique
    assert ids.is_monotonic_increasing
    assert ids.str.fullmatch("[0-9a-f]{20}").all()


@every_source
def test_every_case_has_a_label_a_fingerprint_and_no_reason_against_it(
    name: str, manifests: dict[str, pd.DataFrame]
) -> None:
    cases = manifests[name]
    assert cases["quarantined"].isna().all()
    assert cases["label"].nunique() >= 2
    assert cases["file_sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert len(cases) >= 4


@every_source
def test_tables_have_values_and_images_have_files(name: str, manifests: dict[str, pd.DataFrame]) -> None:
    cases = manifests[name]
    is_table = SOURCES[name].gives == "table"
    assert bool(manifest.value_columns(cases)) == is_table
    assert cases["path"].notna().all() == (not is_table)
    assert cases["width"].notna().all() == (not is_table)


@every_source
def test_the_order_of_rows_or_files_does_not_matter(
    name: str, manifests: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    again = read(name, tmp_path / name, lambda numbers: list(reversed(numbers)))
    expected = manifests[name]
    assert manifest.fingerprint(again) == manifest.fingerprint(expected)
    pd.testing.assert_frame_equal(again.drop(columns="path"), expected.drop(columns="path"))


@every_source
def test_a_manifest_survives_the_disk(name: str, manifests: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    manifest.write_cases(manifests[name], tmp_path / "cases.parquet")
    again = manifest.read_cases(tmp_path / "cases.parquet")
    assert manifest.fingerprint(again) == manifest.fingerprint(manifests[name])
    assert len(manifest.usable(again)) == len(manifests[name])


@every_source
def test_a_label_that_is_no_class_is_refused(name: str, tmp_path: Path) -> None:
    section = DataSection(source=name, **EXAMPLES[name](tmp_path, list), classes=("no", "such"))
    with pytest.raises(UserError):
        read_source(section, places(tmp_path.resolve()))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in ("wisconsin", "phantoms")])
def test_what_reads_from_a_place_says_so_where_none_is_given(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs data\.\w+"):
        read_source(DataSection(source=name), places(tmp_path))


@settings(deadline=None, max_examples=30)
@given(typed=st.sampled_from(list(SOURCES)).flatmap(slips).filter(lambda word: word not in SOURCES))
def test_one_slip_in_a_source_is_refused_with_the_name_that_was_meant(typed: str) -> None:
    with pytest.raises(UnknownName) as caught:
        read_source(DataSection(source=typed), places(Path()))
    assert caught.value.near in SOURCES
    assert are_one_slip_apart(typed, str(caught.value.near))
    assert all(name in caught.value.hint for name in SOURCES)
