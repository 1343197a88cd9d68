"""Makes the golden bundle and the answers that it must go on giving: `python -m tests.golden.make_table_bundle`.

Made anew only when the bundle's format changes; the cases are drawn from a seed and stand for nobody.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from medloop.bundle.predictor import Predictor
from medloop.storage import write_json
from tests.loop_project import edit_recipe, new_table, run_stages, small_rows, write_table

HERE = Path(__file__).parent
BUNDLE, ANSWERS = HERE / "table_bundle", HERE / "table_answers.json"
STAGES = ("ingest", "audit", "split", "prepare", "tune", "train", "export")


def make_bundle(folder: Path) -> Path:
    """A bundle of a small table: numbers and categories, gaps, and awkward column names."""
    rows = small_rows(120, seed=7)
    project = new_table(folder / "golden", rows)
    write_table(project / "table.csv", rows)
    edit_recipe(project, data={"path": "table.csv"}, export={"threshold": "sensitivity >= 0.95"})
    run_stages(project, *STAGES)
    return project / "work" / "bundle"


def records() -> list[dict[str, Any]]:
    """Cases to ask about: some that were never seen, one with gaps, one with a new category, one far away."""
    rows = [dict(row) for row in small_rows(10, seed=8)]
    plain = [{name: None if value in ("", "?") else value for name, value in row.items()} for row in rows]
    for row in plain:
        del row["diagnosis"]
    gaps = dict.fromkeys(plain[0])
    return [*plain, gaps, {**plain[0], "label": "in between"}, {**plain[1], "c0": 1000.0}]


def answers(predictor: Predictor) -> list[dict[str, Any]]:
    """What the bundle says of the records."""
    asked = records()
    return [
        {
            "record": record,
            "probabilities": said.probabilities,
            "label": said.label,
            "conformal_set": list(said.conformal_set),
            "reason": said.reason,
        }
        for record, said in zip(asked, predictor.predict(asked), strict=True)
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        shutil.rmtree(BUNDLE, ignore_errors=True)
        shutil.copytree(make_bundle(Path(scratch)), BUNDLE)
    write_json(ANSWERS, answers(Predictor.load(BUNDLE)))
