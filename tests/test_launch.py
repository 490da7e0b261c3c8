import io
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch.distributed import TCPStore

from arniqa_pl import launch
from arniqa_pl.launch import as_list

_FAULTS = """
import resource, torch
from arniqa_pl.launch import keep_freed_memory
keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(64 * 2**20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a property of glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    pages = 64 * 2**20 / 4096
    assert int(done.stdout) < 5 * pages  # of 20: the heap grows once or twice before it has a place of that size


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scorer=a.safetensors,b.safetensors", ["a.safetensors", "b.safetensors"]),
        ("scorer=runs/x y/alpha=1/a,runs/(b)", ["runs/x y/alpha=1/a", "runs/(b)"]),
        ("scorer=[a,b]", ["a", "b"]),
        ("scorer=a", "a"),
        ('scorer="a,b"', "a,b"),
    ],
)
def test_commas_make_a_list_of_files(argument, value):
    (override,) = OverridesParser.create().parse_overrides([as_list(argument, ["scorer"])])
    assert override.value() == value or list(map(str, override.value())) == value


def test_other_keys_are_left_to_hydra():
    assert as_list("seed=1,2,3", ["scorer"]) == "seed=1,2,3"


def test_a_process_that_does_not_answer_is_no_other_error():
    with pytest.raises(RuntimeError) as caught:
        TCPStore("127.0.0.1", 0, 2, is_master=True, timeout=timedelta(seconds=1), wait_for_workers=True)
    assert launch._left_alone(caught.value)
    assert not launch._left_alone(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


class Interrupted(io.BytesIO):
    """A file in the middle of whose writing PyTorch's signal handler speaks up, once."""

    heard = False

    def write(self, data) -> int:
        written = super().write(data)
        if self.tell() > 100_000 and not self.heard:
            self.heard = True
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        return written


def test_a_loader_that_is_killed_during_a_save_is_told_all_the_same():
    with pytest.raises(RuntimeError) as caught:
        torch.save({"weights": torch.zeros(100_000)}, Interrupted())
    assert not str(caught.value).startswith("DataLoader")  # but of the file that was not finished
    assert "A process that loads images was killed: DataLoader worker (pid 7)" in launch._in_a_sentence(caught.value)
    assert launch._in_a_sentence(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
