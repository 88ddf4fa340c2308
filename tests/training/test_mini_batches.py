"""Mini-batches: every change of the pixels is a change of the labels, and a seed is a batch."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from training_faces import MARK, MODEL, PRIOR, STILLS, faces

from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.geometry import crop, pose
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.geometry.similarity import similarity
from ddfa_batch.tasks.training import clips, mini_batches
from ddfa_batch.tasks.training.augmentation import Occluder, frames_of_clips
from ddfa_batch.tasks.training.clips import Clips
from ddfa_batch.tasks.training.options import Augmentation, Sampling

CROP = np.array([[0.0, 0.0, 120.0, 120.0]])
GEOMETRY = Augmentation(gain=0, offset=0, blur=0, occluder=0, noise=0, dark=0, compressed=0)


def dot(image: np.ndarray) -> np.ndarray:
    """Centre of the white dot, x and y."""
    weight = image[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def rebuilt(batch: mini_batches.MiniBatch) -> np.ndarray:
    """The 68 points the parameters of a batch stand for, in pixels of the crop."""
    basis = PointBasis.of(MODEL, MODEL.landmarks)
    return points(basis, batch.params, np.tile(CROP, (len(batch.params), 1)), 120)[..., :2]


@pytest.mark.parametrize("seed", range(4))
def test_pixels_landmarks_and_parameters_move_together(seed: int) -> None:
    batch = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 3), GEOMETRY, [seed])
    # The small model cannot take every mirrored shape, so parameters follow within its misfit.
    np.testing.assert_allclose(rebuilt(batch), batch.landmarks, atol=2.5)
    for image, labels in zip(batch.images, batch.landmarks, strict=True):
        # Labels follow the official code's convention, half a pixel times (scale − 1) off the pixel centres.
        assert np.abs(dot(image) - labels[MARK]).max() < 0.75


def test_parameters_follow_every_similarity_exactly() -> None:
    batch = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 3), replace(GEOMETRY, mirror=0), [9])
    np.testing.assert_allclose(rebuilt(batch), batch.landmarks, atol=0.15)
    T = batch.params[:, :12].reshape(-1, 3, 4)[:, :, :3].astype(float)
    gram = T @ T.transpose(0, 2, 1)
    np.testing.assert_allclose(gram, gram[:, :1, :1] * np.eye(3), atol=1e-5)  # still a rotation times a scale


def test_without_augmentation_the_crop_is_that_of_process() -> None:
    images, labels = faces(3, seed=3)
    rng = np.random.default_rng(0)
    images = cv2.blur(rng.integers(0, 255, images.shape, dtype=np.uint8)[0], (5, 5))[None].repeat(3, axis=0)
    made = clips.label_stills(["a", "b", "c"], images, labels, MODEL, PRIOR)
    whole = replace(made, rois=np.rint(made.rois))
    batch = mini_batches.make_batch(whole, np.arange(3), Sampling(3, 1), Augmentation.none(), [0])
    for found, image, roi in zip(batch.images, images, whole.rois[:, 0], strict=True):
        assert np.abs(found.astype(int) - crop.crop(image, roi, 120)).max() <= 3


def test_a_mirrored_face_has_its_own_labels() -> None:
    always = Augmentation(**{**Augmentation.none().__dict__, "mirror": 1.0})
    batch = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 1), always, [0])
    np.testing.assert_allclose(rebuilt(batch), batch.landmarks, atol=3.0)
    plain = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 1), Augmentation.none(), [0])
    # The roi is the face's, so a mirrored crop is the crop mirrored.
    np.testing.assert_allclose(batch.landmarks[:, FLIP68, 0], 120 - plain.landmarks[..., 0], atol=2)
    np.testing.assert_allclose(batch.landmarks[:, FLIP68, 1], plain.landmarks[..., 1], atol=2)


def test_rotation_turns_counter_clockwise_and_shift_goes_right_and_down() -> None:
    roi = np.array([0.0, 0, 120, 120])
    turned = similarity(roi, 90, 0, 0, 0, 120) @ [120, 60, 1]  # the right edge's middle goes to the top
    np.testing.assert_allclose(turned, [60, 0], atol=1e-9)
    np.testing.assert_allclose(similarity(roi, 0, np.log(2), 0.1, 0.2, 120) @ [60, 60, 1], [72, 84])


def test_labels_without_a_position_weigh_nothing() -> None:
    images, labels = faces(3)
    labels[:, 10:20] = np.nan
    made = clips.label_stills(["a", "b", "c"], images, labels, MODEL, PRIOR)
    batch = mini_batches.make_batch(made, np.arange(3), Sampling(3, 2), Augmentation(mirror=0), [1])
    assert np.isfinite(batch.landmarks).all()
    assert (batch.weights[:, 10:20] == 0).all()
    assert (batch.weights[:, 20:] == 1).all()


def test_a_seed_is_a_batch() -> None:
    one, same, other = (
        mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 2), Augmentation(), s) for s in ([1], [1], [2])
    )
    for name in ("images", "params", "landmarks", "weights"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.images, other.images)


def test_smooth_frames_are_neighbours_and_random_ones_are_not() -> None:
    def jumps(motion: str) -> float:
        batch = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 5, motion), GEOMETRY, [4])
        frames = batch.landmarks.reshape(6, 5, 68, 2)
        return float(np.linalg.norm(np.diff(frames, axis=1), axis=3).mean())

    assert jumps("smooth") < 4 < jumps("random")


def test_looks_change_pixels_and_no_label() -> None:
    loud = replace(
        Augmentation.none(), gain=0.3, offset=30, blur=1, blur_sigma=2, occluder=1, occluder_side=0.5, noise=10
    )
    quiet = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 2), Augmentation.none(), [5])
    changed = mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 2), loud, [5])
    np.testing.assert_array_equal(quiet.params, changed.params)
    assert (quiet.images != changed.images).any(axis=(1, 2, 3)).all()
    assert (changed.images[0] != changed.images[1]).any()  # the noise is each frame's own


def means(**changes: float) -> tuple[np.ndarray, np.ndarray]:
    """Mini-batches of grey pictures as they are, and with these changes."""
    grey = replace(STILLS, images=np.full_like(STILLS.images, 128))
    plain, loud = Augmentation.none(), replace(Augmentation.none(), **changes)
    quiet, changed = (mini_batches.make_batch(grey, np.arange(6), Sampling(6, 1), a, [5]) for a in (plain, loud))
    np.testing.assert_array_equal(quiet.params, changed.params)
    return quiet.images, changed.images


def test_in_the_dark_little_light_is_left_and_noise_in_it() -> None:
    quiet, dark = means(dark=1)
    assert (dark.mean(axis=(1, 2, 3)) < 0.75 * quiet.mean(axis=(1, 2, 3))).all()
    assert (dark.std(axis=(1, 2, 3)) > 1).all()


def test_compression_leaves_its_blocks() -> None:
    images = np.random.default_rng(0).integers(0, 255, STILLS.images.shape, dtype=np.uint8)
    noisy = replace(STILLS, images=images)
    pair = (replace(Augmentation.none(), compressed=share) for share in (0, 1))
    made = (mini_batches.make_batch(noisy, np.arange(6), Sampling(6, 1), a, [5]) for a in pair)
    before, after = (batch.images.astype(float) for batch in made)
    assert (np.abs(after - before).mean(axis=(1, 2, 3)) > 1).all()
    assert np.abs(after.mean(axis=(1, 2)) - before.mean(axis=(1, 2))).max() < 6


def test_an_occluder_may_show_another_part_of_the_picture() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[5:15, 25:35] = 200
    covered = image.copy()
    Occluder(centre=(10, 10), sides=(8, 8), round=False, colour=(9.0, 9.0, 9.0), shows=(-20, 0)).paint(covered)
    assert (covered[8:12, 8:12] == 200).all()
    assert (covered[20:] == image[20:]).all()


def test_stills_are_not_changed() -> None:
    before = STILLS.images.copy()
    mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 2), Augmentation(occluder=1), [6])
    np.testing.assert_array_equal(STILLS.images, before)


@pytest.mark.parametrize(("n", "batches", "size"), [(100, 4, 8), (20, 10, 8), (3, 2, 8), (2, 1, 1)])
def test_meta_test_is_disjoint_from_meta_train(n: int, batches: int, size: int) -> None:
    train, test = mini_batches.draw(np.ones(n), batches, size, [0, 1])
    assert train.shape == (batches, size)
    assert test.shape == (size,)
    assert not set(train.ravel()) & set(test)
    if (batches + 1) * size <= n:
        assert len(set(train.ravel())) == batches * size


def test_rare_clips_are_drawn_more_often() -> None:
    weights = clips.pose_weights(np.array([0.0] * 900 + [-45.0] * 90 + [80.0] * 10))
    np.testing.assert_allclose(np.unique(weights), np.sqrt([1, 10, 90]))
    train, _ = mini_batches.draw(weights, 5, 20, [3])
    assert np.count_nonzero(train >= 900) > 20
    assert len(np.unique(mini_batches.draw(weights, 45, 20, [3])[0])) == 900


def clip_of_dots(frames: int = 4) -> tuple[Clips, np.ndarray]:
    """Two clips whose heads turn and move, of the white dot that is landmark 30; its places (2, frames, 2)."""
    images, labels = faces(2, seed=5)
    still = clips.label_stills(["a", "b"], images, labels, MODEL, PRIOR)
    turn = pose.rotation_matrix(np.linspace(0, 12, frames), np.linspace(0, 6, frames), np.linspace(0, 9, frames))
    turn *= np.array([1, -1, 1]) * np.array([1, -1, 1])[:, None]  # y points down in pixels
    centre, shift = np.array([100.0, 80, 0]), np.linspace(0, 1, frames)[:, None] * [7.0, -4, 0]
    T = still.poses[:, 0, 0]
    poses = np.empty((2, frames, 3, 4))
    poses[..., :3] = turn @ T[:, None, :, :3]
    poses[..., 3] = (turn @ (T[:, None, :, 3] - centre)[..., None])[..., 0] + centre + shift
    S = MODEL.mean[MODEL.landmarks] + np.einsum(
        "nk,klc->nlc", still.coefficients[:, 0], MODEL.basis[:, MODEL.landmarks]
    )
    dots = np.einsum("nfij,nj->nfi", poses[..., :3], S[:, MARK])[..., :2] + poses[..., :2, 3]
    pictures = np.zeros((2, frames, 160, 200, 3), np.uint8)
    for picture, (x, y) in zip(pictures.reshape(-1, 160, 200, 3), dots.reshape(-1, 2), strict=True):
        cv2.circle(picture, (round(float(x) * 16), round(float(y) * 16)), 80, (255, 255, 255), -1, cv2.LINE_AA, 4)
    points = S @ T[:, :, :3].swapaxes(1, 2) + T[:, None, :, 3]
    known = clips.TrainingLabels(poses, still.coefficients[:, 0], points[..., :2], np.ones((2, 68)))
    return clips.clips_of(["a", "b"], pictures, known, MODEL, PRIOR), dots


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_labels_follow_the_frames_of_a_clip_and_of_its_mirror_image(mirror: float) -> None:
    clips, _ = clip_of_dots()
    batch = mini_batches.make_batch(
        clips, np.arange(2), Sampling(2, 4, turned=1.0), replace(GEOMETRY, mirror=mirror), [3]
    )
    mark = FLIP68.tolist().index(MARK)
    for image, labels in zip(batch.images, batch.landmarks, strict=True):
        assert np.abs(dot(image) - labels[mark]).max() < 0.75
    np.testing.assert_allclose(rebuilt(batch)[:, mark], batch.landmarks[:, mark], atol=2.0)


def test_frames_are_adjacent_either_way_round_or_the_photograph_alone() -> None:
    rng = np.random.default_rng(0)
    found = set(map(tuple, frames_of_clips(200, 6, Sampling(1, 3, turned=1.0), rng).tolist()))
    assert found == {(i, i + 1, i + 2) for i in range(4)} | {(i + 2, i + 1, i) for i in range(4)}
    assert not frames_of_clips(9, 6, Sampling(1, 3, turned=0.0), rng).any()
    assert np.abs(np.diff(frames_of_clips(50, 6, Sampling(1, 3, "random", 1.0), rng))).max() > 1


def test_small_images_keep_the_labels_of_the_full_size() -> None:
    full, small = (
        mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 2), GEOMETRY, [8], pixels) for pixels in (120, 60)
    )
    assert small.images.shape == (12, 60, 60, 3)
    np.testing.assert_array_equal(full.params, small.params)
    np.testing.assert_array_equal(full.landmarks, small.landmarks)
    for image, labels in zip(small.images, small.landmarks, strict=True):
        assert np.abs(2 * dot(image) - labels[MARK]).max() < 1.5


def test_what_moves_while_the_shutter_is_open_is_blurred() -> None:
    fast = replace(Augmentation.none(), step_shift=0.2)
    sharp, blurred = (
        mini_batches.make_batch(STILLS, np.arange(6), Sampling(6, 2), replace(fast, exposure=e), [2]) for e in (0, 1)
    )
    np.testing.assert_array_equal(sharp.images[::2], blurred.images[::2])  # the first frame of each is at rest
    assert blurred.images[1::2].max(axis=(1, 2, 3)).mean() < sharp.images[1::2].max(axis=(1, 2, 3)).mean()


def test_one_still_is_too_few() -> None:
    with pytest.raises(ShapeError, match="two stills"):
        mini_batches.draw(np.ones(1), 1, 1, [0])


def test_batches_come_in_order_from_another_thread() -> None:
    threads = set()

    def make(number: int) -> mini_batches.MiniBatch:
        threads.add(threading.current_thread().name)
        return mini_batches.make_batch(STILLS, np.arange(1), Sampling(1, 1), Augmentation(), [number])

    found = list(mini_batches.prefetched(make, range(7), ahead=2))
    for number, batch in enumerate(found):
        np.testing.assert_array_equal(batch.images, make(number).images)
    assert len(found) == 7
    assert any(name.startswith("batches") for name in threads)


def test_an_error_in_the_thread_is_raised_and_the_thread_ends() -> None:
    def make(number: int) -> mini_batches.MiniBatch:
        raise ValueError(str(number))

    with pytest.raises(ValueError, match="0"):
        list(mini_batches.prefetched(make, range(5)))


@pytest.mark.parametrize("bad", [{"motion": "wild"}, {"frames": 0}])
def test_bad_sampling_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ShapeError):
        Sampling(**bad)  # type: ignore[arg-type]
