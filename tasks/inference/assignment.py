"""The assignment problem: rows to columns at the least total cost."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, Floats


def least_total(cost: Floats) -> tuple[I64, I64]:
    """Pairs (rows, columns) of finite costs (N, M) with the least sum, min(N, M) of them, ordered by row.

    Shortest augmenting paths with dual prices (Jonker and Volgenant, Computing 38, 1987): one row after the other.
    """
    n, m = cost.shape
    if n > m:
        columns, rows = least_total(cost.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    costs = np.asarray(cost, np.float64)
    row_of = np.full(m, -1, np.int64)
    u, v = np.zeros(n), np.zeros(m)
    for row in range(n):
        _augment(costs, row, row_of, u, v)
    columns = np.flatnonzero(row_of >= 0)
    order = np.argsort(row_of[columns])
    return row_of[columns][order], columns[order]


def _augment(cost: F64, row: int, row_of: I64, u: F64, v: F64) -> None:
    """Give `row` a column, others theirs anew where that costs least; row_of (M,), prices u (N,) and v (M,) change."""
    m = cost.shape[1]
    distance, before, reached = np.full(m, np.inf), np.full(m, -1, np.int64), np.zeros(m, np.bool_)
    here, column, length = row, -1, 0.0
    while here >= 0:
        through = length + cost[here] - u[here] - v
        nearer = ~reached & (through < distance)
        distance[nearer], before[nearer] = through[nearer], column
        column = int(np.argmin(np.where(reached, np.inf, distance)))
        reached[column], length = True, distance[column]
        here = int(row_of[column])
    u[row] += length
    passed = reached & (row_of >= 0)
    u[row_of[passed]] += length - distance[passed]
    v[reached] -= length - distance[reached]
    while column >= 0:
        previous = int(before[column])
        row_of[column] = row if previous < 0 else row_of[previous]
        column = previous
