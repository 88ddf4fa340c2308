"""Clips: labels of photographs and of their mirror images, weights of rare poses, the split, the whitening."""

from __future__ import annotations

import numpy as np
from training_faces import MODEL, PRIOR, faces

from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.training import clips


def test_the_flip_is_an_involution_that_keeps_the_middle() -> None:
    assert (FLIP68[FLIP68] == np.arange(68)).all()
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert (FLIP68[middle] == middle).all()
    assert np.count_nonzero(np.arange(68) == FLIP68) == len(middle)
    labels = np.random.default_rng(0).uniform(0, 99, (2, 68, 2))
    np.testing.assert_allclose(clips.mirrored(clips.mirrored(labels, 100), 100), labels)


def test_pictures_whose_labels_do_not_fit_are_left_out() -> None:
    images, labels = faces(4)
    labels[1] = np.random.default_rng(0).uniform(0, 150, (68, 2))
    labels[2] = np.nan
    assert list(clips.label_stills(["a", "b", "c", "d"], images, labels, MODEL, PRIOR).names) == ["a", "d"]


def test_the_split_is_by_name_and_about_as_large_as_asked() -> None:
    names = [f"image{i:05d}.jpg" for i in range(4000)]
    chosen = clips.is_validation(names, 0.1)
    assert 0.08 < chosen.mean() < 0.12
    assert (clips.is_validation(names[::-1], 0.1) == chosen[::-1]).all()
    assert not clips.is_validation(names, 0.0).any()
    assert clips.is_validation(names, 1.0).all()


def test_whitening_leaves_what_does_not_vary() -> None:
    params = np.random.default_rng(0).normal(3, 2, (500, 5))
    params[:, 2] = 0
    params[:, 3] *= 1e-4
    mean, std = clips.whitening(params)
    assert mean[2] == 0
    assert std[2] == 1
    np.testing.assert_allclose(((params - mean) / std).std(axis=0), [1, 1, 0, 1, 1])
