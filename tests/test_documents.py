import re
from pathlib import Path

from PIL import Image

from arniqa_pl.distortions import CATALOG
from tests.quality.test_scorer import make_scorer

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_distortions_is_the_catalog():
    text = (DOCS / "distortions.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in text.splitlines() if row.startswith("| ")]
    wanted = [
        [row.name, row.group.replace("_", " "), ", ".join(f"{value:g}" for value in row.levels)]
        for row in CATALOG.values()
    ]
    assert rows[1:] == wanted


def test_the_python_about_scoring_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "scoring.md").read_text(), re.DOTALL)
    scorer = make_scorer()
    scorer.save(tmp_path / "scorer.safetensors")
    names: dict[str, object] = {"file": tmp_path / "scorer.safetensors", "photo": Image.new("RGB", (80, 70), "red")}
    exec(code, names)
    assert names["images"].grad.abs().max() > 0


def test_the_python_of_the_document_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "distortions.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["degraded"].shape == names["images"].shape
    assert not names["degraded"].equal(names["images"])
