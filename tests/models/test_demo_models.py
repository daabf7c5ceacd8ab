"""The committed demo models: packages that load anywhere, and are as good or bad as they claim."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edge_agent.config.structs import PhantomSource
from edge_agent.core.manifest import Manifest, parse_manifest
from edge_agent.sources.phantom import EndoscopeScene, UltrasoundScene
from tools.training import measure, scopes, sectors

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "models").glob("*/*/manifest.toml"))
NAMES = [f"{folder.parent.name}-{folder.name}" for folder in PACKAGES]
HELD_OUT_SEED = 777_000  # no training and no measure draws it


def manifest_of(folder: Path) -> Manifest:
    fields = _toml.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    return parse_manifest(fields, origin=str(folder))


def chamber(version: str) -> measure.Model:
    return measure.Model(ROOT / "models" / "us-chamber" / version / "us-chamber.onnx")


def test_the_four_demo_models_are_there() -> None:
    assert NAMES == [
        "endo-polyp-1.0.0",
        "us-chamber-1.0.0",
        "us-chamber-1.1.0",
        "us-chamber-1.2.0",
    ]


@pytest.mark.parametrize("folder", PACKAGES, ids=NAMES)
def test_a_manifest_names_its_folder_and_says_that_it_is_not_medical(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert (manifest.name, manifest.version) == (folder.parent.name, folder.name)
    assert manifest.intended_use.endswith("Not a medical device.")
    assert manifest.licence == "Apache-2.0"
    assert manifest.provenance.metrics
    assert len(manifest.provenance.data_hash) == 16
    assert sum(manifest.reference["scores"]) == pytest.approx(1.0, abs=0.01)
    assert {one.name for one in folder.iterdir()} == {
        "manifest.toml",
        "golden.npz",
        manifest.variants[0].file,
    }


@pytest.mark.parametrize("folder", PACKAGES, ids=NAMES)
def test_a_model_is_small_old_enough_and_takes_frames_as_they_are(folder: Path) -> None:
    manifest = manifest_of(folder)
    path = folder / manifest.variants[0].file
    assert path.stat().st_size < 1_000_000
    model = onnx.load(str(path))
    assert model.ir_version <= 10
    assert max(entry.version for entry in model.opset_import) <= 17
    (entry,) = model.graph.input
    width, height = manifest.input.size
    shape = [axis.dim_value for axis in entry.type.tensor_type.shape.dim]
    assert entry.name == manifest.input.name
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shape == [1, height, width, manifest.input.channels]
    assert {one.name for one in model.graph.output} == set(manifest.heads[0].outputs)


@pytest.mark.parametrize("folder", PACKAGES, ids=NAMES)
def test_every_golden_sample_passes_on_the_runtime_that_is_here(folder: Path) -> None:
    manifest = manifest_of(folder)
    (variant,) = manifest.variants
    session = ort.InferenceSession(str(folder / variant.file), providers=["CPUExecutionProvider"])
    with np.load(folder / variant.golden, allow_pickle=False) as golden:
        count = sum(name.startswith("input_") for name in golden.files)
        assert count >= 8
        for index in range(count):
            fed = golden[f"input_{index}"]
            assert fed.dtype == np.uint8
            outputs = session.run(None, {manifest.input.name: fed})
            for entry, got in zip(session.get_outputs(), outputs, strict=True):
                wanted: NDArray[Any] = golden[f"output_{entry.name}_{index}"]
                assert wanted.dtype == np.float32
                assert np.abs(got - wanted).max() <= variant.tolerance


def test_1_1_0_is_better_than_1_0_0_on_held_out_phantoms_and_1_2_0_is_worse() -> None:
    images, masks = sectors.draw_many(HELD_OUT_SEED, 60)
    first, better, worse = (
        measure.mean_dice(chamber(version), images, masks)
        for version in ("1.0.0", "1.1.0", "1.2.0")
    )
    assert better > first + 0.01
    assert worse < first - 0.1
    assert first > 0.7


def test_the_good_versions_find_the_live_phantom_and_1_2_0_disagrees_with_them() -> None:
    images, masks = measure.live_sectors(range(301, 303), every=6)
    first, better, worse = (chamber(version) for version in ("1.0.0", "1.1.0", "1.2.0"))
    assert measure.mean_dice(first, images, masks) > 0.85
    assert measure.mean_dice(better, images, masks) > 0.9
    agreement = [
        np.mean([measure.iou(first.mask(image), other.mask(image)) for image in images])
        for other in (better, worse)
    ]
    assert agreement[0] > 0.75
    assert agreement[1] < 0.6


def test_on_the_real_clip_the_good_versions_agree_and_1_2_0_does_not() -> None:
    first = chamber("1.0.0")
    better = measure.clip_figures(chamber("1.1.0"), first)
    worse = measure.clip_figures(chamber("1.2.0"), first)
    assert better["clip_found_share"] == 1.0
    assert better["clip_iou_with_1_0_0"] > worse["clip_iou_with_1_0_0"] + 0.15


def test_the_polyp_model_finds_the_live_polyp_and_little_else() -> None:
    model = measure.Model(ROOT / "models" / "endo-polyp" / "1.0.0" / "endo-polyp.onnx")
    images, truths = measure.live_scopes(range(301, 303), every=40)
    assert measure.average_precision(model, images, truths) > 0.9
    empty = [image for image, truth in zip(images, truths, strict=True) if len(truth) == 0]
    assert sum(len(model.boxes(image, 0.5)[0]) for image in empty) <= 0.2 * max(len(empty), 5)


def test_training_pictures_are_the_same_for_the_same_seed() -> None:
    one, other = sectors.draw(5, 3), sectors.draw(5, 3)
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)
    assert not np.array_equal(one.image, sectors.draw(5, 4).image)
    first, again = scopes.scene(5, 1), scopes.scene(5, 1)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))


def test_ground_truth_never_leaves_the_sector_or_the_frame() -> None:
    scene = UltrasoundScene(PhantomSource(seed=3, size=(320, 240)), 30.0)
    outside = scene.draw(1) == 0
    x, y, width, height = scene.calibration.roi or (0, 0, 320, 240)
    for number in (1, 9, 17):
        mask = scene.truth(number).mask
        assert mask is not None
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
        assert (mask & outside).mean() < 0.01
    views = EndoscopeScene(PhantomSource(scene="endoscope", seed=3, size=(320, 240)))
    boxes = [box for number in range(1, 720, 60) for box in views.truth(number).boxes]
    assert boxes
    assert all(0 <= b[0] < b[2] <= 320 and 0 <= b[1] < b[3] <= 240 for b in boxes)
