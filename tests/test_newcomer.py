"""A newcomer adds a distortion, a database and an encoder: each page is done to the letter, in a copy of the tree."""

import pytest

from tests.documents import blocks, copy_tree, follow

PAGES = ["docs/add-distortion.md", "docs/add-database.md", "docs/add-encoder.md"]


@pytest.mark.docs
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES)
def test_a_newcomer_can_follow(page, tmp_path, small_data):
    copy_tree(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo").symlink_to(small_data)
    follow(page, tmp_path, {})


def test_what_has_to_be_touched_is_what_the_design_says():
    """One table for distortions; a reader, a yaml and a test for a database; the name of an encoder of one's own."""
    touched = {page: {block.title for block in blocks(page) if block.title} for page in PAGES}
    assert touched["docs/add-distortion.md"] == {
        "src/arniqa_pl/distortions/vignette.py",
        "src/arniqa_pl/distortions/catalog.py",
        "docs/distortions.md",
        "tests/distortions/test_vignette.py",
    }
    assert touched["docs/add-database.md"] == {
        "src/arniqa_pl/data/databases/garden.py",
        "conf/database/garden.yaml",
        "tests/replicas.py",
    }
    assert touched["docs/add-encoder.md"] == {
        "conf/encoder/resnet18.yaml",
        "src/arniqa_pl/models/plain.py",
        "src/arniqa_pl/models/encoder.py",
        "conf/encoder/plain.yaml",
        "tests/models/test_plain.py",
    }
