"""The recipe of the built-in model from end to end, on a few drawn faces: every step, in order, none of them twice."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_shared
from command_line import call

pytest.importorskip("torch")
pytest.importorskip("skimage")

from ddfa_batch.pipeline import train as pipeline_train
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.bundle import CARD
from ddfa_batch.schemas.config import BUILTIN_LARGE
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle
from ddfa_batch.tasks.bundles.onnx_graphs import Graph
from recipes.builtin import card, distil, glance, prepare, recipe, thresholds
from recipes.builtin.detector import prepare as detector_prepare
from recipes.builtin.detector import trainer

SMALL = "--look-ahead 2 --iterations 2 --stills 2 --every 1 --validation 0.2 --device cpu --threads 1"
AMOUNTS = recipe.Amounts(
    distil="--agree 100",  # a net that learnt nothing is far from every label
    head="--distilled 8 --human 3 --heads 50 --rounds 1",
    trained=f"{SMALL} --width 0.0625",
    polished=f"{SMALL} --width 0.0625",
    trained_large=f"{SMALL} --width 0.125",
    polished_large=f"{SMALL} --width 0.125",
    distil_again="--agree 100",
    frames="--agree 1000",
    distractors="--pictures 40",
    taught=f"{SMALL} --width 0.0625",
    taught_again=f"{SMALL} --width 0.0625",
    taught_large=f"{SMALL} --width 0.125",
    taught_large_again=f"{SMALL} --width 0.125",
    apart="--most 0.999",
    detector="--steps 1",
    tuned="--steps 1",
    assemble="--pictures 60",
)


@pytest.fixture(scope="module")
def shared_in_miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_shared.make(tmp_path_factory.mktemp("shared"))


def test_crops_that_show_a_test_photograph_are_left_out(shared_in_miniature: Path, tmp_path: Path) -> None:
    prepare.main([str(shared_in_miniature), str(tmp_path)])
    names = {path.name for path in (tmp_path / "aflw/images").iterdir()}
    assert len(names) == tiny_shared.N_CROPS - 1
    assert tiny_shared.DUPLICATE not in names
    tables = [pq.read_table(tmp_path / f"aflw/labels{n}.parquet") for n in (68, 21)]
    assert all(tiny_shared.DUPLICATE not in table["name"].to_pylist() for table in tables)
    assert [len(table) for table in tables] == [26, tiny_shared.N_CROPS - 1]


def magenta(image: U8) -> tuple[np.ndarray, np.ndarray]:
    """A teacher: the boxes of what is magenta."""
    mask = ((image[..., 0] > 150) & (image[..., 1] < 90) & (image[..., 2] > 150)).astype(np.uint8)
    _, _, found, _ = cv2.connectedComponentsWithStats(mask)
    found = found[1:][found[1:, cv2.CC_STAT_AREA] > 200].astype(np.float64)
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
    return boxes, np.full(len(boxes), 0.9)


def blob_detector() -> bytes:
    """A network with the outputs of the project's own detector: a box of six cells about every cell that is magenta."""
    g = Graph()
    colour = np.array([1, -1, 1], np.float32).reshape(1, 3, 1, 1) / 510
    shown = g.add("Relu", g.conv("input", colour, np.zeros(1, np.float32)))
    outputs: dict[str, list[int | str]] = {}
    for stride in (8, 16, 32, 64):
        mean = g.add("AveragePool", shown, kernel_shape=[stride, stride], strides=[stride, stride])
        slope = np.array([6.0 if stride == 32 else 0.0, 0, 0, 0, 0], np.float32).reshape(5, 1, 1, 1)
        answer = np.array([-1.5 if stride == 32 else -20, *np.log([3, 3, 3, 3])], np.float32)
        g.add("Identity", g.conv(mean, slope, answer), output=f"level_{stride}")
        outputs[f"level_{stride}"] = [1, 5, f"h{stride}", f"w{stride}"]
    return g.model("input", [1, 3, "h", "w"], outputs)


class Kitchen:
    """Runs the recipe's commands in this process, and notes them."""

    def __init__(self, work: Path, models: Path) -> None:
        self.work, self.models = work, models
        self.done: list[str] = []
        self.learnt: dict[Path, bytes] = {}

    def execute(self, words: Sequence[str]) -> None:
        """One command, as `recipe.execute`."""
        self.done.append(" ".join(words))
        if words[0] == "ddfa-batch":
            self.ddfa_batch(*words[1:])
            return
        importlib.import_module(words[2]).main(list(words[3:]))
        if "train" in words or "tune" in words:  # the drawn detector, which finds something after no training
            for path in (self.work / "detector").rglob("step*.onnx"):
                self.learnt.setdefault(path, path.read_bytes())
                path.write_bytes(blob_detector())
        if "mine" in words:  # tuning goes on with a net that learns
            for path, content in self.learnt.items():
                path.write_bytes(content)

    def ddfa_batch(self, *words: str | Path) -> None:
        """One of the package's own commands."""
        few = "--scheduler in-process --min-score 0.001 --max-faces 30"  # what learnt nothing finds faces everywhere
        more = {"process": few, "synth-videos": "--scheduler in-process"}.get(str(words[0]), "").split()
        answer = call(words[0], *more, *words[1:], models=self.models, model=None)
        assert answer.code == 0, (words, answer.stderr)


def test_the_recipe_makes_a_model_and_does_no_step_twice(
    shared_in_miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, target = tmp_path / "work", tmp_path / "builtin"
    large = tmp_path / BUILTIN_LARGE
    for folder in (target, large):
        folder.mkdir()
        (folder / CARD).write_bytes((builtin_folder(folder.name) / CARD).read_bytes())
    backgrounds = work / "backgrounds"
    backgrounds.mkdir(parents=True)
    for i in range(12):
        cv2.imwrite(str(backgrounds / f"{i}.png"), np.full((90, 120, 3), 20 * i, np.uint8))
    kitchen = Kitchen(work, tmp_path / "models")
    monkeypatch.setattr(distil, "default_models_folder", lambda: tmp_path / "models")
    monkeypatch.setattr(card, "ddfa_batch", kitchen.ddfa_batch)
    monkeypatch.setattr(pipeline_train, "_WHITENING", 64)
    monkeypatch.setattr(trainer, "_N_STATISTICS", 2)
    monkeypatch.setattr(thresholds, "N_LYING", 6)
    monkeypatch.setattr(thresholds, "N_DOWN", 3)
    monkeypatch.setattr(
        detector_prepare, "teachers", lambda _: dict.fromkeys(("faceboxes", "yunet_s", "retinaface"), magenta)
    )
    recipe.make(shared_in_miniature, work, AMOUNTS, target, kitchen.execute)
    made = load_bundle(target)
    assert (made.manifest.name, made.manifest.layout.size) == ("builtin", 62)
    assert made.manifest.detectors["builtin"].detector_weight >= 0
    assert load_morphable(made).topology == "builtin_v2"
    assert made.manifest.expression_names[0] == "jaw_open"
    text = (target / CARD).read_text()
    assert "| builtin | roi of the labels, one pass | original |" in text
    other = load_bundle(large)
    assert (other.manifest.name, other.manifest.topology) == (BUILTIN_LARGE, "builtin_v2")
    assert "| builtin-large | roi of the labels, one pass | original |" in (large / CARD).read_text()
    before = len(kitchen.done)
    recipe.make(shared_in_miniature, work, AMOUNTS, target, kitchen.execute)
    assert len(kitchen.done) == before
    for name in ("N_LYING", "N_DOWN"):
        monkeypatch.setattr(glance, name, 2)
    capsys.readouterr()
    glance.main([str(work)])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[0] for line in lines} >= {"portraits", "collages", "empty", "lying", "upside down"}
    assert all(line.count(" of 2 faces, ") == 2 for line in lines[-2:])
