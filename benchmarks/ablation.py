"""The paper's Tables 3 and 4 and Figures 3 and 7, at a small scale on a laptop.

    python -m recipes.builtin.prepare ../shared WORK
    ddfa-batch fit WORK/aflw/labels68.parquet WORK/aflw/images WORK/aflw/fit --outline \
        --model 3ddfa-v2-mb05
    ddfa-batch synth-videos WORK/aflw/images WORK/aflw/clips --params WORK/aflw/fit --frames 6 --speed 2 \
        --yaw-range -50 50 --pitch-range -20 20 --roll 0 0 --scale 1 1 --shift 0 0 --noise 0 0 --blur 0 0 \
        --format parquet
    python benchmarks/ablation.py WORK [--seeds 3] [--iterations 40] [--figures docs]

Ten variants are trained on the training part of the crops (split by the sha256 of their names), all with the same
backbone, crops of SIZE pixels, and the same number of steps and of images a step; every one is then measured on the
photographs of AFLW2000-3D's dev half (68 points, rois of the labels, mean of the yaw bins) and on synthetic clips made
of 150 of them, in one pass. Nothing is chosen by these. What is done already, in WORK/ablation, is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib_curves import Curve, draw_curves

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.import_labels import import_300w_lp
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.synthesize import synthesize
from ddfa_batch.schemas.config import Execution, SynthOptions
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files import atomic
from ddfa_batch.tasks.files.given_faces import read_faces
from ddfa_batch.tasks.files.inputs import resolve_source
from ddfa_batch.tasks.training import export, host, meta_joint, state
from ddfa_batch.tasks.training.architectures import Architecture
from ddfa_batch.tasks.training.clips import Clips, is_validation, whitening
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import make_batch
from ddfa_batch.tasks.training.options import Sampling, TrainConfig

SIZE, STEPS, IMAGES = 40, 50, 64
STILL = Sampling(IMAGES, 1, turned=0.0, size=SIZE)
SHORT = Sampling(IMAGES // 2, 2, "smooth", 0.5, SIZE)
RANDOM = replace(SHORT, motion="random")


@dataclass(frozen=True)
class Variant:
    """A row of the tables: method, use of the landmarks, what the frames of a mini-batch are; the paper's NME, %."""

    method: str
    landmarks: str = "none"
    sampling: Sampling = STILL
    paper: float | None = None


TABLE_3 = {
    "VDC": Variant("vdc", paper=5.23),
    "fWPDC": Variant("fwpdc", paper=4.04),
    "VDC from fWPDC": Variant("vdc-from-fwpdc", paper=3.88),
    "vanilla-joint": Variant("vanilla-joint", paper=3.80),
    "meta-joint": Variant("meta-joint", paper=3.73),
    "meta-joint, lmk": Variant("meta-joint", "lmk", paper=3.71),
    "meta-joint, lrr": Variant("meta-joint", "lrr", paper=3.59),
}
TABLE_4 = {
    "fWPDC": TABLE_3["fWPDC"],
    "fWPDC, svs": Variant("fwpdc", sampling=SHORT),
    "meta-joint, lrr": TABLE_3["meta-joint, lrr"],
    "meta-joint, lrr, rnd": Variant("meta-joint", "lrr", RANDOM),
    "meta-joint, lrr, svs": Variant("meta-joint", "lrr", SHORT),
}
#: NME / stability on Menpo-3D, Table 4.
PAPER_4 = {
    "fWPDC": "1.96 / 0.54",
    "fWPDC, svs": "1.84 / 0.51",
    "meta-joint, lrr": "1.86 / 0.52",
    "meta-joint, lrr, rnd": "1.76 / 0.50",
    "meta-joint, lrr, svs": "1.71 / 0.48",
}


def synthetic_clips(work: Path, bundle: Bundle) -> Path:
    """150 clips of ten frames made of the dev half's photographs with the data set's own parameters."""
    out = work / "dev/clips"
    if not (work / "dev/params.parquet").exists():
        import_300w_lp(work / "dev/mat", work / "dev/params.parquet", bundle)
    given = read_faces(work / "dev/params.parquet", bundle.manifest.layout.size, bundle.digest, 1)
    names = sorted(given.keys())[::6][:150]
    listed = work / "dev/photographs.csv"
    listed.write_text("path\n" + "\n".join(f"mat/{name}" for name in names) + "\n")
    by_key = {f"mat/{name}": given.by_key[name] for name in names}
    options = SynthOptions(
        frames=10,
        clips_per_image=1,
        seed=7,
        yaw=(-30.0, 30.0),
        pitch=(-15.0, 15.0),
        roll=(-10.0, 10.0),
        scale=(0.92, 1.08),
        shift=(-0.05, 0.05),
        speed=1.0,
        noise=(0.0, 4.0),
        blur=(0.0, 0.8),
        size=120,
        format="parquet",
        max_faces=1,
        max_pixels=10**8,
        detector="boxes",
        min_score=0.0,
        params_digest=given.digest,
        path_column=None,
    )
    chosen = replace(given, by_key=by_key)
    asked = RunRequest("synth-videos", resolve_source(listed, None), out, options, bundle, chosen)
    synthesize(asked, Execution("in-process"))
    return out


def trained(variant: Variant, clips: Clips, bundle: Bundle, folder: Path, seed: int, iterations: int) -> None:
    """Train one variant to the end in `folder`, from its checkpoint if there is one, and write its bundle."""
    config = TrainConfig(variant.method, variant.landmarks, STEPS, iterations, seed=seed, sampling=variant.sampling)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        training = state.load(checkpoint)
    else:
        sample = make_batch(clips, np.arange(2048), replace(STILL, stills=2048), config.augmentation, [seed], 1)
        training = state.start(Architecture(width=0.5), config, *whitening(sample.params))
    space = FaceSpace.of(load_morphable(bundle), np.array(training.mean), np.array(training.std), SIZE)
    training = meta_joint.run(training, clips, space, keep=lambda now, _: state.save(now, checkpoint), every=10)
    origin = export.Origin(folder.name, "1", "for measuring only", "benchmarks/ablation.py")
    export.to_bundle(training, load_morphable(bundle), origin, export.Detectors.none(), folder / "model")


def measured(folder: Path, work: Path, clips: Path) -> dict[str, object]:
    """What one trained variant comes to."""
    from ddfa_batch.tasks.bundles.model_bundle import load_bundle

    bundle = load_bundle(folder / "model")
    labels = tuple(work / f"dev/{name}.parquet" for name in ("original", "reannotated"))
    photographs = evaluate(
        EvaluationRequest(
            protocol="aflw2000-3d",
            labels=labels,
            out=folder / "dev",
            bundle=bundle,
            images=work / "dev/photographs",
            overwrite=True,
        )
    )
    videos = evaluate(EvaluationRequest("video", (clips,), folder / "video", bundle=bundle, overwrite=True))
    history = state.load(folder / "checkpoint.pt").history
    return {
        "dev": photographs.scores[0].mean_of_bins,
        "reannotated": photographs.scores[1].mean_of_bins,
        "video": videos.scores[0].mean,
        "stability": videos.scores[0].stability,
        "errors": [record.errors[record.selected] for record in history],
        "selected": [record.selected for record in history],
        "seconds": sum(record.seconds for record in history),
    }


def table(
    variants: dict[str, Variant], results: dict[str, list[dict[str, object]]], columns: dict[str, str]
) -> list[str]:
    """Markdown: the mean over the seeds, and the least and greatest."""
    lines = ["| | " + " | ".join([*columns.values(), "paper"]) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, variant in variants.items():
        cells = []
        for column in columns:
            values = [float(str(result[column])) for result in results[name]]
            spread = f" ({min(values):.2f}–{max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        paper = f"{variant.paper:.2f}" if "dev" in columns else PAPER_4[name]
        lines.append(f"| {name} | " + " | ".join([*cells, paper]) + " |")
    return lines


def draw(results: dict[str, list[dict[str, object]]], folder: Path) -> None:
    """Figure 3: vertex errors as training goes on; Figure 7: which branch was selected."""
    steps = np.arange(1, len(results["VDC"][0]["errors"]) + 1) * STEPS  # type: ignore[arg-type]
    width = max(1, len(steps) // 10)
    curves = {}
    for name in TABLE_3:
        mean = np.mean([result["errors"] for result in results[name]], axis=0)
        smooth = np.convolve(mean, np.ones(width) / width, "valid")
        curves[name] = Curve(steps[width - 1 :], smooth)
    draw_curves(folder / "figure3.png", curves, "Vertex error on meta-test batches", "steps", "RMS, pixels")
    shares = {}
    for name in ("meta-joint", "meta-joint, lrr"):
        chosen = np.mean([[s == "vdc" for s in result["selected"]] for result in results[name]], axis=0)  # type: ignore[attr-defined]
        shares[name] = Curve(steps[width - 1 :], np.convolve(chosen, np.ones(width) / width, "valid"))
    draw_curves(folder / "figure7.png", shares, "How often VDC is selected", "steps", "share", 1.0)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05", help="the face model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    host.prepare("cpu", arguments.threads)
    bundle = find_bundle(arguments.model, default_models_folder())
    videos = synthetic_clips(arguments.work, bundle)
    every = training_set.read(arguments.work / "aflw/fit", None, arguments.work / "aflw/clips", bundle).clips
    clips = every.take(~is_validation(every.names, 0.1))
    variants = {**TABLE_4, **TABLE_3}
    results: dict[str, list[dict[str, object]]] = {name: [] for name in variants}
    for seed in range(arguments.seeds):
        for name, variant in variants.items():
            folder = arguments.work / "ablation" / f"{name.replace(', ', '_').replace(' ', '-')}-{seed}"
            path = folder / "result.json"
            if not path.exists():
                trained(variant, clips, bundle, folder, seed, arguments.iterations)
                atomic.write_json(path, measured(folder, arguments.work, videos))
            results[name].append(json.loads(path.read_text()))
            last = results[name][-1]
            print(
                f"seed {seed}, {name}: {last['dev']:.2f} %, {last['video']:.2f} / {last['stability']:.3f} %", flush=True
            )
    samples = arguments.iterations * STEPS * IMAGES
    print(f"\nmobilenet x0.5, {SIZE}×{SIZE}, {samples:,} images each, {arguments.seeds} seeds: mean (least–greatest)\n")
    print("\n".join(table(TABLE_3, results, {"dev": "AFLW2000-3D dev", "reannotated": "re-annotated"})), "\n")
    print("\n".join(table(TABLE_4, results, {"video": "NME, clips", "stability": "stability, clips"})))
    if arguments.figures:
        draw(results, arguments.figures)


if __name__ == "__main__":
    main()
