"""Every page of the documents is followed: its commands as they stand, on small data and with small settings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.demo import NOTE
from arniqa_pl.runs import mlflow_run_id
from tests.documents import ROOT, TEXTS, blocks, copy_tree, follow, run_script
from tests.quality.test_checkpoints import files  # noqa: F401  a fixture
from tests.test_newcomer import PAGES as NEWCOMER

PAGES = [page for page in TEXTS if page not in NEWCOMER and any(block.kind == "run" for block in blocks(page))]
# What a page leaves to its reader, or what takes long, and what is read in its place.
STAND_INS = {
    "runs/kadid/<run>": "$(ls -d runs/kadid/*)",
    "runs/regression/<run>": "$(ls -d runs/regression/* | tail -1)",
    "runs/demo/<time>": "$(ls -d runs/demo/* | head -1)",
    "<run>,<run>": "runs/base/0,runs/base/1",
    "runs/<run>": "runs/base/0",
    "<run>": "runs/base/0",
    "<MLflow run id>": "",  # that of the run
    "max_distortions=1,2,4,7 seed=1,2,3": "max_distortions=1,2 seed=1",
    "max_distortions=1,2,4 seed=1,2,3": "max_distortions=1,2 seed=1",
    "experiment=ablation/distortions": "experiment=ablation/partner",
    "n_trials=20": "n_trials=2",
    "devices=4": "devices=2",
    "http://127.0.0.1:5000": "sqlite:///other.db",
    "/srv/images": "folder",
}
# Goes on top of the root configs in the copy, so that the commands need not change.
TRAINER = "trainer: {accelerator: cpu, precision: 32-true}\n"
REGRESSION = "features: {crop_size: 32, crops: 1, num_workers: 0}\nridge: {num_splits: 2, alphas: {num: 3}}\n"
TRAINING = """encoder: {name: resnet18, weights: none}
data: {crop_size: 32, batch_size: 2, samples_per_epoch: 4, num_workers: 0, validation_pairs: 2}
trainer: {max_epochs: 1, accelerator: cpu, precision: 32-true}
"""
SMALL = {
    "train": TRAINING + REGRESSION,
    "regress": TRAINER + REGRESSION,
    "evaluate": TRAINER + "features: {num_workers: 0}\n",
    "manifold": TRAINER + "features: {crop_size: 32, num_workers: 0}\n",
    "prepare": "pristine: 21\n",
}


@pytest.fixture(scope="module")
def tree(demo_data, small_data, replicas, files, tmp_path_factory) -> Path:  # noqa: F811
    """A copy of the tree with small settings, data, photographs, published weights, and two runs in runs/base."""
    tree = tmp_path_factory.mktemp("documents") / "tree"
    copy_tree(tree)
    (tree / "conf/small").mkdir()
    for root, settings in SMALL.items():
        (tree / f"conf/small/{root}.yaml").write_text(f"# @package _global_\n{settings}")
        file = tree / f"conf/{root}.yaml"
        head, body = re.fullmatch(r"(.*?^defaults:\n(?:  - [^\n]*\n)+)(.*)", file.read_text(), re.M | re.S).groups()
        file.write_text(f"{head}  - small: {root}\n{body}")
    (tree / "data").mkdir()
    for folder in replicas.iterdir():
        (tree / "data" / folder.name).symlink_to(folder)
    (tree / "data" / NOTE).touch()  # excerpts on purpose
    (tree / "data/KADIS700").symlink_to(demo_data / "KADIS700")
    (tree / "data/demo").symlink_to(small_data)
    (tree / "home").mkdir()
    (tree / "home/photos").symlink_to(demo_data / "KADIS700/ref_imgs")
    _provide_files(tree, files, small_data)
    base = "python -m arniqa_pl.train -m experiment=demo seed=1,2 hydra.sweep.dir=runs/base"
    run_script(base, tree)
    for number, names in enumerate((("a", "csv"), ("b",))):
        for name in names:
            shutil.copy(tree / f"runs/base/{number}/kadid10k.safetensors", tree / f"{name}.safetensors")
    return tree


def _provide_files(tree: Path, published: Path, small_data: Path) -> None:
    """Write the photographs, the table and the weights that pages name without saying where they come from."""
    photos = sorted((tree / "src/arniqa_pl/data/photos").glob("*.jpg"))[:3]
    for folder in ("folder", "photos"):
        (tree / folder).mkdir()
        for photo in photos:
            Image.open(photo).resize((120, 90)).save(tree / folder / photo.name)
    shutil.make_archive(str(tree / "photos"), "zip", tree / "photos")
    for name in ("photo.jpg", "photo.png", "a.jpg", "b.png", "b.jpg", "folder/a.jpg", "folder/b.jpg"):
        Image.open(photos[0]).resize((160, 120)).save(tree / name)
    table = pd.read_csv(small_data / "KADID10K/own.csv")
    table["image"] = f"{small_data}/KADID10K/" + table["image"]
    table.to_csv(tree / "ratings.csv", index=False)
    for file in published.iterdir():
        shutil.copy(file, tree)


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_can_be_followed(page, tree, tmp_path):
    own = tmp_path / "tree"
    shutil.copytree(tree, own, symlinks=True)
    run = mlflow_run_id(tree / "runs/base/0")
    follow(page, own, STAND_INS | {"<MLflow run id>": str(run)})


@pytest.mark.docs
def test_the_pages_load_nothing_from_elsewhere(tmp_path):
    build = ["mkdocs", "build", "--strict", "--quiet", "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([sys.executable, "-m", *build], cwd=ROOT, env=environment, check=True)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(TEXTS) - 2  # one of its own for what is not found
    loaded = [tag for page in pages for tag in re.findall(r"<(?:script|img|link|iframe)\b[^>]*>", page.read_text())]
    assert len(loaded) > 10 * len(pages)
    assert not [
        tag for tag in loaded if re.search(r"(?:src|href)=.?(?:https?:)?//", tag) and 'rel="canonical"' not in tag
    ]


def test_no_stand_in_is_left_over():
    text = "".join(block.text for page in PAGES for block in blocks(page) if block.kind == "run")
    assert [words for words in STAND_INS if words not in text] == []
