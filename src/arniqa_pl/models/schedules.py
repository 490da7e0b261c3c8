"""Learning-rate schedules, stepped at every iteration. Each is told the run's length by the module that builds it."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, OneCycleLR


def cosine_warm_restarts(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    total_steps: int,  # noqa: ARG001  every schedule is called alike
    first_epochs: int,
    factor: int,
    min_lr: float,
) -> CosineAnnealingWarmRestarts:
    """Cosine annealing that restarts after `first_epochs`, then after `factor` times as long, and so on."""
    return CosineAnnealingWarmRestarts(optimizer, T_0=first_epochs * steps_per_epoch, T_mult=factor, eta_min=min_lr)


def one_cycle(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,  # noqa: ARG001
    total_steps: int,
    warmup: float,
) -> OneCycleLR:
    """Rise to the optimiser's rate over the first share `warmup` of the run, then fall to nothing as a cosine."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=warmup, cycle_momentum=False)
