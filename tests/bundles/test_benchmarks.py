# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' overlays on the bundle's configs: made data in each benchmark's layout, trained on and measured."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from monai.bundle import run as bundle_run
from PIL import Image

from monai_sam2unet.data import make_polyp_phantom
from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.columns import CLINICAL_COLUMNS, PAPERS_COLUMNS

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI's advice on configs of strangers

Evaluate = Callable[..., dict[str, dict[str, float]]]

# Where the images and masks of each set lie, as the benchmarks are distributed, and what their files are called.
POLYP = {
    "TrainDataset": ("TrainDataset/image/{}.png", "TrainDataset/mask/{}.png"),
    **{
        name: (f"TestDataset/{name}/images/{{}}.png", f"TestDataset/{name}/masks/{{}}.png")
        for name in ("Kvasir", "CVC-ClinicDB", "CVC-ColonDB", "CVC-300", "ETIS-LaribPolypDB")
    },
}
COD = {
    "CAMO+COD10K": ("TrainDataset/Imgs/camourflage_{}.jpg", "TrainDataset/GT/camourflage_{}.png"),
    **{
        name: (f"TestDataset/{name}/Imgs/{{}}.jpg", f"TestDataset/{name}/GT/{{}}.png")
        for name in ("CHAMELEON", "CAMO", "COD10K", "NC4K")
    },
}
SOD = {
    "DUTS-TR": ("DUTS-TR/DUTS-TR-Image/n{}.jpg", "DUTS-TR/DUTS-TR-Mask/n{}.png"),
    "DUTS-TE": ("DUTS-TE/DUTS-TE-Image/{}.jpg", "DUTS-TE/DUTS-TE-Mask/{}.png"),
    "DUT-OMRON": ("DUT-OMRON/DUT-OMRON-image/im{}.jpg", "DUT-OMRON/pixelwiseGT-new-PNG/im{}.png"),
    "HKU-IS": ("HKU-IS/imgs/{}.png", "HKU-IS/gt/{}.png"),
    "PASCAL-S": ("PASCAL-S/datasets/imgs/pascal/{}.jpg", "PASCAL-S/datasets/masks/pascal/{}.png"),
    "ECSSD": ("ECSSD/images/{}.jpg", "ECSSD/ground_truth_mask/{}.png"),
}
MARINE = {
    "MAS3K train": ("MAS3K/train/Image/MAS_{}.jpg", "MAS3K/train/Mask/MAS_{}.png"),
    "MAS3K": ("MAS3K/test/Image/MAS_{}.jpg", "MAS3K/test/Mask/MAS_{}.png"),
    "RMAS train": ("RMAS/train/img/{}.jpg", "RMAS/train/label/{}.png"),
    "RMAS": ("RMAS/test/img/{}.jpg", "RMAS/test/label/{}.png"),
}
MIRROR = {
    "MSD train": ("MSD/train/image/{}.jpg", "MSD/train/mask/{}.png"),
    "MSD": ("MSD/test/image/{}.jpg", "MSD/test/mask/{}.png"),
    "PMD train": ("PMD/train/image/{}.jpg", "PMD/train/mask/{}.png"),
    "PMD": ("PMD/test/image/ADE20K/{}.jpg", "PMD/test/mask/ADE20K/{}.png"),
}
LAYOUTS = {"polyp": POLYP, "cod": COD, "sod": SOD, "marine": MARINE, "mirror": MIRROR}
TRAINING = {"TrainDataset", "CAMO+COD10K", "DUTS-TR"}
TINY = {"encoder_size": "tiny", "spatial_size": [64, 64], "num_workers": 0, "device": "cpu"}


def write_layout(root: Path, layout: dict[str, tuple[str, str]], images: int = 2) -> Path:
    for number, (image_name, mask_name) in enumerate(layout.values()):
        for index in range(images):
            image, mask = make_polyp_phantom(100 * number + index, 64, 80)
            for name, pixels in ((image_name, image), (mask_name, mask)):
                path = root / name.format(index)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def overlays(repository: Path) -> dict[str, dict]:
    """The overlays, their published numbers without the note on them."""
    folder = repository / "configs" / "benchmarks"
    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml"))}
    for overlay in found.values():
        del overlay["published"]["note"]
    return found


@pytest.fixture(scope="module")
def notes(repository: Path) -> dict[str, str]:
    folder = repository / "configs" / "benchmarks"
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["published"]["note"]
        for path in folder.glob("*.yaml")
    }


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def in_bundle(bundle: Path) -> Iterator[Callable[..., None]]:
    """Runs a bundle's config with a benchmark's overlay, in this process, which spares starting one for each."""

    def start(run_id: str, config: str, overlay: str, /, **settings: object) -> None:
        recipe = ["../../configs/recipes/paper.yaml"] if config == "train" else []
        files = [f"configs/{config}.yaml", *recipe, f"../../configs/benchmarks/{overlay}.yaml"]
        # Without logging.conf, whose handler would keep a stream that pytest closes.
        bundle_run(run_id=run_id, config_file=files, logging_file=False, **{**TINY, **settings})

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(bundle)
        patch.setattr(sys, "excepthook", sys.excepthook)
        yield start


@pytest.fixture(scope="module")
def trained_on(in_bundle, tmp_path_factory) -> Callable[..., Path]:
    def train(overlay: str, data: Path, /, **settings: object) -> Path:
        folder = tmp_path_factory.mktemp(overlay)
        places = {"ckpt_dir": str(folder), "log_dir": str(folder / "runs"), "dataset_dir": str(data)}
        short = {"weights": "random", "max_epochs": 1, "batch_size": 2, "val_fraction": 0.5}
        in_bundle("training", "train", overlay, **places, **short, **settings)
        return folder / "model.pt"

    return train


@pytest.fixture(scope="module")
def checkpoint(trained_on, phantoms: Path) -> Path:
    return trained_on("polyp", phantoms)


@pytest.fixture(scope="module")
def evaluate(in_bundle) -> Evaluate:
    def measure(overlay: str, data: Path, checkpoint: Path, output: Path, /, **settings: object):
        places = {"dataset_dir": str(data), "ckpt_path": str(checkpoint), "output_dir": str(output)}
        in_bundle("evaluating", "evaluate", overlay, **places, **settings)
        return json.loads((output / "summary.json").read_text(encoding="utf-8"))["sets"]

    return measure


@pytest.mark.parametrize(
    ("benchmark", "settings"),
    [
        ("polyp", {}),
        ("cod", {}),
        ("sod", {}),
        ("marine", {}),
        ("marine", {"benchmark": "RMAS"}),
        ("mirror", {}),
        ("mirror", {"benchmark": "PMD"}),
    ],
)
def test_trains_and_measures_in_the_layout_as_distributed(
    benchmark, settings, trained_on, evaluate, overlays, notes, tmp_path: Path
) -> None:
    data = write_layout(tmp_path / "data", LAYOUTS[benchmark])
    checkpoint = trained_on(benchmark, data, **settings)
    sets = evaluate(benchmark, data, checkpoint, tmp_path / "eval", **settings)

    published = overlays[benchmark]["published"]
    expected = {"MAS3K", "MSD"} & set(published) or set(published)
    assert set(sets) == ({settings["benchmark"]} if settings else expected)
    assert {values["images"] for values in sets.values()} == {2}
    with (tmp_path / "eval" / "published.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(r["dataset"], r["column"]) for r in rows} == {(n, c) for n in sets for c in published[n]}
    assert notes[benchmark] in (tmp_path / "eval" / "published.md").read_text(encoding="utf-8")
    assert {r["n"] for r in rows} == {"2"}
    for row in rows:
        ours = sets[row["dataset"]][f"mean_{row['column']}"]
        assert float(row["ours"]) == ours
        assert float(row["difference"]) == pytest.approx(ours - published[row["dataset"]][row["column"]])


def test_every_published_number_has_its_set_and_its_column(overlays) -> None:
    assert list(overlays) == sorted(LAYOUTS)
    for name, overlay in overlays.items():
        tests = set(LAYOUTS[name]) - TRAINING - {n for n in LAYOUTS[name] if n.endswith(" train")}
        assert set(overlay["published"]) == tests
        if "test_folders" in overlay:
            assert set(overlay["test_folders"]) == tests
        for numbers in overlay["published"].values():
            assert set(numbers) <= {*PAPERS_COLUMNS, *CLINICAL_COLUMNS}
            assert all(0 < number < 1 for number in numbers.values())


def test_what_was_not_checked_says_so(repository: Path, notes, page: str) -> None:
    """Each set's numbers are marked where they stand, in the note that is printed with them, and on the page."""
    for note in notes.values():
        assert "Unverified: from memory of arXiv 2408.08870" in note
    for path in (repository / "configs" / "benchmarks").glob("*.yaml"):
        lines = path.read_text(encoding="utf-8").split("published:")[1].splitlines()
        numbers = [line for line in lines if re.match(r"  \S+: \{", line)]
        assert numbers
        assert all("unverified" in line for line in numbers)
    assert "not checked against the paper" in page


def test_the_page_has_the_overlays_numbers(overlays, page: str) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    for overlay in overlays.values():
        for name, numbers in overlay["published"].items():
            expected = [f"{number:.3f}" for number in numbers.values()]
            assert [name, *expected] in [[row[0], *row[2:-1]] for row in rows], name


def test_the_commands_of_the_page_name_files_that_are_there(bundle: Path, page: str) -> None:
    lists = re.findall(r'--config_file "\[(.*?)\]"', page)
    assert len(lists) == 2 * len(LAYOUTS)
    for files in lists:
        for name in files.split(","):
            assert (bundle / name.strip("'")).is_file(), name


def test_the_other_layout_of_the_page_names_the_same_sets(overlays, page: str) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    other = yaml.safe_load(block)
    for key in ("train_folders", "test_folders"):
        assert list(other[key]) == list(overlays["sod"][key])


def test_an_overlay_sets_only_what_one_of_the_configs_has(overlays, bundle: Path) -> None:
    """A key that neither config knows would be a slip of the pen that nothing reports."""
    configs = [yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text()) for name in ("train", "evaluate")]
    known = {key for config in configs for key in config} | {"benchmark"}
    for name, overlay in overlays.items():
        assert set(overlay) <= known, name


def test_an_absent_set_is_named_with_what_to_do(evaluate, checkpoint: Path, tmp_path: Path) -> None:
    data = write_layout(tmp_path, {name: COD[name] for name in ("CAMO", "COD10K")})
    with pytest.raises(RuntimeError) as raised:
        evaluate("cod", data, checkpoint, tmp_path / "eval")
    causes = [raised.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-1], DataError)
    assert f"images of CHAMELEON: {data / 'TestDataset' / 'CHAMELEON' / 'Imgs'}" in str(causes[-1])
    assert "--test_sets" in str(causes[-1])


@pytest.mark.slow
def test_some_sets_by_the_command_of_the_page(run, checkpoint: Path, tmp_path: Path) -> None:
    data = write_layout(tmp_path, {name: COD[name] for name in ("CAMO", "COD10K")})
    files = "['configs/evaluate.yaml','../../configs/benchmarks/cod.yaml']"
    settings = {"dataset_dir": data, "ckpt_path": checkpoint, "output_dir": tmp_path / "eval"}
    done = run("evaluating", files, test_sets="['CAMO']", **settings)
    assert "difference" in done.stdout
    assert list(json.loads((tmp_path / "eval" / "summary.json").read_text())["sets"]) == ["CAMO"]


def test_the_polyp_benchmark_on_real_images(evaluate, checkpoint: Path, shared_data: Path, tmp_path: Path) -> None:
    names = ("Kvasir", "CVC-ClinicDB", "CVC-300")
    source, data = shared_data / "polyp" / "TestDataset", tmp_path / "TestDataset"
    for name in names:
        for kind in ("images", "masks"):
            (data / name / kind).mkdir(parents=True)
            for path in sorted((source / name / kind).iterdir())[:3]:
                (data / name / kind / path.name).symlink_to(path)
    sets = evaluate("polyp", tmp_path, checkpoint, tmp_path / "eval")
    assert {name: values["images"] for name, values in sets.items()} == dict.fromkeys(names, 3)
    for values in sets.values():
        assert 0 <= values["mean_iou_mean"] <= values["mean_dice_mean"] <= 1
    assert "not measured here: CVC-ColonDB, ETIS-LaribPolypDB" in (tmp_path / "eval" / "published.md").read_text()
