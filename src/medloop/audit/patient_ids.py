"""Patient ids that may be one patient's, written in two ways."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from medloop.audit.result import SHOWN
from medloop.case import Finding, folded_id


def alike_patient_ids(table: pd.DataFrame, *, shown: str) -> Iterator[Finding]:
    """Yield a finding where ids differ only in case or whitespace; the column `shown` says where."""
    known = table[table["patient_id"].notna()]
    folded = known["patient_id"].map({one: folded_id(one) for one in known["patient_id"].unique()})
    if "patient_alike" in known:
        # Ids of DICOM headers are hashed before anybody sees them.
        folded = known["patient_alike"].fillna(folded)
    spellings = known["patient_id"].groupby(folded).transform("nunique")
    doubtful = known[spellings > 1]
    if len(doubtful):
        ids, patients = doubtful["patient_id"].nunique(), folded[doubtful.index].nunique()
        yield Finding(
            name="patient_ids_alike",
            severity="warning",
            what=f"{ids} patient ids differ from another only in upper and lower case or in spaces ({len(doubtful)} "
            f"cases). If they are {patients} patients in truth, cases of one patient may lie on both sides of a split.",
            where=tuple(map(str, doubtful[shown][:SHOWN])),
            count=int(ids),
            todo="Write each patient's id in one way at the source and ingest again; medloop never merges ids by "
            "itself, and takes each spelling for a patient of its own.",
        )
