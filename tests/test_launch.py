import resource
import sys

import pytest
import torch

from arniqa_pl.launch import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="a property of glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    keep_freed_memory()
    faults = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(64 * 2**20, dtype=torch.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[1] < 64 * 2**20 / 4096 / 10
