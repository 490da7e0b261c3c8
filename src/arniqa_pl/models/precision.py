import torch

from arniqa_pl.errors import InputError


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


def inference_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of numbers that a precision means; "auto" is what is fast on the device, as `fast_precision`.

    Raises:
        InputError: there is no such precision.

    """
    if precision == "auto":
        return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(fast_precision(device.type), torch.float32)
    if precision not in _DTYPES:
        raise InputError(f"Wanted a precision out of {', '.join(_DTYPES)} and auto, got {precision!r}.")
    return _DTYPES[precision]


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: torch.device | str) -> torch.device:
    """Return the device of a name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        InputError: there is no such device here.

    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA asserts
        raise InputError(f"Wanted a device such as cpu, cuda or cuda:1, found no {name!r} here: {error}") from error
    return device
