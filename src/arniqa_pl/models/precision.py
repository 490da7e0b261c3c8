import torch


def fast_precision(accelerator: str) -> str:
    """Return the Lightning precision that is fast on this machine without harming training.

    Bfloat16 where the hardware computes in it, float16 with loss scaling on older CUDA devices, float32 elsewhere: a
    CPU without bfloat16 instructions emulates them, fifteen times slower than it computes in float32.

    Args:
        accelerator: as Lightning's Trainer takes it: "auto", "cpu", "gpu", …

    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("auto", "cpu") and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16-mixed"
    return "32-true"
