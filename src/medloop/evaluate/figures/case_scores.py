"""cases.parquet in the report: the bundle's result for each test case, with which two bundles can be compared.

One row for each result (a case, or a patient with `export.per: patient`), in the order of the case ids:

- case_id: the case; for a patient, the slice with the first id. Two reports are joined on it
- group: a number; cases with the same number (of one patient, near duplicates) are resampled together
- label: the true class
- chosen: the class that the bundle decides for, even if it abstains
- decided: the class that the service would return; null where it abstains
- abstained: whether the service abstains
- reason: the reason of the abstention, or null
- remaining: the classes of the conformal set, in the order of the classes, separated by ` | `
- p_0, p_1, ...: the probability of each class, in the order of `classes` in report.json
- subgroup.<column>: the band or value of each column of `evaluate.subgroups`; null where it is unknown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medloop.evaluate.figures.scores import Measured
from medloop.storage import atomic_file

SUBGROUP_PREFIX = "subgroup."


def write_case_scores(
    path: Path, measured: Measured, classes: Sequence[str], bands: Mapping[str, Sequence[str | None]]
) -> None:
    """Write one row for each result; the order of the cases does not change the file."""
    import pandas as pd

    answers, ids = measured.answers, [case.case_id for case in measured.cases]
    order = np.argsort(ids, kind="stable")
    table = pd.DataFrame(
        {
            "case_id": ids,
            "group": measured.groups,
            "label": [classes[number] for number in measured.y],
            "chosen": [classes[number] for number in answers.choices],
            "decided": [None if why else classes[n] for n, why in zip(answers.choices, answers.reasons, strict=True)],
            "abstained": measured.abstained,
            "reason": answers.reasons,
            "remaining": [" | ".join(np.array(classes)[left]) for left in answers.sets],
            **{f"p_{number}": answers.probabilities[:, number] for number in range(len(classes))},
            **{f"{SUBGROUP_PREFIX}{name}": list(values) for name, values in bands.items()},
        }
    ).iloc[order]
    # Numbers in the order of appearance, since the name of a group may identify a patient.
    table["group"] = pd.factorize(table["group"])[0]
    texts: list[str] = ["case_id", "label", "chosen", "decided", "reason", "remaining"]
    texts += [f"{SUBGROUP_PREFIX}{name}" for name in bands]
    with atomic_file(path) as file:
        table.astype(dict.fromkeys(texts, "string")).to_parquet(file, index=False)
