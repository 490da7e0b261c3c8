import os
import subprocess

import pytest

from arniqa_pl.provenance import command


@pytest.mark.parametrize(
    "words",
    [
        ["arniqa_pl.train", "experiment=demo", "data.batch_size=4"],
        ["arniqa_pl.regress", "checkpoint=/home/jane/my runs/first", "database=[csiq,live]"],
        ["arniqa_pl.train", 'photos.source="/scratch/jane/a (b)"', "note='${seed}'"],
    ],
)
def test_a_shell_reads_back_the_command_that_was_given(words, monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("LOGNAME", "jane")
    told = command(words)
    assert "jane" not in told
    program = told.replace("python -m", "printf '%s\\n'", 1)
    read = subprocess.run(["sh", "-c", program], env=os.environ | {"USER": "jane"}, capture_output=True, text=True)
    assert read.stdout.splitlines() == words
