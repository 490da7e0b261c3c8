import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from arniqa_pl.errors import InputError
from arniqa_pl.pages.run import curve_figure, write_page
from arniqa_pl.tracking import RunLogger

MEASURES = ("srcc", "plcc", "krcc", "rmse")


@pytest.fixture
def logger(tmp_path) -> RunLogger:
    """Of a run that has logged settings and curves, and nothing else yet."""
    place = {"folder": str(tmp_path / "first"), "tracking_uri": "http://127.0.0.1:1"}
    logger = RunLogger(**place, experiment_name="demo", patience=1)
    logger.log_hyperparams({"optimizer": {"lr": 0.1}, "note": "<script>alert(1)</script>"})
    logger.set_tags({"command": "python -m arniqa_pl.train seed=1", "stage": "train", "machine.gpu": "none"})
    logger.set_tags({"mlflow.source.git.commit": "0123456789abcdef", "machine.processor": "a CPU"})
    for step in range(2000):
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
    for step, value in enumerate((0.5, float("nan"), 0.7)):
        logger.log_metrics({"val/srcc": value, "epoch": step}, step)
    return logger


def test_a_page_needs_nothing_but_itself(logger):
    page = write_page(logger.folder).read_text()
    assert page.count("<h1>") == 1
    assert "python -m arniqa_pl.train seed=1" in page
    assert "git checkout 0123456789abcdef" in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"<(script|link|iframe)", page)
    assert set(re.findall(r'(?:src|href)="(\w+):', page)) == {"data"}
    assert re.findall(r"<h2>(.*)</h2>", page) == ["Curves", "Settings", "Environment", "How to reproduce"]
    assert len(page) < 200_000


def test_results_stand_first_beside_published_ones(logger):
    row = {"database": "kadid10k", "encoder": "pre-trained", "alpha": 0.1, "splits": 10}
    row |= dict.fromkeys(MEASURES, 0.9) | {f"{name}_std": 0.01 for name in MEASURES}
    pd.DataFrame([row | {"published_srcc": 0.908}]).to_csv(logger.folder / "results.csv")
    page = write_page(logger.folder).read_text()
    assert re.findall(r"<h2>(.*)</h2>", page)[0] == "Results on the test sides"
    assert "0.900 ± 0.010" in page
    assert ">0.908<" in page
    assert "published SRCC" in page
    assert "published PLCC" not in page


def test_figures_come_in_order_and_photographs_small(logger, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("degraded_pairs", "kadid10k_types", "kadid10k_worst", "kadid10k_predictions"):
        figure = Figure(figsize=(2, 2))
        if name.endswith("worst"):
            figure.figimage(noise)
        logger.log_figure(figure, f"figures/{name}.png")
    page = write_page(logger.folder).read_text()
    wanted = ["kadid10k_predictions", "kadid10k_worst", "curves", "kadid10k_types", "degraded_pairs"]
    assert [Path(name).stem for name in re.findall(r'alt="(.*?)"', page)] == wanted
    sources = re.findall(r'src="data:image/([\w+]+);base64,(.*?)"', page)
    assert [kind for kind, _ in sources] == ["png", "jpeg", "svg+xml", "png", "png"]
    with Image.open(io.BytesIO(base64.b64decode(sources[1][1]))) as image:
        assert image.size == (200, 200)


def test_curves_show_what_was_logged(logger):
    loss, srcc, *rest = curve_figure(logger.journal.story()).axes
    assert [loss.get_title("left"), srcc.get_title("left")] == ["train/loss", "val/srcc"]
    assert not any(axis.get_visible() for axis in rest)
    steps, values = loss.lines[0].get_data()
    assert len(steps) == 500
    assert (steps[0], steps[-1]) == (0, 1999)
    np.testing.assert_allclose(values, 1 / (np.asarray(steps) + 1))
    np.testing.assert_array_equal(srcc.lines[0].get_ydata(), [0.5, np.nan, 0.7])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=rf"found no tracking\.jsonl in {tmp_path}"):
        write_page(tmp_path)
