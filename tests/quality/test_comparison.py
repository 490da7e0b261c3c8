"""Jobs of a sweep side by side: twelve of them over two settings and three seeds, one of which failed."""

import itertools
import shlex
import statistics
import subprocess

import pytest

from arniqa_pl.quality.comparison import (
    best_values,
    comparison_figure,
    comparison_text,
    jobs_frame,
    seeds_frame,
    terminal_frame,
)

KEYS = ["degradation.max_distortions", "optimizer", "seed"]


def objective(distortions: str, optimizer: str, seed: str) -> float:
    return {"1": 0.5, "4": 0.8}[distortions] - 0.1 * (optimizer == "sgd") + 0.01 * int(seed) ** 2


@pytest.fixture
def jobs():
    told = []
    for number, values in enumerate(itertools.product("14", ("sgd", "adamw"), "123")):
        failed = number == 11
        told.append(
            {
                "job": str(number),
                "status": "failed" if failed else "finished",
                "error": "out of | memory\nat step 3" if failed else None,
                "values": dict(zip(KEYS, values, strict=True)),
                "objective": None if failed else objective(*values),
                "minutes": 2.0,
                "metrics": {} if failed else {"test/kadid10k/srcc": objective(*values) / 2},
            }
        )
    return jobs_frame(told, KEYS)


def test_runs_that_differ_in_the_seed_alone_are_averaged_best_first(jobs):
    means = seeds_frame(jobs, KEYS)
    assert means["runs"].tolist() == [2, 3, 3, 3]
    assert means["optimizer"].tolist() == ["adamw", "sgd", "adamw", "sgd"]
    seeds = [objective("4", "sgd", seed) for seed in "123"]
    assert means["objective_mean"][1] == pytest.approx(statistics.mean(seeds))
    assert means["objective_std"][1] == pytest.approx(statistics.stdev(seeds))
    assert means["test/kadid10k/srcc_std"][1] == pytest.approx(statistics.stdev(seeds) / 2)
    assert terminal_frame(means).columns.tolist() == [
        *("max distortions", "optimizer", "runs", "objective", "kadid10k srcc")
    ]
    assert best_values(jobs, KEYS) == {"degradation.max_distortions": "4", "optimizer": "adamw"}
    assert best_values(jobs.head(3), ["seed"]) == {"seed": "3"}


def test_the_text_has_every_job_and_a_command_that_a_shell_takes_as_one_line(jobs):
    words = ["python", "-m", "arniqa_pl.train", "experiment=demo", "photos.source=a folder", *["data.crop_size=96"] * 9]
    text = comparison_text(jobs, KEYS, shlex.join(words))
    assert "| 4 | adamw | 2 | 0.825 ± 0.021 |" in text
    assert "| 11 | failed | 4 | adamw | 3 |" in text
    assert "out of / memory at step 3" in text
    block = [line for line in text.splitlines() if line.startswith("    ")]
    typed = "printf '%s\\n' " + "\n".join(block).strip()
    assert subprocess.run(["sh", "-c", typed], capture_output=True, text=True).stdout.splitlines() == words
    assert max(map(len, block)) <= 90


def test_several_settings_are_axes_beside_each_other_and_every_job_is_a_line(jobs):
    (panel,) = comparison_figure(jobs, KEYS).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == [*KEYS[:2], "objective"]
    lines = [line for line in panel.lines if len(line.get_ydata()) == 3]
    assert len(lines) == 11
    highest = max(lines, key=lambda line: line.get_ydata()[2])
    assert list(highest.get_ydata()) == pytest.approx([1, 1, 1])  # 4 distortions, the second optimizer, the best
    assert {"1", "4", "sgd", "adamw"} <= {text.get_text() for text in panel.texts}


def test_one_setting_is_bars_with_a_dot_for_each_seed(jobs):
    (panel,) = comparison_figure(jobs[jobs["optimizer"] == "sgd"], [KEYS[0], "seed"]).axes
    means = [statistics.mean(objective(distortions, "sgd", seed) for seed in "123") for distortions in "14"]
    assert [bar.get_height() for bar in panel.patches] == pytest.approx(means)
    assert len(panel.collections[0].get_offsets()) == 6


@pytest.mark.parametrize("keys", [KEYS, KEYS[:1]])
def test_a_sweep_without_results_has_an_empty_figure(jobs, keys, tmp_path):
    comparison_figure(jobs[jobs["status"] == "failed"], keys).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()
