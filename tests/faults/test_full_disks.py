"""A disk becomes full, or read-only, under each thing that is written: which one is told, and what is there stays."""

import shutil

import pandas as pd
import pytest
import torch
from PIL import Image

from arniqa_pl.errors import InputError
from arniqa_pl.quality import Scorer
from arniqa_pl.tracking import Journal
from tests.conftest import PHOTOS
from tests.faults.commands import TINY, WITHOUT_OVERRIDE, fill, kill_when, lines, remount, run, small_disk, start
from tests.faults.test_kills import equal, losses

pytestmark = pytest.mark.faults
PAGE = 4096  # bytes: what such a disk is given out in
FULL = r"could not: No space left on device \(.* of .* are free there\)"


@pytest.fixture
def work(tmp_path):
    with small_disk(tmp_path / "work", "8m") as folder:
        yield folder


def full(printed: str, file: str) -> None:
    """Check that a command said in one sentence which file it could not write."""
    assert "Traceback" not in printed, printed
    (line,) = [line for line in printed.splitlines() if line.startswith("Wanted to write")]
    assert file in line
    assert "No space left on device" in line
    assert "make room" in line


def test_a_training_without_room_for_its_next_checkpoint_goes_on_when_there_is(trained, small_data, work):
    """Room for two checkpoints of 49 MB, not for the third one, that of the best epoch."""
    remount(work, "size=120m")
    printed = run(work, "train", *TINY, f"paths.data_dir={small_data}", code=1)
    full(printed, "/checkpoints/")
    kept = [file for file in (work / "run/checkpoints").iterdir() if torch.load(file, weights_only=True)]
    assert {file.suffix for file in kept} == {".ckpt"}
    assert Journal(work / "run").story().status == "FAILED"
    remount(work, "size=400m")
    run(work, "train", "resume=run")
    assert equal(trained / "run/checkpoints/last.ckpt", work / "run/checkpoints/last.ckpt")
    assert losses(work) == losses(trained)
    assert (work / "run/results.csv").read_bytes() == (trained / "run/results.csv").read_bytes()


def test_features_scorers_and_tables_without_room_do_not_harm_what_is_there(trained, small_data, work):
    remount(work, "size=30m")
    words = ("regress", f"checkpoint={trained}/run", f"paths.data_dir={small_data}", "hydra.run.dir=run")
    words += ("features.crop_size=32", "features.crops=1", "ridge.num_splits=2", "trainer.precision=32-true")
    words += ("features.num_workers=0", f"logger.tracking_uri=sqlite:///{work.parent}/mlflow.db")
    words += (f"logger.artifact_location={work.parent}/artifacts",)
    block = fill(work, leave=400_000)  # of 600 KB of features
    full(run(work, *words, code=1), "/runs/cache/features/")
    block.unlink()
    block = fill(work, leave=2_000_000)
    full(run(work, *words, code=1), "/run/kadid10k.safetensors")
    assert not (work / "run/kadid10k.safetensors").exists()
    block.unlink()
    assert "60 of 60" not in run(work, *words)
    scorer, table = work / "run/kadid10k.safetensors", (work / "run/results.csv").read_bytes()
    older = scorer.read_bytes()
    block = fill(work, leave=2_000_000)
    full(run(work, *words, code=1), "/run/kadid10k.safetensors")
    assert scorer.read_bytes() == older
    assert (work / "run/results.csv").read_bytes() == table
    block.unlink()
    run(work, *words)
    assert Scorer.load(scorer).scale.database == "kadid10k"


def test_mlflow_without_room_does_not_stop_a_run_and_gets_it_all_later(trained, small_data, work):
    """The run's own folder is on another disk than MLflow's file and artifacts."""
    place = work.parent / "elsewhere"
    place.mkdir()
    words = ("regress", f"checkpoint={trained}/run", f"paths.data_dir={small_data}", "hydra.run.dir=run")
    words += ("features.crop_size=32", "features.crops=1", "ridge.num_splits=2", "trainer.precision=32-true")
    words += ("features.num_workers=0", f"logger.tracking_uri=sqlite:///{work}/mlflow.db", "logger.patience=3")
    words += (f"logger.artifact_location={work}/artifacts",)
    printed = run(place, *words)
    assert "Tracking fails, the run goes on without it" in printed
    assert "No space left on device" in printed or "disk is full" in printed
    assert "Traceback" not in printed
    assert Journal(place / "run").unsent()
    remount(work, "size=100m")
    assert "Sent run" in run(place, "report", "send", "runs=run")
    assert not Journal(place / "run").unsent()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_scores_without_room_are_continued(scorer_file, work, suffix):
    name = f"{'x' * 100}.png"
    with Image.open(PHOTOS / "owl.jpg") as photo:
        photo.resize((40, 30)).save(work / name)
    (work / "list.txt").write_text(f"{name}\n" * 120)
    words = ("predict", f"scorer={scorer_file}", "input=list.txt", f"output=scores.{suffix}", "crops=1")
    block = fill(work, leave=3 * PAGE)  # one for the file beside the table, two for 120 rows of about 150 bytes
    printed = run(work, *words, code=1)
    full(printed, f"/scores.{suffix}")
    rows = lines(work / f"scores.{suffix}{'.jsonl' if suffix == 'parquet' else ''}")
    assert 0 < rows < 120
    block.unlink()
    assert f"Continuing scores.{suffix} after" in run(work, *words)
    read = {"csv": pd.read_csv, "jsonl": lambda file: pd.read_json(file, lines=True), "parquet": pd.read_parquet}
    table = read[suffix](work / f"scores.{suffix}")
    assert len(table) == 120
    assert table["score"].max() - table["score"].min() < 1e-3  # one image; batches of other sizes round otherwise


def test_a_journal_without_room_holds_whole_lines(work):
    journal = Journal(work / "run")
    journal.start(run_name="run", experiment="none", key="0")
    block = fill(work, leave=0)

    def add_for_long() -> None:
        for number in range(10_000):
            journal.add(metrics={"loss": 0.5}, step=number)

    with pytest.raises(InputError, match=rf"Wanted to write {journal.file}, {FULL}"):
        add_for_long()
    block.unlink()
    journal.add(status="FAILED")
    story = journal.story()
    assert story.status == "FAILED"
    assert [step for step, _ in story.metrics["loss"]] == list(range(len(story.metrics["loss"])))


def test_demo_data_without_room_are_told_and_written_anew(work):
    printed = run(work, "prepare", "output=demo", code=1)
    full(printed, "/work/demo")
    remount(work, "size=200m")
    run(work, "prepare", "output=demo", "pristine=22")
    assert lines(work / "demo/KADID10K/dmos.csv") > 200


def test_a_run_in_a_folder_that_is_read_only_is_told_and_goes_on_in_a_copy(trained, small_data, work):
    remount(work, "size=400m")
    process = start(work, "train", *TINY, f"paths.data_dir={small_data}")
    kill_when(process, (work / "run/checkpoints/previous.ckpt").exists, 0)
    remount(work, "ro")
    assert f"Wanted to continue {work}/run, nothing can be written there" in run(work, "train", "resume=run", code=1)
    copy = work.parent / "copy"
    shutil.copytree(work, copy)
    run(copy, "train", "resume=run")
    assert equal(trained / "run/checkpoints/last.ckpt", copy / "run/checkpoints/last.ckpt")
    assert equal(trained / "run/checkpoints/best.ckpt", copy / "run/checkpoints/best.ckpt")


def test_folders_of_others_are_told(scorer_file, tmp_path):
    """Without root's privilege to write everywhere."""
    work = tmp_path / "work"
    (work / "theirs").mkdir(parents=True)
    shutil.copy(PHOTOS / "owl.jpg", work)
    (work / "theirs").chmod(0o555)
    words = ("predict", f"scorer={scorer_file}", "input=owl.jpg", "output=theirs/scores.csv")
    printed = run(work, *words, code=1, before=WITHOUT_OVERRIDE)
    assert "Traceback" not in printed
    assert f"Wanted to write {work}/theirs/scores.csv.json, could not: Permission denied" in printed
    assert not list((work / "theirs").iterdir())
    run(work, *words[:-1], "output=scores.csv", before=WITHOUT_OVERRIDE)
