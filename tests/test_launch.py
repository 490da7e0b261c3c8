import resource
import sys

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from arniqa_pl.launch import as_list, keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="a property of glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    keep_freed_memory()
    faults = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(64 * 2**20, dtype=torch.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[1] < 64 * 2**20 / 4096 / 10


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
