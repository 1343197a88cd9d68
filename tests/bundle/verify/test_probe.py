"""A bundle is tried in a process of its own before it may serve, and one that does not work is refused in time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.bundle.verify.probe import check_works
from medloop.errors import BrokenBundle
from tests.bundle.verify import hostile_models as hostile

# The limit is 10 s; a busy machine may take longer to get there.
LIMIT = 60.0


@pytest.mark.parametrize("edit", hostile.GRAPHS.values(), ids=hostile.GRAPHS)
def test_a_model_that_does_not_work_is_refused_in_time(golden: Path, tmp_path: Path, edit: hostile.Edit) -> None:
    bundle = hostile.altered(golden, tmp_path / "bundle", edit)
    started = time.monotonic()
    with pytest.raises(BrokenBundle) as refusal:
        check_works(bundle)
    assert time.monotonic() - started < LIMIT
    assert str(tmp_path) not in str(refusal.value)


def test_the_problem_is_named(golden: Path, tmp_path: Path) -> None:
    for edit, words in (
        (hostile.endless_loop, "too slow to load"),
        (hostile.nan_weights, "NaN or infinite"),
        (hostile.external_data, "outside the bundle"),
    ):
        with pytest.raises(BrokenBundle, match=words):
            check_works(hostile.altered(golden, tmp_path / edit.__name__, edit))


def test_a_weight_that_is_nan_is_found_where_8_bits_would_hide_it(discs: Path, tmp_path: Path) -> None:
    bundle = hostile.altered(discs / "bundle", tmp_path / "bundle", hostile.nan_scale)
    Predictor.load(bundle)
    with pytest.raises(BrokenBundle, match="a weight that is NaN"):
        check_works(bundle)


@pytest.mark.parametrize("values", hostile.DECISIONS.values(), ids=hostile.DECISIONS)
def test_a_decision_that_makes_no_sense_is_refused(golden: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    bundle = hostile.described(golden, tmp_path / "bundle", **values)
    with pytest.raises(BrokenBundle):
        Predictor.load(bundle)
    with pytest.raises(BrokenBundle):
        check_works(bundle)


@pytest.mark.parametrize("edit", [hostile.external_data, hostile.nested_external_data])
def test_data_outside_the_model_is_never_read(golden: Path, tmp_path: Path, edit: hostile.Edit) -> None:
    with pytest.raises(BrokenBundle, match="outside the bundle"):
        Predictor.load(hostile.altered(golden, tmp_path / "bundle", edit))


def test_a_file_that_the_format_does_not_know_is_refused_even_if_it_was_sealed(golden: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(golden, tmp_path / "bundle"))
    (bundle / "model.onnx.data").write_bytes(b"more")
    files.seal(bundle)
    with pytest.raises(BrokenBundle, match=r"model\.onnx\.data"):
        check_works(bundle)


def test_a_bundle_that_works_passes_with_the_golden_and_the_image_ones(
    golden: Path, discs: Path, heads: Path, table_bundle: Path
) -> None:
    for bundle in (golden, discs / "bundle", heads / "bundle", table_bundle):
        assert check_works(bundle) == files.verify(bundle)


def test_no_secret_of_the_service_reaches_the_process_that_tries(golden: Path) -> None:
    code = f"""
import os
from pathlib import Path
from medloop.bundle.verify.probe import start_probe
os.environ["ANYTHING_ELSE"] = "hidden"
with start_probe(Path({str(golden)!r})) as process:
    # Empty until the program has started.
    while not (environment := Path(f"/proc/{{process.pid}}/environ").read_bytes()) and process.poll() is None:
        pass
    process.wait()
assert environment and b"hidden" not in environment
"""
    subprocess.run([sys.executable, "-c", code], check=True)
