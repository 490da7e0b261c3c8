import logging

import torch
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from arniqa_pl.models.encoder import Encoder

log = logging.getLogger(__name__)


def for_inference(encoder: Encoder, dtype: torch.dtype) -> None:
    """Make an encoder give nearly the same features faster; it can no longer be trained.

    Its batch norms are folded into the convolutions before them, its numbers are of another type, and its weights lie
    as the fastest kernels want them. A trunk whose forward pass depends on its input, as some of timm's, keeps its
    batch norms.

    Args:
        encoder: in evaluation mode; it is changed itself, because copying weights makes commands start late.
        dtype: float32, bfloat16 or float16.

    """
    try:
        encoder.trunk = fuse(encoder.trunk, inplace=True)
    except TraceError as error:
        log.info("The batch norms of %s stay: %s", encoder.name, error)
    encoder.eval().requires_grad_(False)
    encoder.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
