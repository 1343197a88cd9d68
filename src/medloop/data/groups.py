"""Groups of cases that belong together because they are linked: same pixels, same patient, copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Groups = tuple[tuple[int, ...], ...]


def equal_groups(keys: pd.Series[str]) -> Groups:
    """Return the groups of places that share a key, without the places that have none."""
    places = pd.Series(np.arange(len(keys)), index=keys.to_numpy(object))[keys.notna().to_numpy(bool)]
    return tuple(tuple(group.tolist()) for _, group in places.groupby(level=0) if len(group) > 1)


def component_numbers(links: Iterable[Sequence[int]], *, count: int) -> Integers:
    """Return the number of each place's connected component."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array([(link[0], other) for link in links for other in link[1:]], np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def connected_groups(links: Iterable[Sequence[int]], *, count: int) -> Groups:
    """Return the connected components of more than one place."""
    return equal_groups(pd.Series(component_numbers(links, count=count)))
