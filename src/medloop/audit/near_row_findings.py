"""What the audit of a table says of rows that were copied with a little noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from medloop.audit.groups import components
from medloop.audit.near_rows import near_equal_rows
from medloop.audit.result import SHOWN
from medloop.case import Finding

Group = tuple[str, ...]


def near_rows(table: pd.DataFrame, values: pd.DataFrame) -> list[Group]:
    """Return the groups of cases whose rows are copies of one another but for noise."""
    ids = table["case_id"].to_numpy(object)
    pairs = near_equal_rows(values, table["patient_id"])
    return [tuple(str(ids[place]) for place in group) for group in components(pairs.tolist(), count=len(table))]


def joined(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return groups without a case in common: those that share one become one."""
    ids = sorted({name for group in groups for name in group})
    at = {name: place for place, name in enumerate(ids)}
    links = [tuple(at[name] for name in group) for group in groups]
    return tuple(tuple(ids[place] for place in group) for group in components(links, count=len(ids)))


def near_row_findings(table: pd.DataFrame, groups: Sequence[Group]) -> Iterator[Finding]:
    """Yield a finding for the copies, and a severe one where copies carry different labels."""
    if not groups:
        return
    yield Finding(
        name="near_duplicate_rows",
        severity="warning",
        where=_shown(groups),
        what=f"{sum(map(len, groups))} rows in {len(groups)} groups are equal but for differences of at most 0.005 "
        "standard deviations in any number, far closer than other rows of this table: copies with noise or rounding.",
        count=len(groups),
        todo="They stay together in every split. Find out where they come from (augmentation, a second export?) and "
        "remove the copies.",
    )
    label = dict(zip(table["case_id"], table["label"], strict=True))
    torn = [group for group in groups if len({label[name] for name in group}) > 1]
    if torn:
        yield Finding(
            name="near_duplicate_rows_two_labels",
            severity="severe",
            where=_shown(torn),
            what=f"{len(torn)} groups of nearly equal rows carry different labels.",
            count=len(torn),
            todo="One of the labels is wrong: have them read again.",
        )


def _shown(groups: Iterable[Group]) -> tuple[str, ...]:
    """Return the keys of the first cases, group by group."""
    return tuple(name for group in groups for name in group)[:SHOWN]
