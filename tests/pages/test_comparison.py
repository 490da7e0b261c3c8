import re

import pandas as pd
import pytest

from arniqa_pl.pages.comparison import comparison_tables, write_comparison
from arniqa_pl.tracking.journal import Story


def story(name: str, srcc: float, **params: str) -> Story:
    return Story(
        name=name,
        experiment="demo",
        status="FINISHED",
        params={"seed": "27", "paths/run_dir": f"runs/{name}", **params},
        tags={"stage": "train", "encoder": "resnet50", "mlflow.source.git.commit": "0123456789abcdef"},
        metrics={"test/live/srcc": [(0, srcc)], "train/loss": [(0, 3.0), (1, 2.0)], "minutes": [(0, 4.0)]},
    )


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return comparison_tables(
        [
            story("a", 0.8, **{"optimizer/lr": "0.1"}),
            story("b", 0.9, **{"optimizer/lr": "0.2", "model/depth": "<b>3</b>"}),
        ]
    )


def test_runs_are_told_apart_by_what_differs(tables):
    settings = tables["Settings"].set_index("run")
    assert list(settings) == ["optimizer/lr", "model/depth"]
    assert settings.loc["demo / a"].tolist() == ["0.1", "–"]
    assert tables["Results"].to_dict("list") == {"run": ["demo / a", "demo / b"], "test/live/srcc": [0.8, 0.9]}
    assert tables["Origin"]["revision"].tolist() == ["012345678"] * 2


def test_the_page_marks_the_best_and_takes_text_as_text(tables, tmp_path):
    markdown, page = write_comparison(tables, "Both", tmp_path / "deep/both")
    assert "| demo / b | 0.900 |" in markdown.read_text()
    html = page.read_text()
    assert re.findall(r'class="number best">([\d.]+)<', html) == ["0.900"]
    assert "&lt;b&gt;3&lt;/b&gt;" in html
    assert not re.search(r"<(link|script|img)", html)
