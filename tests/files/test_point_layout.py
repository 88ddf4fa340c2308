"""The order of coordinates in a table: told by shape, or by the numbers, or asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle
from ddfa_batch.tasks.files.point_layout import points_of
from ddfa_batch.tasks.geometry.pose import rotation_matrix

PATH = Path("labels.parquet")
#: Of the 68 points, those AFLW marks that have a near neighbour among its others: brows, eyes, nose, mouth, ears, chin.
ALMOST_21 = [17, 19, 21, 22, 24, 26, 36, 37, 39, 42, 44, 45, 2, 31, 30, 35, 14, 48, 62, 54, 8]


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """The mean face's 68 points (68, 3)."""
    model = load_morphable(load_bundle(builtin_folder()))
    return model.mean[model.landmarks].astype(np.float64)


def faces(face: np.ndarray, n: int, n_axes: int) -> np.ndarray:
    """The face turned, sized and put somewhere, (n, 68, n_axes)."""
    rng = np.random.default_rng(n)
    shape = (face - face.mean(0)) / np.ptp(face, axis=0).max()
    yaw, pitch, roll = rng.uniform([-70, -30, -40], [70, 30, 40], (n, 3)).T
    turned = np.einsum("nij,lj->nli", rotation_matrix(yaw, pitch, roll), shape) * rng.uniform(60, 300, (n, 1, 1))
    moved = turned * [1, -1, 1] + rng.uniform(0, 500, (n, 1, 3)) * [1, 1, 0]
    return moved[..., :n_axes]


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("n", [1, 40])
def test_flat_lists_are_read_in_either_order(face: np.ndarray, n: int, n_axes: int) -> None:
    points = faces(face, n, n_axes)
    np.testing.assert_array_equal(points_of(PATH, "pts", points.reshape(n, -1)), points)
    all_x_first = points.transpose(0, 2, 1).reshape(n, -1)
    np.testing.assert_array_equal(points_of(PATH, "pts", all_x_first), points)


def test_points_that_are_missing_do_not_matter(face: np.ndarray) -> None:
    points = faces(face, 20, 2)
    points[::3, 20:40] = np.nan
    points[1] = np.nan
    for flat in (points, points.transpose(0, 2, 1)):
        np.testing.assert_array_equal(points_of(PATH, "pts", flat.reshape(20, -1)), points)


def test_many_faces_of_21_points_are_told_apart(face: np.ndarray) -> None:
    points = faces(face, 40, 2)[:, ALMOST_21]
    for flat in (points, points.transpose(0, 2, 1)):
        np.testing.assert_array_equal(points_of(PATH, "pts", flat.reshape(40, -1)), points)


def test_one_face_of_21_points_is_taken_to_be_by_turns(face: np.ndarray) -> None:
    points = faces(face, 3, 2)[:1, ALMOST_21]
    np.testing.assert_array_equal(points_of(PATH, "pts", points.reshape(1, -1)), points)


def test_an_order_that_cannot_be_told_is_asked_for(face: np.ndarray) -> None:
    points = faces(face, 2, 2)
    half_and_half = np.stack([points[0].reshape(-1), points[1].T.reshape(-1)])
    with pytest.raises(InputError, match=r"cannot be told whether column 'pts' .* lists of lists, 68 × 2"):
        points_of(PATH, "pts", half_and_half)


def test_numbers_without_any_order_are_read_as_documented() -> None:
    values = np.random.default_rng(0).uniform(0, 200, (5, 136))
    np.testing.assert_array_equal(points_of(PATH, "pts", values), values.reshape(5, 68, 2))


def test_lists_of_lists_tell_their_order(face: np.ndarray) -> None:
    points = faces(face, 2, 3)
    np.testing.assert_array_equal(points_of(PATH, "pts", points), points)
    np.testing.assert_array_equal(points_of(PATH, "pts", points.transpose(0, 2, 1)), points)


@pytest.mark.parametrize("shape", [(2, 134), (2, 68, 4), (2, 5, 2), (2, 1)])
def test_other_lengths_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="numbers a face; 68 or 21 points of x, y or x, y, z are needed"):
        points_of(PATH, "pts", np.zeros(shape))
