import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.quality.test_scorer import make_scorer
from tests.serving.servers import stop


@pytest.fixture(scope="session")
def scorer_file(tmp_path_factory) -> Path:
    """A small scorer of five crops, as a file."""
    file = tmp_path_factory.mktemp("scorer") / "csv.safetensors"
    make_scorer().save(file)
    return file


@pytest.fixture(scope="module")
def page(scorer_file, tmp_path_factory):
    """The address of `python -m arniqa_pl.serve` that takes 2 images at a time, of 200,000 bytes and 90,000 pixels."""
    log = tmp_path_factory.mktemp("serve") / "serve.log"
    limits = ("limits.max_images=2", "limits.max_bytes=200000", "limits.max_pixels=90000")
    process = subprocess.Popen(
        [sys.executable, "-m", "arniqa_pl.serve", f"scorer={scorer_file}", "port=0", "map_photos=1", *limits],
        env=os.environ,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield found[0]
    finally:
        stop(process)
