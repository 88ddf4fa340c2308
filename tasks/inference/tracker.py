"""Every face followed through a video: a state and a frame in, the faces of that frame and the next state out.

A known face is looked for in the square around its landmarks, moved on as they moved (no detector): its own crop
decides, so that faces which pass each other are never confused by place. The square stays where it is while the face
does, for a regressor's answer shakes as its crop does. The network's score tells when it is lost. The whole frame is
searched at the start, every so many frames, where a face is lost and where the film is cut; what is found there and is
no known face gets a new track, which is then followed backwards to where the face came into view.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddfa_batch.schemas.arrays import F32, I64, U8, Bools
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.face_observer import FaceObserver, ObservedFaces
from ddfa_batch.tasks.inference.heads import SAME_HEAD, SAME_HEAD_LATER, alike, head_pictures, may_be_again
from ddfa_batch.tasks.inference.scene_cuts import is_cut, scene_thumbnail
from ddfa_batch.tasks.inference.track_matching import duplicates, face_sides, landmark_distance, match_faces
from ddfa_batch.tasks.inference.track_state import Past, Track, TrackedFaces, TrackerOptions, TrackerState, deviation

#: A face this far, in shares of the roi's side, from where it was looked for is looked at once more where it is, and
#: the mean of both looks taken: as near to labels as detection with a refinement is (tests/inference/test_tracker.py).
_MISPLACED = 0.02
#: A detection this near to a followed face, in units of its size, is that face.
_CONFIRMING = 0.5
#: A lost face may be found again this far from where it was, in units of its size.
_FOUND_AGAIN = 0.8
#: Size of a face relative to the frame before's beyond which it is no face that moved.
_GROWTH = 1.6


def advance(
    state: TrackerState, image: U8, see: FaceObserver, options: TrackerOptions, search: bool = False
) -> tuple[TrackerState, TrackedFaces]:
    """Take one frame (H, W, 3) BGR; `search`: have the whole frame searched, as at a segment's end.

    The rows that come out are of this frame, and of earlier ones for faces that were found only now; no face of a frame
    comes out twice.
    """
    scene = scene_thumbnail(image)
    step = _Step(state, image, see, options)
    cut = state.scene is not None and (_resized(state, image) or is_cut(state.scene, scene))
    step.follow(cut)
    if search or cut or not state.frame or step.newly_lost or len(state.past) >= options.detect_every:
        step.search()
    return step.result(scene)


def _resized(state: TrackerState, image: U8) -> bool:
    return bool(state.past) and state.past[-1].image.shape != image.shape


class _Step:
    """One frame's work: it reads the state before and gathers the state after."""

    def __init__(self, state: TrackerState, image: U8, see: FaceObserver, options: TrackerOptions) -> None:
        self._before, self._image, self._see, self._options = state, image, see, options
        self._now, self._next_id = state.frame, state.next_id
        self._live: list[Track] = []
        self._lost = [track for track in state.lost if self._now - track.frame <= options.patience]
        self._past = list(state.past)
        self._searched = False
        self._rows: list[tuple[int, int, ObservedFaces]] = []
        self.newly_lost = False

    # -------------------------------------------------------------------------------------- known faces

    def follow(self, cut: bool) -> None:
        """Look for every face of the frame before; after a cut only a head that looks the same is believed.

        What looks like a cut may be a head that fills the picture and moves quickly: where the face is not found by
        following, a head that looks the same nearby goes on with its track.
        """
        tracks = list(self._before.live)
        if cut:
            self._lost = [replace(track, cut_off=True) for track in self._lost]
            self._past = self._past[-1:]
        if not tracks:
            return
        faces = self._followed(tracks, self._image)
        kept = self._sound(tracks, faces)
        if cut:
            kept &= self._same_heads(tracks, faces)
        rows = np.flatnonzero(kept)
        # Of two tracks that came upon one face it is that one's which went where it was expected.
        surprise = np.array([deviation(tracks[i].expected_roi(), faces.rois[i]) for i in rows])
        rows = np.delete(rows, duplicates(faces.landmarks[rows], -surprise))
        for i, track in enumerate(tracks):
            if i in rows:
                self._keep(track, faces.take(np.array([i])))
            else:
                self._lose(replace(track, cut_off=cut))
        if cut:
            self._past = []

    def _followed(self, tracks: list[Track], image: U8) -> ObservedFaces:
        """What the tracks' faces are in a frame; a face that is not where it was looked for is looked at twice."""
        rois = np.stack([track.expected_roi() for track in tracks])
        angles = np.array([track.angle for track in tracks])
        faces = self._see.follow(image, rois, angles)
        own = self._see.angles(faces)
        found = crop.upright_rois(faces.landmarks, own)
        away = np.array([deviation(looked_at, there) for looked_at, there in zip(rois, found, strict=True)])
        rows = np.flatnonzero((away > _MISPLACED) & (faces.scores > self._options.lost_score))
        if not len(rows):
            return faces
        nearer = self._see.follow(image, found[rows], own[rows], faces.take(rows))
        order = np.arange(len(tracks))
        order[rows] = len(tracks) + np.arange(len(rows))
        return ObservedFaces.concatenate([faces, nearer]).take(order)

    def _sound(self, tracks: list[Track], faces: ObservedFaces) -> Bools:
        before = face_sides(np.stack([track.landmarks for track in tracks]))
        growth = face_sides(faces.landmarks) / np.maximum(before, 1e-6)
        steady = (growth < _GROWTH) & (growth > 1 / _GROWTH) & np.isfinite(faces.params).all(axis=1)
        return np.asarray((faces.scores > self._options.lost_score) & steady)

    def _same_heads(self, tracks: list[Track], faces: ObservedFaces) -> Bools:
        known = np.stack([track.landmarks for track in tracks])
        before = head_pictures(self._before.past[-1].image, known, np.array([track.angle for track in tracks]))
        now = head_pictures(self._image, faces.landmarks, self._see.angles(faces))
        return np.array([alike(a, b, SAME_HEAD) for a, b in zip(before, now, strict=True)])

    def _keep(self, track: Track, face: ObservedFaces) -> None:
        self._live.append(self._moved(track, self._now, face))
        self._rows.append((track.track_id, self._now, face))

    def _moved(self, track: Track, frame: int, face: ObservedFaces) -> Track:
        angles = self._see.angles(face)
        (roi,) = crop.upright_rois(face.landmarks, angles)
        return track.moved(frame, face, roi, float(angles[0]))

    def _lose(self, track: Track) -> None:
        (head,) = head_pictures(self._past[-1].image, track.landmarks[None], np.array([track.angle]))
        self._lost.append(replace(track, head=head))
        self.newly_lost = True

    # ------------------------------------------------------------------------------------------ new faces

    def search(self) -> None:
        """Detect all faces, and give those that nobody follows to lost tracks or new ones."""
        self._searched = True
        found = self._see.detect(self._image)
        found = found.take(np.flatnonzero(np.isfinite(found.params).all(axis=1)))
        found = found.take(np.setdiff1d(np.arange(len(found)), duplicates(found.landmarks, found.scores)))
        rest = self._confirm(found)
        rest = self._find_again(found, rest)
        for row in rest:
            self._begin(self._next_id, found.take(np.array([row])), since=-1)
            self._next_id += 1

    def _confirm(self, found: ObservedFaces) -> I64:
        """Rows of `found` that are no followed face; followed faces that were overlooked too often are given up."""
        known = np.stack([t.landmarks for t in self._live]) if self._live else found.landmarks[:0]
        mine, theirs = match_faces(known, found.landmarks, _CONFIRMING)
        live = []
        for i, track in enumerate(self._live):
            missed = 0 if i in mine else track.unconfirmed + 1
            if self._options.unconfirmed is None or missed <= self._options.unconfirmed:
                live.append(replace(track, unconfirmed=missed))
        self._live = live
        near = landmark_distance(known, found.landmarks).min(axis=0, initial=np.inf) < _CONFIRMING
        return np.setdiff1d(np.flatnonzero(~near), theirs)

    def _find_again(self, found: ObservedFaces, rows: I64) -> I64:
        """Rows of `found` among `rows` that are no lost face either; those that are go on with its track."""
        if not self._lost or not len(rows):
            return rows
        where = np.stack([track.landmarks for track in self._lost])
        mine, theirs = match_faces(where, found.landmarks[rows], _FOUND_AGAIN)
        taken: list[int] = []
        for i, j in zip(mine, theirs, strict=True):
            track, face = self._lost[i], found.take(rows[[j]])
            if self._is_again(track, face):
                self._begin(track.track_id, face, since=track.frame)
                taken.append(int(i))
                rows = np.where(np.arange(len(rows)) == j, -1, rows)
        self._lost = [track for i, track in enumerate(self._lost) if i not in taken]
        return rows[rows >= 0]

    def _is_again(self, track: Track, face: ObservedFaces) -> bool:
        if track.head is None or (track.frame == self._now - 1 and not track.cut_off):
            return True  # nobody takes another's place from one frame to the next
        now = head_pictures(self._image, face.landmarks, self._see.angles(face))
        least = SAME_HEAD if track.cut_off else SAME_HEAD_LATER
        return bool(may_be_again(track.landmarks[None], track.head[None], face.landmarks, now, least)[0, 0])

    def _begin(self, track_id: int, face: ObservedFaces, since: int) -> None:
        """Let a track (go on to) be with a face detected now, and follow it back to after frame `since`."""
        angles = self._see.angles(face)
        (roi,) = crop.upright_rois(face.landmarks, angles)
        track = Track(track_id, self._now, face.landmarks[0], roi, float(angles[0]), np.zeros(2))
        self._rows.append((track_id, self._now, face))
        earlier = self._backwards(track, since)
        self._rows += [(track_id, frame, seen) for frame, seen in earlier]
        if earlier:
            moved = (track.landmarks - earlier[0][1].landmarks[0])[:, :2].mean(axis=0).astype(np.float64)
            track = replace(track, velocity=moved)
        self._live.append(track)

    def _backwards(self, track: Track, since: int) -> list[tuple[int, ObservedFaces]]:
        """The face in frames before, newest first, as far back as it is seen and is nobody else's."""
        rows: list[tuple[int, ObservedFaces]] = []
        for place in range(len(self._past) - 1, -1, -1):
            past = self._past[place]
            if past.frame <= since:
                break
            face = self._followed([track], past.image)
            others = landmark_distance(past.landmarks, face.landmarks)
            if not self._sound([track], face)[0] or (others < _CONFIRMING).any():
                break
            self._past[place] = replace(past, landmarks=np.concatenate([past.landmarks, face.landmarks]))
            rows.append((past.frame, face))
            track = self._moved(track, past.frame, face)
        return rows

    # ------------------------------------------------------------------------------------------ the outcome

    def result(self, scene: F32) -> tuple[TrackerState, TrackedFaces]:
        """The state after this frame, and its rows."""
        if self._searched:
            self._past = []
        landmarks = [track.landmarks for track in self._live]
        now = np.stack(landmarks) if landmarks else np.zeros((0, N_LANDMARKS, 3), np.float32)
        past = (*self._past, Past(self._now, self._image, now))
        state = TrackerState(self._now + 1, self._next_id, tuple(self._live), tuple(self._lost), past, scene)
        return state, TrackedFaces(
            np.array([track_id for track_id, _, _ in self._rows], np.int64),
            np.array([frame for _, frame, _ in self._rows], np.int64),
            ObservedFaces.concatenate([face for _, _, face in self._rows] or [self._see.none()]),
        )
