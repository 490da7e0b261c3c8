from pathlib import Path

import pytest

from tests.faults.commands import TINY, run
from tests.quality.test_scorer import make_scorer


@pytest.fixture(scope="session")
def trained(small_data, tmp_path_factory) -> Path:
    """The folder of a small training that nothing disturbed, with its run in run/ and its cache in runs/cache/."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, "train", *TINY, f"paths.data_dir={small_data}")
    return folder


@pytest.fixture(scope="session")
def scorer_file(tmp_path_factory) -> Path:
    """A small scorer."""
    file = tmp_path_factory.mktemp("scorer") / "csv.safetensors"
    make_scorer().save(file)
    return file
