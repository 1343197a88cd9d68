"""Which cases belong together: the same pixels, nearly the same picture, the same patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Groups = tuple[tuple[int, ...], ...]


def equal_groups(keys: pd.Series[str]) -> Groups:
    """Places that share a key, those without one left out."""
    places = pd.Series(np.arange(len(keys)), index=keys.to_numpy(object))[keys.notna().to_numpy(bool)]
    return tuple(tuple(group.tolist()) for _, group in places.groupby(level=0) if len(group) > 1)


def connected(links: Iterable[Sequence[int]], *, count: int) -> Whole:
    """The number of each place's component, when linked places belong together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array([(group[0], other) for group in links for other in group[1:]], np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def components(links: Iterable[Sequence[int]], *, count: int) -> Groups:
    """The components of more than one place."""
    return equal_groups(pd.Series(connected(links, count=count)))
