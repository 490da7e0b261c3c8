from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.1, group: ProcessGroup | None = None) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen et al., SimCLR, ICML 2020, equation 1).

    Row i of each view is the positive of row i of the other; the remaining 2N - 2 rows of both are its
    negatives. The loss is the mean over all 2N rows.

    Args:
        first: (N, D) projections of the first views; any length, they are normalised here.
        second: (N, D) projections of the second views.
        temperature: divides the cosine similarities.
        group: processes whose rows serve as negatives, too, each with as many rows. The gradient flows through
            them: averaged over the ranks, as DDP does, it equals that of one process with all rows.

    Returns:
        The loss, a scalar: the mean over this process's rows. `log(2N - 1)` if all projections are equal.

    Raises:
        ValueError: the views differ in shape or are not (N, D).

    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"wanted two views of one shape (N, D), got {tuple(first.shape)} and {tuple(second.shape)}")
    with torch.autocast(first.device.type, enabled=False):  # bfloat16 would round logits of 10 to steps of 0.06
        views = torch.stack([first, second])
        return _nt_xent(views.float() if views.dtype.itemsize < 4 else views, temperature, group)


def _nt_xent(views: Tensor, temperature: float, group: ProcessGroup | None) -> Tensor:
    """Compare views (view 2, N, D) in their own precision."""
    rows = views.shape[1]
    local = functional.normalize(views, dim=2)
    everyone, offset = local, 0
    if group is not None:
        everyone = _Gather.apply(local, group).transpose(0, 1).flatten(1, 2)
        offset = rows * dist.get_rank(group)
    total = everyone.shape[1]

    logits = local.flatten(0, 1) @ everyone.flatten(0, 1).T / temperature  # (2N, 2·total)
    own = offset + torch.arange(rows, device=views.device)
    logits = logits.scatter(1, torch.cat([own, own + total])[:, None], float("-inf"))
    return functional.cross_entropy(logits, torch.cat([own + total, own]))


class _Gather(torch.autograd.Function):
    """Gathers a tensor of every rank: (ranks, …). Each rank gets the gradients that all ranks have for its own.

    PyTorch's own version of this has moved and changed its name between the releases that are supported here.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        local = local.contiguous()
        gathered = [torch.empty_like(local) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, local, group)
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=ctx.group)
        return summed[dist.get_rank(ctx.group)], None
