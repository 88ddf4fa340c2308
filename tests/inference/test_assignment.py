"""Assignments cost the least there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from ddfa_batch.tasks.inference.assignment import least_total


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 10**6]))
def test_no_other_pairs_cost_less(n: int, m: int, seed: int, steps: int) -> None:
    cost = np.random.default_rng(seed).integers(-steps, steps, (n, m)) / steps
    rows, columns = least_total(cost)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(set(columns.tolist())) == len(rows) == min(n, m)
    theirs = linear_sum_assignment(cost)
    assert cost[rows, columns].sum() == pytest.approx(cost[theirs].sum())


def test_pairs_that_are_forbidden_are_taken_only_where_all_else_is_used_up() -> None:
    cost = np.array([[0.1, 0.2, 1e3], [0.1, 1e3, 1e3], [1e3, 0.3, 1e3]])
    rows, columns = least_total(cost)
    assert cost[rows, columns].sum() == pytest.approx(1000.3)
