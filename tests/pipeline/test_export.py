"""`export` writes meshes that other programs read, that lie where the run's landmarks lie, and accounts for each."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import portrait_films
import portraits
import pytest
import small_model
import three_js
import trimesh
from conftest import ROOT, wanted

from ddfa_batch.pipeline.derived_plan import DerivedRequest, derived_request, tracks_request
from ddfa_batch.pipeline.export import default_colours, export
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.process_request import process_request
from ddfa_batch.pipeline.receipts import verify_run
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.selected_faces import Selection
from ddfa_batch.schemas.config import BUILTIN, MESH_FORMATS, MESH_FRAMES, Execution, ExportOptions, FaceOptions
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.rendering.topology import openness

HERE = Execution("in-process")


def asked(
    source: Results, out: Path, selection: Selection | None = None, **changes: object
) -> DerivedRequest[ExportOptions]:
    chosen = selection or Selection()
    options: dict[str, object] = {
        "format": "npz",
        "colours": "vertices",
        "frame": "canonical",
        "y_down": False,
        "tracks": False,
        "run": str(source.path.resolve()),
        "run_created": source.run.created,
        "max_pixels": 10**8,
        "selection": chosen.as_dict(),
    }
    settled = ExportOptions(**{**options, **changes})  # type: ignore[arg-type]
    return (tracks_request if settled.tracks else derived_request)("export", source, out, settled, chosen)


def exported(source: Results, out: Path, selection: Selection | None = None, **changes: object) -> list[dict[str, Any]]:
    """The rows of what was exported."""
    run, _ = export(asked(source, out, selection, **changes), HERE)
    assert verify_run(run) == []
    return open_run(out).table(store.EXPORTS).to_pylist()


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run of two portraits with the model that comes along."""
    folder = tmp_path_factory.mktemp("heads")
    (folder / "in").mkdir()
    for portrait in (portraits.astronaut(), portraits.hopper()):
        shutil.copy(portrait, folder / "in")
    return run_of(folder)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run of two people in eight frames."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "in").mkdir()
    portrait_films.write(folder / "in/film.mp4", 40, range(15, 23))
    return run_of(folder)


def run_of(folder: Path) -> Results:
    bundle = find_bundle(BUILTIN, folder)
    process(process_request([str(folder / "in")], folder / "out", bundle, FaceOptions(vertices="none")), HERE)
    return open_run(folder / "out")


def landmarks_of(run: Results) -> dict[int, np.ndarray]:
    faces = run.faces(["face_id", "landmarks68"])
    return dict(zip(faces["face_id"].to_pylist(), matrix(faces["landmarks68"]).reshape(-1, 68, 3), strict=True))


def read(path: Path) -> np.ndarray:
    """The vertices of a file, as another program reads them; of glTF those of the mesh, not of the scene."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["vertices"]
    if path.suffix == ".csv":
        return np.loadtxt(path, delimiter=",", skiprows=1)[:, :3]
    loaded = trimesh.load(path, process=False, maintain_order=True)
    if isinstance(loaded, trimesh.Scene):
        (loaded,) = loaded.geometry.values()
    assert len(loaded.faces) > 1000
    return np.asarray(loaded.vertices)


@pytest.mark.parametrize("frame", MESH_FRAMES)
@pytest.mark.parametrize(
    ("form", "y_down"), [(form, down) for form in MESH_FORMATS for down in (False, True) if form != "glb" or not down]
)
def test_read_back_and_projected_a_mesh_gives_the_landmarks(
    photo_run: Results, tmp_path: Path, form: str, frame: str, y_down: bool
) -> None:
    changes = {"format": form, "frame": frame, "y_down": y_down, "colours": "none"}
    rows = exported(photo_run, tmp_path / "out", Selection(where="image_id < 2"), **changes)
    assert len(rows) == 3
    known, marks = landmarks_of(photo_run), small_model.head().landmarks
    for row in rows:
        vertices = read(tmp_path / "out" / row["file"])
        affine = np.reshape(row["image_from_mesh"], (3, 4))
        projected = vertices[marks] @ affine[:, :3].T + affine[:, 3]
        np.testing.assert_allclose(projected, known[row["face_id"]], atol=0.01)


def test_axes_and_units_are_as_told(heads: Results, tmp_path: Path) -> None:
    (up, *_), (down, *_) = (exported(heads, tmp_path / name, y_down=name == "down") for name in ("up", "down"))
    assert (up["unit"], up["axes"]) == ("millimetre", "x right, y up, z towards the viewer")
    assert (down["unit"], down["axes"]) == ("millimetre", "x right, y down, z away from the viewer")
    with np.load(tmp_path / "up" / up["file"]) as a, np.load(tmp_path / "down" / down["file"]) as b:
        np.testing.assert_allclose(a["vertices"] * [1, -1, -1], b["vertices"], atol=1e-4)
        np.testing.assert_array_equal(a["triangles"], b["triangles"])
        brow, nose, chin = a["vertices"][a["landmarks68"][[27, 30, 8]]]
        assert brow[1] > nose[1] > chin[1]
        assert nose[2] > chin[2]
        assert 90 < np.ptp(a["vertices"][:, 0]) < 220  # a head, in millimetres
        # Insides, such as those of mouth and sockets, look at the middle: light hardly reaches them.
        open_to_light = openness(a["vertices"] * np.array([1, -1, 1], np.float32), a["triangles"])
        outside = open_to_light[a["triangles"]].mean(axis=1) > 0.5
        for mesh in (a, b):  # counter-clockwise from outside
            whole = trimesh.Trimesh(mesh["vertices"], mesh["triangles"], process=False)
            middle = mesh["vertices"].mean(axis=0)
            outwards = (whole.triangles_center - middle) * whole.face_normals
            assert (outwards.sum(axis=1)[outside] > 0).mean() > 0.9
            np.testing.assert_allclose(np.linalg.norm(mesh["normals"], axis=1), 1, atol=1e-3)
            assert (np.asarray(whole.vertex_normals) * mesh["normals"]).sum(axis=1).mean() > 0.95


def test_colours_are_those_of_the_photograph(heads: Results, tmp_path: Path) -> None:
    import cv2

    rows = exported(heads, tmp_path / "ply", format="ply")
    for row in rows:
        image = cv2.imread(str(Path(heads.run.root) / row["key"]))
        loaded = trimesh.load(tmp_path / "ply" / row["file"], process=False)
        marks = heads.landmarks68
        colours = np.asarray(loaded.visual.vertex_colors)[marks[27:60], :3].astype(int)
        x, y = landmarks_of(heads)[row["face_id"]][27:60, :2].round().astype(int).T
        assert np.median(np.abs(colours - image[y, x, ::-1])) < 12


def test_a_texture_is_mapped_to_where_it_came_from(heads: Results, tmp_path: Path) -> None:
    """Of OBJ, read by another program: the texture at a landmark's UV has the colour of the photograph there."""
    import cv2

    rows = exported(heads, tmp_path / "out", format="obj", colours="texture")
    for row in rows:
        folder = (tmp_path / "out" / row["file"]).parent
        assert sorted(path.suffix for path in folder.glob(Path(row["file"]).stem + ".*")) == [".jpg", ".mtl", ".obj"]
        loaded = trimesh.load(tmp_path / "out" / row["file"], process=False, maintain_order=True)
        texture = np.asarray(loaded.visual.material.image)
        u, v = np.asarray(loaded.visual.uv)[heads.landmarks68[27:48]].T
        size = len(texture)
        found = texture[((1 - v) * size).astype(int).clip(0, size - 1), (u * size).astype(int).clip(0, size - 1)]
        image = cv2.imread(str(Path(heads.run.root) / row["key"]))
        x, y = landmarks_of(heads)[row["face_id"]][27:48, :2].round().astype(int).T
        assert np.median(np.abs(found.astype(int) - image[y, x, ::-1])) < 20


def test_a_track_becomes_a_head_that_moves_as_the_faces_do(film: Results, tmp_path: Path) -> None:
    rows = exported(film, tmp_path / "out", format="glb", tracks=True, frame="image", colours="texture")
    assert [(row["track_id"], row["n_frames"], row["key"]) for row in rows] == [(0, 8, "film.mp4"), (1, 8, "film.mp4")]
    faces = film.faces().to_pylist()
    height = film.images()["height"][0].as_py()
    for row in rows:
        document, arrays = parsed(tmp_path / "out" / row["file"])
        (mesh,), (animation,) = document["meshes"], document["animations"]
        names = mesh["extras"]["targetNames"]
        assert len(names) == len(set(names)) == len(mesh["primitives"][0]["targets"])
        base = arrays[mesh["primitives"][0]["attributes"]["POSITION"]]
        targets = np.stack([arrays[target["POSITION"]] for target in mesh["primitives"][0]["targets"]])
        paths = {c["target"]["path"]: animation["samplers"][c["sampler"]] for c in animation["channels"]}
        np.testing.assert_allclose(arrays[paths["weights"]["input"]].ravel(), np.arange(8) / 25, atol=1e-3)
        own = [face for face in faces if face["track_id"] == row["track_id"]]
        for i, face in enumerate(own):
            weights = arrays[paths["weights"]["output"]].reshape(8, -1)[i]
            shape = (base + np.tensordot(weights, targets, axes=1))[film.landmarks68]
            turned = shape @ matrix_of(arrays[paths["rotation"]["output"]][i]).T
            placed = turned * arrays[paths["scale"]["output"]][i] + arrays[paths["translation"]["output"]][i]
            expected = np.reshape(face["landmarks68"], (68, 3))[:, :2] * [1, -1] + [0, height - 1]
            assert np.abs(placed[:, :2] - expected).mean() < 0.02 * face["face_size"]


def test_in_the_canonical_frame_a_head_stays_and_only_its_expression_moves(film: Results, tmp_path: Path) -> None:
    (row,) = exported(film, tmp_path / "out", Selection(where="track_id = 1"), format="glb", tracks=True)
    document, _ = parsed(tmp_path / "out" / row["file"])
    assert {channel["target"]["path"] for channel in document["animations"][0]["channels"]} == {"weights"}
    assert document["nodes"][0]["scale"] == [0.001] * 3


def parsed(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The document of a GLB, and its accessors as arrays."""
    data = path.read_bytes()
    magic, version, total, length = struct.unpack_from("<4sIII", data)
    assert (magic, version, total) == (b"glTF", 2, len(data))
    document = json.loads(data[20 : 20 + length])
    binary = data[20 + length + 8 :]
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        kind = {5126: np.float32, 5125: np.uint32, 5123: np.uint16}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        flat = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"])
        arrays.append(flat.reshape(accessor["count"], width))
    return document, arrays


def matrix_of(q: np.ndarray) -> np.ndarray:
    """The rotation of a unit quaternion x y z w."""
    x, y, z, w = q.astype(float)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


_VALIDATE = (
    "const v = require('gltf-validator'), fs = require('fs');"
    "(async () => { for (const f of process.argv.slice(1)) { const r = await v.validateBytes(new Uint8Array("
    "fs.readFileSync(f))); const i = r.issues;"
    "console.log(i.numErrors, i.numWarnings, JSON.stringify(i.messages)); } })()"
)


def test_the_khronos_validator_has_nothing_to_say(heads: Results, film: Results, tmp_path: Path) -> None:
    """Where node and its package gltf-validator are: `npm install gltf-validator` in the repository's root."""
    node = shutil.which("node")
    ask = [str(node), "-e", "require('gltf-validator')"]
    if node is None or subprocess.run(ask, cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("node or its package gltf-validator is not here")
    for i, (run, changes) in enumerate(
        [
            (heads, {"colours": "texture"}),
            (heads, {"colours": "vertices", "frame": "image"}),
            (heads, {"colours": "none"}),
            (film, {"colours": "texture", "tracks": True, "frame": "image"}),
            (film, {"colours": "vertices", "tracks": True}),
        ]
    ):
        exported(run, tmp_path / str(i), format="glb", **changes)  # type: ignore[arg-type]
    files = [str(path) for path in sorted(tmp_path.rglob("*.glb"))]
    assert len(files) == 10
    answer = subprocess.run([node, "-e", _VALIDATE, *files], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["0 0 []"] * 10


def test_three_js_shows_a_head_with_its_texture(heads: Results, tmp_path: Path) -> None:
    (row, _) = exported(heads, tmp_path / "out", format="glb", colours="texture")
    with three_js.shown(tmp_path / "out" / row["file"]) as (tab, told, said):
        picture = screenshot(tab)
    assert said == []
    assert told["vertices"] >= 9000
    assert (told["morphs"], told["seconds"]) == (0, [])
    skin = picture.max(axis=2) > 40
    assert 0.2 < skin.mean() < 0.7
    assert (picture[skin, 0] > picture[skin, 2]).mean() > 0.8  # faces are redder than blue


def test_three_js_moves_a_followed_face(film: Results, tmp_path: Path) -> None:
    (row, *_) = exported(film, tmp_path / "out", format="glb", tracks=True, colours="vertices", frame="image")
    with three_js.shown(tmp_path / "out" / row["file"]) as (tab, told, said):
        first = screenshot(tab)
        tab.evaluate(f"window.show({0.6 * told['seconds'][0]})")
        later = screenshot(tab)
    assert said == []
    assert told["morphs"] > 0
    assert len(told["seconds"]) == 1
    assert (first > 40).any(axis=2).mean() > 0.1
    assert np.abs(first - later).mean() > 0.5


def screenshot(tab: Any) -> np.ndarray:
    """RGB of what a tab draws."""
    image = cv2.imdecode(np.frombuffer(tab.locator("canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return image[..., ::-1].astype(np.int32)


def test_what_failed_has_a_row_and_no_mesh(bundle: Bundle, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1, 0, 2])
    process(wanted(photos, tmp_path / "run", bundle), HERE)
    run = open_run(tmp_path / "run")
    (photos / "002.png").unlink()
    rows = exported(run, tmp_path / "out")
    assert [Path(row["file"]).name for row in rows] == ["00000000-000-0.npz"]
    assert open_run(tmp_path / "out").images()["status"].to_pylist() == ["ok", "no_face", "error"]
    assert len(list((tmp_path / "out/meshes").rglob("*.npz"))) == 1
    whole = exported(run, tmp_path / "plain", colours="none")  # which needs no photograph
    assert len(whole) == 3


FAULTS = {
    "texture in a PLY": ({"format": "ply", "colours": "texture"}, "ply holds no texture"),
    "y down in glTF": ({"format": "glb", "y_down": True}, "In glTF y points up"),
    "tracks as OBJ": ({"format": "obj", "tracks": True}, "Only glb can move"),
    "texture without UV": ({"format": "glb", "colours": "texture"}, "small has no UV coordinates"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_exported_is_refused(photo_run: Results, tmp_path: Path, fault: str) -> None:
    changes, sentence = FAULTS[fault]
    with pytest.raises(OptionError, match=sentence):
        exported(photo_run, tmp_path / "out", **changes)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_the_colours_that_suit_a_format_are_chosen() -> None:
    best = [default_colours(form, True) for form in MESH_FORMATS]
    assert best == ["texture", "texture", "vertices", "vertices", "none"]
    assert default_colours("glb", False) == "vertices"
