"""Near-equal rows: copies of a row whose numbers were changed by a little noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]

# Distances are the largest over the columns, in standard deviations. Two copies with noise of 0.001 lie within 0.005.
TOLERANCE, HALVINGS = 0.005, 6
# How many pairs chance makes within the tolerance is read from those up to so many times as far apart.
SHELL = 16.0
FALSE_SHARE, SURPRISE = 0.05, 0.001
MAX_PAIRS = 2_000_000
# Enough columns to tell rows apart, few enough for a tree.
TREE_COLUMNS, QR_ROWS = 6, 2000
# Different categories, and what is missing, lie farther from anything else than any tolerance.
FAR = 1e6
# An odd number without pattern: joint keys are hashes.
MIX = np.uint64(0x9E3779B97F4A7C15)


def near_equal_rows(values: pd.DataFrame, patients: pd.Series[str]) -> Places:
    """Return pairs of places whose rows differ by far less than those of different patients do in this table.

    Equal rows and rows of one patient are no such pairs. Where chance alone makes many rows lie close, the
    tolerance is lowered until at most one pair in twenty is due to chance, and no pair is returned where none is.
    """
    first = np.flatnonzero(~values.duplicated().to_numpy(bool))
    numbers = _standardised(values.iloc[first])
    if len(first) < 2 or not numbers.size or not values.select_dtypes("number").shape[1]:
        return np.empty((0, 2), np.int64)
    known = patients.iloc[first]
    who = np.where(known.isna(), -1 - np.arange(len(first)), pd.factorize(known)[0])
    for tolerance in TOLERANCE / 2.0 ** np.arange(HALVINGS):
        pairs = _pairs_within(numbers, SHELL * tolerance)
        if pairs is not None:
            return first[_unlikely_pairs(numbers, pairs[who[pairs[:, 0]] != who[pairs[:, 1]]], tolerance)]
    return np.empty((0, 2), np.int64)


def _standardised(values: pd.DataFrame) -> Numbers:
    """Return numbers in standard deviations and categories as numbers far apart, without the constant columns."""
    columns: list[Numbers] = []
    for name in values:
        column = values[name]
        if pd.api.types.is_numeric_dtype(column):
            raw = column.to_numpy(float, na_value=np.nan)
            columns.append(_in_deviations(raw))
        else:
            columns.append(np.asarray(pd.factorize(column)[0] * FAR, dtype=np.float64))
    kept = [column for column in columns if len(column) and np.ptp(column) > 0]
    return np.stack(kept, axis=1) if kept else np.empty((len(values), 0))


def _in_deviations(raw: Numbers) -> Numbers:
    """Return the numbers in standard deviations from their mean, what is no number far away."""
    known = np.isfinite(raw)
    if not known.any():
        return np.full(len(raw), FAR)
    # Numbers near the largest that there are have no standard deviation that could be told.
    with np.errstate(over="ignore", invalid="ignore"):
        from_mean = raw[known] - raw[known].mean()
        spread = from_mean.std()
    scaled = np.full(len(raw), FAR)
    scaled[known] = from_mean / spread if 0 < spread < np.inf else 0.0
    return scaled


def _pairs_within(numbers: Numbers, radius: float) -> Places | None:
    """Return all pairs of rows that lie within the radius in every column, or None where these are too many."""
    from scipy.spatial import cKDTree

    clusters = _clusters(numbers, radius)
    key = np.unique(_joint_key(clusters), return_inverse=True)[1].ravel()
    tree = cKDTree(np.column_stack([key * FAR, numbers[:, _telling_columns(numbers, clusters)]]))
    if (tree.count_neighbors(tree, radius, p=np.inf) - len(numbers)) / 2 > MAX_PAIRS:
        return None
    pairs = np.asarray(tree.query_pairs(radius, p=np.inf, output_type="ndarray"), np.int64)
    return pairs[_distances(numbers, pairs) <= radius]


def _clusters(numbers: Numbers, gap: float) -> Places:
    """Number, in each column, the runs of values that no gap of this size interrupts."""
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


def _telling_columns(numbers: Numbers, clusters: Places) -> Places:
    """Return the columns that tell rows of the same clusters apart best, each for what the others do not tell."""
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
        for some in np.split(pairs, range(65536, len(pairs), 65536))
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
        # Chance would make so many pairs, or more, in fewer than one table in a thousand.
        if by_chance <= FALSE_SHARE * count and pdtrc(count - 1, by_chance) <= SURPRISE:
            return np.asarray(pairs[distances <= near])
    return pairs[:0]


def _pairs_by_chance(numbers: Numbers, distances: Numbers, near: float, count: int) -> float:
    """Return how many pairs chance puts within this distance, by the most pessimistic of three estimates."""
    inner = int(((distances > near) & (distances <= 4 * near)).sum())
    outer = int(((distances > 4 * near) & (distances <= SHELL * near)).sum())
    # Pairs by chance grow with the distance to the power of the dimension in which the rows really vary.
    dimension = max(1.0, np.log((outer + 1) / (inner + 2)) / np.log(4))
    beyond = (inner + outer) / (SHELL**dimension - 1)
    return float(max(beyond, *_pairs_of_independent_columns(numbers, near, count)))


def _pairs_of_independent_columns(numbers: Numbers, near: float, count: int) -> tuple[float, float]:
    """Return the pairs that independent columns would give, and those given the clusters that columns really share."""
    clusters = _clusters(numbers, near)
    pairs = len(numbers) * (len(numbers) - 1) / 2
    close, clustered = [], []
    for column, cluster in zip(np.sort(numbers, axis=0).T, clusters.T, strict=True):
        ends = np.searchsorted(column, column + near, side="right")
        close.append((ends - np.arange(1, len(column) + 1)).sum() / pairs)
        clustered.append(_pairs_of(np.bincount(cluster)) / pairs)
    sharing = max(_pairs_of(np.unique(_joint_key(clusters), return_counts=True)[1]) - count, 0)
    within = np.divide(close, clustered, out=np.zeros(len(close)), where=np.array(clustered) > 0)
    return float(pairs * np.prod(close)), float(sharing * np.prod(within))


def _pairs_of(sizes: Places) -> float:
    return float((sizes.astype(float) * (sizes - 1)).sum() / 2)
