import re
from pathlib import Path

from arniqa_pl.distortions import CATALOG

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_distortions_is_the_catalog():
    text = (DOCS / "distortions.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in text.splitlines() if row.startswith("| ")]
    wanted = [
        [row.name, row.group.replace("_", " "), ", ".join(f"{value:g}" for value in row.levels)]
        for row in CATALOG.values()
    ]
    assert rows[1:] == wanted


def test_the_python_of_the_document_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "distortions.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["degraded"].shape == names["images"].shape
    assert not names["degraded"].equal(names["images"])
