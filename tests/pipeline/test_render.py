"""`render` makes a picture of every input that was chosen, wherever its bytes stand, and accounts for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import packed_pictures
import portrait_films
import pytest
import small_model
from conftest import wanted
from dask_clusters import Cluster

from ddfa_batch.pipeline.derived_plan import DerivedRequest, derived_request
from ddfa_batch.pipeline.differences import refuse_if_different
from ddfa_batch.pipeline.plan import read_run
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.process_request import process_request
from ddfa_batch.pipeline.receipts import verify_run
from ddfa_batch.pipeline.render import render
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.selected_faces import Selection
from ddfa_batch.schemas.config import BUILTIN, Execution, FaceOptions, RenderOptions
from ddfa_batch.schemas.errors import DdfaError, InputError, OptionError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle

HERE = Execution("in-process")


def asked(
    source: Results, out: Path, selection: Selection | None = None, **changes: object
) -> DerivedRequest[RenderOptions]:
    chosen = selection or Selection()
    options: dict[str, object] = {
        "kinds": ("mesh",),
        "format": "png",
        "longest": None,
        "frames": False,
        "run": str(source.path.resolve()),
        "run_created": source.run.created,
        "max_pixels": 10**8,
        "selection": chosen.as_dict(),
    }
    size = changes.pop("shard_size", 5)
    options |= changes
    settled = RenderOptions(**options)  # type: ignore[arg-type]
    return derived_request("render", source, out, settled, chosen, size, videos=not settled.frames)  # type: ignore[arg-type]


def drawn(source: Results, out: Path, selection: Selection | None = None, **changes: object) -> Results:
    render(asked(source, out, selection, **changes), HERE)
    return open_run(out)


def files(out: Path) -> dict[str, bytes]:
    """What was drawn, by name, in the order of the names."""
    return {path.name: path.read_bytes() for path in sorted((out / "pictures").rglob("*.*"))}


def test_every_input_becomes_a_picture_that_sorts_as_it_does(photo_run: Results, tmp_path: Path) -> None:
    found = drawn(photo_run, tmp_path / "out", kinds=("mesh", "depth"))
    table = found.images()
    assert table["key"].to_pylist() == photo_run.images()["key"].to_pylist()
    assert table["n_faces"].to_pylist() == photo_run.images()["n_faces"].to_pylist()
    names = [Path(name).name for name in table["picture"].to_pylist()]
    assert names == sorted(names) == list(files(tmp_path / "out"))
    assert names[3] == "00000003-003.png"
    for name, image in zip(table["picture"].to_pylist(), photo_run.images().to_pylist(), strict=True):
        picture = cv2.imread(str(tmp_path / "out" / name))
        assert picture.shape == (image["height"], 2 * image["width"], 3)
        assert picture[:, image["width"] :].any() == (image["n_faces"] > 0)
    assert verify_run(found.run) == []


def test_a_size_and_a_format_can_be_asked_for(photo_run: Results, tmp_path: Path) -> None:
    drawn(photo_run, tmp_path / "out", Selection(where="image_id = 1"), longest=96, format="webp")
    (name,) = files(tmp_path / "out")
    assert name == "00000001-001.webp"
    assert cv2.imread(str(tmp_path / "out/pictures/000000" / name)).shape == (64, 96, 3)


def test_done_again_after_a_loss_and_by_a_cluster_the_pictures_are_the_same(
    photo_run: Results, two_workers: Cluster, tmp_path: Path
) -> None:
    drawn(photo_run, tmp_path / "out", kinds=("mesh", "pose"))
    whole = files(tmp_path / "out")
    lost = next((tmp_path / "out/pictures").rglob("*.png"))
    lost.unlink()
    drawn(photo_run, tmp_path / "out", kinds=("mesh", "pose"))
    assert files(tmp_path / "out") == whole
    render(asked(photo_run, tmp_path / "other", kinds=("mesh", "pose")), Execution(str(two_workers.file)))
    assert files(tmp_path / "other") == whole


def test_a_selection_draws_the_faces_it_names_alone(photo_run: Results, tmp_path: Path) -> None:
    faces = photo_run.faces(["key", "face_index", "score", "image_id", "face_size"]).to_pylist()
    limit = float(np.median([face["face_size"] for face in faces]))
    found = drawn(photo_run, tmp_path / "a", Selection(where=f"face_size > {limit}")).images().to_pylist()
    expected: dict[str, int] = {}
    for face in faces:
        if face["face_size"] > np.float32(limit):
            expected[face["key"]] = expected.get(face["key"], 0) + 1
    assert {row["key"]: row["n_faces"] for row in found} == expected
    worst = drawn(photo_run, tmp_path / "b", Selection(worst=3)).images()
    assert sum(worst["n_faces"].to_pylist()) == 3


def test_random_faces_follow_the_seed(photo_run: Results, tmp_path: Path) -> None:
    def keys(seed: int) -> list[tuple[int, list[int]]]:
        rows = asked(photo_run, tmp_path / "out", Selection(random=4, seed=seed)).rows
        return [(row["source"], row["face_index"]) for row in rows]

    assert keys(1) == keys(1) != keys(2)
    assert sum(len(faces) for _, faces in keys(1)) == 4
    assert [image for image, _ in keys(1)] == sorted({image for image, _ in keys(1)})


def test_conditions_on_inputs_choose_whole_inputs(photo_run: Results, tmp_path: Path) -> None:
    rows = asked(photo_run, tmp_path / "out", Selection(where="n_faces > 2 and width > 100")).rows
    assert [row["source"] for row in rows] == [4, 8]
    with pytest.raises(InputError, match=r"Nothing in .* is as chosen"):
        asked(photo_run, tmp_path / "out", Selection(where="n_faces > 90"))
    with pytest.raises(OptionError, match=r"no column 'yow'.*Did you mean 'yaw'"):
        asked(photo_run, tmp_path / "out", Selection(where="yow > 3 and n_faces > 1"))


def test_what_failed_and_what_is_gone_by_now_gets_a_card(bundle: Bundle, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1, 2])
    (photos / "002.jpg").write_text("nothing")
    process(wanted(photos, tmp_path / "run", bundle), HERE)
    run = open_run(tmp_path / "run")
    (photos / "000.png").unlink()
    found = drawn(run, tmp_path / "out")
    assert found.images()["status"].to_pylist() == ["error", "ok", "error"]
    assert found.images()["error_kind"].to_pylist() == ["missing", None, "not_an_image"]
    cards = [cv2.imread(str(tmp_path / "out" / name)) for name in found.images()["picture"].to_pylist()]
    assert [card.shape for card in cards] == [(360, 360, 3), (256, 384, 3), (360, 360, 3)]
    assert all(card.std() > 1 for card in cards)
    assert verify_run(found.run) == []
    (failed,) = drawn(run, tmp_path / "failed", Selection(errors=True)).images().to_pylist()
    assert failed["key"] == "002.jpg"


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_pictures_are_read_again_from_where_the_run_had_them(form: str, bundle: Bundle, tmp_path: Path) -> None:
    photos = packed_pictures.files_in(small_model.pictures(tmp_path / "in", [1, 3]))
    packed = {"../../up/" + name: data for name, data in photos.items()}
    path = tmp_path / f"pack.{form}"
    (packed_pictures.tar if form == "tar" else packed_pictures.table)(path, packed)
    for source, out in ((tmp_path / "in", "a"), (path, "b")):
        process(wanted(source, tmp_path / f"run-{out}", bundle), HERE)
        drawn(open_run(tmp_path / f"run-{out}"), tmp_path / out)
    assert list(files(tmp_path / "a").values()) == list(files(tmp_path / "b").values())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a", "b", "in", path.name, "run-a", "run-b"])


def test_a_video_becomes_a_video_with_every_frame_at_its_time(tmp_path: Path) -> None:
    portrait_films.write(tmp_path / "film.mp4", 40, range(15, 23))
    request = process_request(
        [str(tmp_path / "film.mp4")], tmp_path / "run", find_bundle(BUILTIN, tmp_path), FaceOptions(vertices="none")
    )
    process(request, HERE)
    run = open_run(tmp_path / "run")
    found = drawn(run, tmp_path / "out")
    (row,) = found.images().to_pylist()
    assert row["key"] == "film.mp4"
    assert row["n_faces"] == len(run.faces()) == 16
    with av.open(str(tmp_path / "out" / row["picture"])) as file:
        frames = list(file.decode(video=0))
    assert [round(frame.time, 4) for frame in frames] == [round(i / 25, 4) for i in range(8)]
    pictures = [frame.to_ndarray(format="bgr24") for frame in frames]
    hues = [hue_of(pictures, run, track) for track in (0, 1)]
    for of_track in hues:  # each face keeps its colour, and has another than the other face
        assert min(of_track[0] @ hue for hue in of_track) > 0.995
    assert hues[0][0] @ hues[1][0] < 0.97
    assert verify_run(read_run(tmp_path / "out")) == []
    stills = drawn(run, tmp_path / "frames", Selection(where="frame >= 6 and track_id = 0"))
    assert stills.images()["frame"].to_pylist() == [6, 7]
    assert next(iter(files(tmp_path / "frames"))) == "00000006-film.mp4_000006.png"


def hue_of(pictures: list[np.ndarray], run: Results, track: int) -> list[np.ndarray]:
    """The mean colour, of length 1, of the middle of a track's face in every frame."""
    found = []
    for face in run.faces().to_pylist():
        if face["track_id"] == track:
            x, y = np.reshape(face["landmarks68"], (68, 3))[30, :2].round().astype(int)
            colour = pictures[face["frame"]][y - 25 : y + 15, x - 15 : x + 15].reshape(-1, 3).mean(axis=0)
            found.append(colour / np.linalg.norm(colour))
    return found


def test_what_cannot_be_drawn_is_refused(photo_run: Results, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is the run itself"):
        render(asked(photo_run, photo_run.path), HERE)
    with pytest.raises(OptionError, match="small has no UV coordinates; leave out the kind uv"):
        render(asked(photo_run, tmp_path / "out", kinds=("uv",)), HERE)
    other = drawn(photo_run, tmp_path / "out", Selection(where="image_id = 1"))
    with pytest.raises(RunFolderError, match="a run of render"):
        asked(other, tmp_path / "again")
    with pytest.raises(DdfaError, match=r"differs in .*kinds"):
        drawn(photo_run, tmp_path / "out", Selection(where="image_id = 1"), kinds=("pose",))
    with pytest.raises(RunFolderError, match=r"holds a run of render, not of process; choose another output folder"):
        refuse_if_different(other.run, photo_run.run, extend=False)
    assert not (tmp_path / "again").exists()


def test_one_video_among_many_photographs_leaves_shards_of_many(photo_run: Results, tmp_path: Path) -> None:
    """A video is worth a worker's time alone where there are few inputs; thousands are not parted one by one."""
    rows = asked(photo_run, tmp_path / "out").rows
    request = replace(asked(photo_run, tmp_path / "out"), shard_size=None)
    assert replace(request, rows=[{**rows[0], "n_source": 9}, *rows[1:]]).run().shard_size == 1
    assert replace(request, rows=[{**rows[0], "n_source": 9}, *rows[1:] * 100]).run().shard_size == 9
