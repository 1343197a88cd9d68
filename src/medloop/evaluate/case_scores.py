"""cases.parquet in the report: what the bundle said of each locked case, so that two bundles can be compared on them.

One row an answer (a case, or a patient where patients are decided), in the order of their case ids:

- case_id: the case; of a patient the slice whose id comes first. The key on which two reports are joined
- group: a number; cases that share it (a patient, near duplicates) are drawn together. No patient's name
- label: the true class
- chosen: the class that the bundle decides for, whether or not it is sure enough to say so
- decided: the class that the service would give; null where it abstains
- abstained: whether it gives none
- reason: why it abstains; null where it does not
- remaining: the classes of the conformal set, in the order of the classes, joined by ` | `
- p_0, p_1, ...: the probability of each class, in the order of `classes` in report.json
- subgroup.<column>: the band or value of each column of `evaluate.subgroups`; null where it is unknown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medloop.evaluate.figures import Measured
from medloop.storage import atomic_file

SUBGROUP_PREFIX = "subgroup."


def write_case_scores(
    path: Path, measured: Measured, classes: Sequence[str], bands: Mapping[str, Sequence[str | None]]
) -> None:
    """One row an answer, the same file whatever the order of the cases."""
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
            "abstained": measured.silent,
            "reason": answers.reasons,
            "remaining": [" | ".join(np.array(classes)[left]) for left in answers.sets],
            **{f"p_{number}": answers.probabilities[:, number] for number in range(len(classes))},
            **{f"{SUBGROUP_PREFIX}{name}": list(values) for name, values in bands.items()},
        }
    ).iloc[order]
    # Numbers in the order of appearance: the group's own name may be a patient's.
    table["group"] = pd.factorize(table["group"])[0]
    texts: list[str] = ["case_id", "label", "chosen", "decided", "reason", "remaining"]
    texts += [f"{SUBGROUP_PREFIX}{name}" for name in bands]
    with atomic_file(path) as file:
        table.astype(dict.fromkeys(texts, "string")).to_parquet(file, index=False)
