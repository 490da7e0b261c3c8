import math
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from arniqa_pl.models import nt_xent
from tests import oracles


def views(rows: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, rows, dim, dtype=torch.float64, generator=generator)
    return first.requires_grad_(), second.requires_grad_()


@pytest.mark.parametrize(("rows", "dim", "temperature"), [(1, 4, 0.1), (2, 8, 0.1), (7, 16, 0.5), (16, 128, 0.07)])
def test_equals_the_loop_of_the_paper(rows, dim, temperature):
    first, second = views(rows, dim)
    wanted = oracles.nt_xent(first.detach().numpy(), second.detach().numpy(), temperature)
    assert nt_xent(first, second, temperature).item() == pytest.approx(wanted, abs=1e-12)


def test_equal_projections_give_the_logarithm_of_their_number():
    ones = torch.ones(5, 4)
    assert float(nt_xent(ones, ones)) == pytest.approx(math.log(9), abs=1e-6)


def test_the_temperature_is_the_papers_unless_told():
    first, second = views(6, 8)
    assert torch.equal(nt_xent(first, second), nt_xent(first, second, 0.1))


def test_length_does_not_matter_but_order_does():
    first, second = views(6, 8)
    loss = nt_xent(first, second)
    torch.testing.assert_close(nt_xent(3 * first, second / 7), loss)
    torch.testing.assert_close(nt_xent(second, first), loss)
    assert abs((nt_xent(first, second.roll(1, 0)) - loss).item()) > 1e-3


def test_gradient_equals_finite_differences():
    first, second = views(4, 3)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (first, second))


def test_views_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"one shape \(N, D\), got \(4, 3\) and \(5, 3\)"):
        nt_xent(torch.ones(4, 3), torch.ones(5, 3))


def _other_rank(index: int, ranks: int, folder: str) -> None:
    _rank(index + 1, ranks, folder)


def _rank(rank: int, ranks: int, folder: str) -> None:
    store, minute = f"file://{folder}/store", timedelta(minutes=1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=minute)
    try:
        first, second = views(6, 5)
        mine = slice(rank * 6 // ranks, (rank + 1) * 6 // ranks)
        weight = torch.eye(5, dtype=torch.float64).requires_grad_()
        loss = nt_xent(first.detach()[mine] @ weight, second.detach()[mine] @ weight, 0.2, dist.group.WORLD)
        (gradient,) = torch.autograd.grad(loss, weight)
        for value in (loss := loss.detach(), gradient):  # what DDP does: the mean over ranks
            dist.all_reduce(value)
            value /= ranks
        torch.save((loss, gradient), f"{folder}/{rank}.pt")
        _rows_of_another_group_are_no_negatives(first[mine], second[mine])
    finally:
        dist.destroy_process_group()


def _rows_of_another_group_are_no_negatives(first: torch.Tensor, second: torch.Tensor) -> None:
    """A group of this process alone, beside the default one: loss and gradient are those of its own rows."""
    alone = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    results = []
    for group in (alone, None):
        loss = nt_xent(first, second, 0.2, group)
        results.append((loss, *torch.autograd.grad(loss, (first, second))))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_equal_one_with_all_rows(ranks, tmp_path: Path):
    others = mp.spawn(_other_rank, args=(ranks, str(tmp_path)), nprocs=ranks - 1, join=False, daemon=True)
    _rank(0, ranks, str(tmp_path))  # this process is the first: one less to start
    while not others.join():
        pass
    first, second = views(6, 5)
    weight = torch.eye(5, dtype=torch.float64).requires_grad_()
    wanted = nt_xent(first.detach() @ weight, second.detach() @ weight, 0.2)
    (wanted_gradient,) = torch.autograd.grad(wanted, weight)
    for rank in range(ranks):
        loss, gradient = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-10, atol=1e-12)


def test_autocast_does_not_round_the_loss():
    first, second = (view.detach().float() for view in views(32, 16))
    first, second = first + 3, second + 3  # similar rows, as in the first steps of training
    wanted = oracles.nt_xent(first.double().numpy(), second.double().numpy(), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(nt_xent(first, second)) == pytest.approx(wanted, abs=1e-5)
    rounded = nt_xent(first.bfloat16(), second.bfloat16())
    assert torch.equal(rounded, nt_xent(first.bfloat16().float(), second.bfloat16().float()))
