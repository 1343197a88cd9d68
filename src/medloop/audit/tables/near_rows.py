"""Near-equal rows: copies of a row whose numbers were changed by a little noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.audit.findings import MAX_LISTED
from medloop.case import Finding
from medloop.data.groups import connected_groups
from medloop.wording import plural

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]
CaseIds = tuple[str, ...]

# Distances are the largest over the columns, in standard deviations. Two copies with noise of 0.001 lie within 0.005.
TOLERANCE, HALVINGS = 0.005, 6
# How many pairs arise by chance within the tolerance is estimated from pairs up to this many times as far apart.
SHELL = 16.0
FALSE_SHARE, SURPRISE = 0.05, 0.001
MAX_PAIRS = 2_000_000
# Enough columns to distinguish rows, few enough for a tree.
TREE_COLUMNS, QR_ROWS = 6, 2000
# Different categories and missing values lie farther from everything else than any tolerance.
FAR = 1e6
# An odd constant with well-mixed bits, for hashing the joint keys.
MIX = np.uint64(0x9E3779B97F4A7C15)


def near_row_groups(table: pd.DataFrame, values: pd.DataFrame) -> list[CaseIds]:
    """Return the groups of cases whose rows are copies of one another except for noise."""
    ids = table["case_id"].to_numpy(object)
    pairs = near_equal_rows(values, table["patient_id"])
    return [tuple(str(ids[place]) for place in group) for group in connected_groups(pairs.tolist(), count=len(table))]


def near_row_findings(table: pd.DataFrame, groups: Sequence[CaseIds]) -> Iterator[Finding]:
    """Yield a finding for the copies, and a severe one where copies carry different labels."""
    if not groups:
        return
    yield Finding(
        name="near_duplicate_rows",
        severity="warning",
        where=_first_cases(groups),
        what=f"{sum(map(len, groups))} rows in {plural(len(groups), 'group')} differ by at most 0.005 standard "
        "deviations in every number, much less than other rows of this table: copies with noise or rounding.",
        count=len(groups),
        todo="They stay together in every split. Find out where they come from (augmentation, a second export?) and "
        "remove the copies.",
    )
    label = dict(zip(table["case_id"], table["label"], strict=True))
    mixed = [group for group in groups if len({label[name] for name in group}) > 1]
    if mixed:
        yield Finding(
            name="near_duplicate_rows_two_labels",
            severity="severe",
            where=_first_cases(mixed),
            what=f"Different labels for {plural(len(mixed), 'group')} of nearly equal rows.",
            count=len(mixed),
            todo="One of the labels is wrong: have them reviewed.",
        )


def _first_cases(groups: Iterable[CaseIds]) -> CaseIds:
    """Return the ids of the first cases, group by group."""
    return tuple(name for group in groups for name in group)[:MAX_LISTED]


def near_equal_rows(values: pd.DataFrame, patients: pd.Series[str]) -> Places:
    """Return pairs of places whose rows differ much less than those of different patients do in this table.

    Equal rows and rows of one patient are not paired. Where many rows lie close by chance, the tolerance is lowered
    until at most one pair in twenty is due to chance; if no tolerance achieves that, no pair is returned.
    """
    first = np.flatnonzero(~values.duplicated().to_numpy(bool))
    numbers = _standardize(values.iloc[first])
    if len(first) < 2 or not numbers.size or not values.select_dtypes("number").shape[1]:
        return np.empty((0, 2), np.int64)
    known = patients.iloc[first]
    who = np.where(known.isna(), -1 - np.arange(len(first)), pd.factorize(known)[0])
    for tolerance in TOLERANCE / 2.0 ** np.arange(HALVINGS):
        pairs = _pairs_within(numbers, SHELL * tolerance)
        if pairs is not None:
            return first[_unlikely_pairs(numbers, pairs[who[pairs[:, 0]] != who[pairs[:, 1]]], tolerance)]
    return np.empty((0, 2), np.int64)


def _standardize(values: pd.DataFrame) -> Numbers:
    """Return numbers in standard deviations and categories as numbers far apart, without constant columns."""
    columns: list[Numbers] = []
    for name in values:
        column = values[name]
        if pd.api.types.is_numeric_dtype(column):
            raw = column.to_numpy(float, na_value=np.nan)
            columns.append(_standard_scores(raw))
        else:
            columns.append(np.asarray(pd.factorize(column)[0] * FAR, dtype=np.float64))
    kept = [column for column in columns if len(column) and np.ptp(column) > 0]
    return np.stack(kept, axis=1) if kept else np.empty((len(values), 0))


def _standard_scores(raw: Numbers) -> Numbers:
    """Return the distances from the mean in standard deviations; missing values lie far away."""
    known = np.isfinite(raw)
    if not known.any():
        return np.full(len(raw), FAR)
    # The standard deviation of numbers near the largest float overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        from_mean = raw[known] - raw[known].mean()
        spread = from_mean.std()
    scaled = np.full(len(raw), FAR)
    scaled[known] = from_mean / spread if 0 < spread < np.inf else 0.0
    return scaled


def _pairs_within(numbers: Numbers, radius: float) -> Places | None:
    """Return all pairs of rows within the radius in every column, or None where there are too many."""
    from scipy.spatial import cKDTree

    clusters = _clusters(numbers, radius)
    key = np.unique(_joint_key(clusters), return_inverse=True)[1].ravel()
    tree = cKDTree(np.column_stack([key * FAR, numbers[:, _distinctive_columns(numbers, clusters)]]))
    if (tree.count_neighbors(tree, radius, p=np.inf) - len(numbers)) / 2 > MAX_PAIRS:
        return None
    pairs = np.asarray(tree.query_pairs(radius, p=np.inf, output_type="ndarray"), np.int64)
    return pairs[_distances(numbers, pairs) <= radius]


def _clusters(numbers: Numbers, gap: float) -> Places:
    """Number the runs of values in each column that are not interrupted by a gap of this size."""
    order = np.argsort(numbers, axis=0, kind="stable")
    steps = np.diff(np.take_along_axis(numbers, order, axis=0), axis=0) > gap
    clusters = np.zeros(numbers.shape, np.int64)
    np.put_along_axis(clusters, order[1:], np.cumsum(steps, axis=0), axis=0)
    return clusters


def _joint_key(clusters: Places) -> NDArray[np.uint64]:
    """Return a hash of each row's clusters: rows with different keys are not close."""
    key = np.zeros(len(clusters), np.uint64)
    for column in clusters.T:
        key = (key ^ column.astype(np.uint64)) * MIX
        key ^= key >> np.uint64(29)
    return key


def _distinctive_columns(numbers: Numbers, clusters: Places) -> Places:
    """Return the columns that best distinguish rows of the same clusters, each adding what the others miss."""
    from scipy.linalg import qr

    chosen = np.random.default_rng(0).permutation(len(numbers))[:QR_ROWS]
    within = np.empty((len(chosen), numbers.shape[1]))
    for place, (column, cluster) in enumerate(zip(numbers.T, clusters.T, strict=True)):
        means = np.bincount(cluster, column) / np.bincount(cluster)
        within[:, place] = (column - means[cluster])[chosen]
    _, _, best = qr(within, mode="economic", pivoting=True)
    return np.asarray(best[:TREE_COLUMNS], np.int64)


def _distances(numbers: Numbers, pairs: Places) -> Numbers:
    """Return the largest difference over the columns for each pair."""
    parts = [
        np.abs(numbers[some[:, 0]] - numbers[some[:, 1]]).max(axis=1)
        for some in np.split(pairs, range(65_536, len(pairs), 65_536))
    ]
    return np.concatenate(parts)


def _unlikely_pairs(numbers: Numbers, pairs: Places, tolerance: float) -> Places:
    """Return the pairs within the largest tolerance at which chance explains at most a twentieth of them."""
    from scipy.special import pdtrc

    distances = _distances(numbers, pairs)
    for near in tolerance / 2.0 ** np.arange(HALVINGS):
        count = int((distances <= near).sum())
        if not count:
            break
        by_chance = _pairs_by_chance(numbers, distances, near, count)
        # Fewer than one table in a thousand would have this many pairs, or more, by chance.
        if by_chance <= FALSE_SHARE * count and pdtrc(count - 1, by_chance) <= SURPRISE:
            return np.asarray(pairs[distances <= near])
    return pairs[:0]


def _pairs_by_chance(numbers: Numbers, distances: Numbers, near: float, count: int) -> float:
    """Return how many pairs lie within this distance by chance, the highest of three estimates."""
    inner = int(((distances > near) & (distances <= 4 * near)).sum())
    outer = int(((distances > 4 * near) & (distances <= SHELL * near)).sum())
    # The number of chance pairs grows with the distance to the power of the rows' effective dimension.
    dimension = max(1.0, np.log((outer + 1) / (inner + 2)) / np.log(4))
    beyond = (inner + outer) / (SHELL**dimension - 1)
    return float(max(beyond, *_pairs_of_independent_columns(numbers, near, count)))


def _pairs_of_independent_columns(numbers: Numbers, near: float, count: int) -> tuple[float, float]:
    """Return the expected pairs of independent columns, and those expected given the clusters that columns share."""
    clusters = _clusters(numbers, near)
    pairs = len(numbers) * (len(numbers) - 1) / 2
    close, clustered = [], []
    for column, cluster in zip(np.sort(numbers, axis=0).T, clusters.T, strict=True):
        ends = np.searchsorted(column, column + near, side="right")
        close.append((ends - np.arange(1, len(column) + 1)).sum() / pairs)
        clustered.append(_pair_count(np.bincount(cluster)) / pairs)
    sharing = max(_pair_count(np.unique(_joint_key(clusters), return_counts=True)[1]) - count, 0)
    within = np.divide(close, clustered, out=np.zeros(len(close)), where=np.array(clustered) > 0)
    return float(pairs * np.prod(close)), float(sharing * np.prod(within))


def _pair_count(sizes: Places) -> float:
    return float((sizes.astype(float) * (sizes - 1)).sum() / 2)
