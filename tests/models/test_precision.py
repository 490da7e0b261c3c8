import pytest
import torch

from arniqa_pl.models.precision import fast_precision


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "wanted"),
    [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed")],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(monkeypatch, avx512_bf16, amx, wanted):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert fast_precision("cpu") == wanted


@pytest.mark.parametrize(("bf16", "wanted"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_without_bfloat16_falls_back_to_float16(monkeypatch, bf16, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert fast_precision("auto") == wanted


def test_an_accelerator_this_does_not_know_gets_float32():
    assert fast_precision("mps") == "32-true"
