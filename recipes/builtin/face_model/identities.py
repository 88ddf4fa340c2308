"""Identities: what labelled photographs say of the 68 points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.fitting.fit_basis import FitBasis
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.geometry.reconstruct import image_pose
from recipes.builtin.face_model.design import N_IDENTITIES, TOPOLOGY, UNIT

#: A label farther than this from its fitted point, mm, is a fault of the label.
_LONGEST_LIFT = 12.0
#: Faces are nearly symmetric; what labels of turned heads show of asymmetry is mostly turn, and is believed by this
#: share.
_ASYMMETRY = 0.4
#: Labels are taken to scatter by this share of the face's size at least: no mode is spent on their noise.
_LABEL_NOISE = 0.012
#: Estimates shrink towards their prior; an expression's deviation is not let shrink with them below this.
_LEAST_EXPRESSION = 0.3


@dataclass(frozen=True)
class Measured:
    """Statistics of labelled faces, for M identity modes and E expressions."""

    #: (68, 3), mm, of their mean from the designed neutral face, symmetric.
    offset: F64
    #: (M, 68, 3), mm, one standard deviation of each identity mode, strongest first, each symmetric or antisymmetric.
    moves: F64
    #: Of the M + E coefficients, identities first.
    prior: Prior
    #: Of the fits, share of the face's size.
    residual: float


def measure_identities(
    landmarks: Floats, weights: Floats, neutral: Floats, actions: Floats, count: int = N_IDENTITIES, rounds: int = 8
) -> Measured:
    """Identity modes of the 68 points from labelled faces (N, 68, 2), pixels, NaN or weight 0 where unlabelled.

    Non-rigid structure from motion that starts from a designed mean: faces are fitted with the modes found so far, what
    the fits leave over is lifted into each face's own frame, and a principal component analysis of modes and remainder
    gives the next modes. neutral (68, 3) and actions (10, 68, 3), the expressions, in mm. Every face is seen as it is
    and mirrored.
    """
    x = np.where((np.asarray(weights) > 0)[..., None], np.asarray(landmarks, np.float64)[..., :2], np.nan)
    flipped = x[:, FLIP68] * [-1, 1]
    x = np.concatenate([x, flipped])
    offset, moves = np.zeros((N_LANDMARKS, 3)), np.zeros((0, N_LANDMARKS, 3))
    prior = Prior(np.full(len(actions), 0.1), np.full(len(actions), 0.3))
    residual = np.nan
    for step in range(rounds):
        model = _points_model(np.asarray(neutral) + offset, moves, actions)
        found = fit(x, model, prior, config=FitConfig(noise_floor=_LABEL_NOISE, noise_ceiling=0.03))
        fine = found.converged
        residual = float(found.residual[fine].mean())
        T = image_pose(
            found.params[fine, :N_POSE].reshape(-1, 3, 4).astype(np.float64), found.rois[fine], FitConfig().size
        )
        seen = np.isfinite(x[fine]).all(axis=2) * (found.weights[fine] > 0)
        alpha = found.params[fine, N_POSE:].astype(np.float64)
        points = FitBasis.landmarks68(model)
        left = np.nan_to_num(x[fine]) - _projected(points, alpha, T)
        scale = np.linalg.norm(T[:, 0, :3], axis=1)
        lifted = np.einsum("nac,nla->nlc", T[:, :2, :3] / scale[:, None, None] ** 2, left * seen[..., None])
        lifted *= np.minimum(1, _LONGEST_LIFT / np.maximum(np.linalg.norm(lifted, axis=2, keepdims=True), 1e-9))
        own = np.tensordot(alpha[:, : len(moves)], moves, axes=1)
        wanted = min(count, round(count * (step + 1) / (rounds - 2)))
        shift, moves = principal_modes(without_expressions(own + lifted, np.asarray(actions)), wanted)
        offset = offset + shift
        expression = alpha[:, -len(actions) :]
        prior = Prior(
            np.concatenate([np.zeros(len(moves)), expression.mean(axis=0)]),
            np.concatenate([np.ones(len(moves)), np.maximum(expression.std(axis=0), _LEAST_EXPRESSION)]),
        )
    return Measured(offset, moves, prior, residual)


def _points_model(neutral: Floats, moves: Floats, actions: Floats) -> MorphableModel:
    """A model of the 68 points alone."""
    basis = np.concatenate([moves, actions]).astype(np.float32)
    order = np.arange(N_LANDMARKS, dtype=np.int32)
    return MorphableModel(np.asarray(neutral, np.float32), basis, len(moves), order[None, :3], order, TOPOLOGY, UNIT)


def _projected(points: FitBasis, alpha: F64, T: F64) -> F64:
    shapes = points.mean + np.tensordot(alpha, points.basis, axes=1)
    return np.asarray(np.einsum("nac,nlc->nla", T[:, :2, :3], shapes) + T[:, None, :2, 3])


def without_expressions(shapes: F64, actions: F64) -> F64:
    """Displacements (N, 68, 3) without what expressions (10, 68, 3) can do, and with lids that keep to their eyeball.

    A photograph does not tell a wide mouth from a smile: whatever an expression explains is left to it.
    """
    q, _ = np.linalg.qr(actions.reshape(len(actions), -1).T)
    flat = shapes.reshape(len(shapes), -1)
    shapes = (flat - flat @ q @ q.T).reshape(shapes.shape)
    for lids in (slice(36, 42), slice(42, 48)):
        shapes[:, lids, 2] = shapes[:, lids, 2].mean(axis=1, keepdims=True)
    return shapes


def principal_modes(shapes: F64, count: int) -> tuple[F64, F64]:
    """Mean (68, 3) and strongest modes (count, 68, 3) of displacements (N, 68, 3), each as long as one deviation.

    Rigid motion and scale belong to the pose: their share is taken out first. Symmetric and antisymmetric displacements
    are analysed apart.
    """
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    mean = shapes.mean(axis=0)
    mean = (mean + mean[FLIP68] * [-1, 1, 1]) / 2
    shapes = shapes - mean
    mirrored = shapes[:, FLIP68] * [-1, 1, 1]
    modes, strengths = [], []
    for part in ((shapes + mirrored) / 2, _ASYMMETRY * (shapes - mirrored) / 2):
        flat = part.reshape(len(part), -1)
        values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        modes.append((vectors * np.sqrt(np.maximum(values, 0))).T.reshape(-1, N_LANDMARKS, 3))
        strengths.append(values)
    order = np.argsort(-np.concatenate(strengths))[:count]
    return mean, np.concatenate(modes)[order]
