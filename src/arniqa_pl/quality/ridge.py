"""Ridge regression for many penalties at once, from second moments that can be added up and taken apart.

All penalties share one Krylov space: (G + αI)⁻¹ b lies in span{b, Gb, G²b, …} whatever α is. So one Lanczos
run on the Gram matrix G serves the whole path (Frommer & Maass, SIAM J. Sci. Comput. 20, 1999), to machine
precision because every new direction is orthogonalised against all earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

_BLOCK_ROWS = 4096
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Moments:
    """Sums over rows of features x (D,) and targets y; float64.

    Moments of disjoint rows add up, so those of a training split are those of all rows minus the held-out ones.

    Attributes:
        count: number of rows.
        x: (D,) sum of x.
        y: () sum of y.
        xx: (D, D) sum of x·xᵀ.
        xy: (D,) sum of x·y.

    """

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    @classmethod
    def of(cls, features: Tensor, targets: Tensor) -> Moments:
        """Sum over the rows of features (N, D) and targets (N,), a block at a time: no copy in float64 is made."""
        dim, device = features.shape[1], features.device
        xx = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        x, xy = torch.zeros(2, dim, dtype=torch.float64, device=device)
        targets = targets.to(device, torch.float64)
        for start in range(0, len(features), _BLOCK_ROWS):
            block = features[start : start + _BLOCK_ROWS].double()
            xx.addmm_(block.T, block)
            x += block.sum(0)
            xy += block.T @ targets[start : start + _BLOCK_ROWS]
        return cls(len(features), x, targets.sum(), xx, xy)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.count - other.count,
            self.x - other.x,
            self.y - other.y,
            self.xx - other.xx,
            self.xy - other.xy,
        )


def fit_ridge(features: Tensor, targets: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Fit ridge regressions with an unpenalised intercept for every alpha: what sklearn's `Ridge` fits one by one.

    Minimises ‖y - Xw - b‖² + α‖w‖². Works on the smaller of the two Gram matrices, X'X (D, D) or XX' (N, N).

    Args:
        features: (N, D), any float type, any device.
        targets: (N,).
        alphas: (A,) positive penalties.

    Returns:
        weights (A, D) and intercepts (A,), float64, on the features' device.

    Raises:
        ValueError: shapes do not fit, or a value is not finite or a penalty not positive.

    """
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise ValueError(
            f"wanted features (N, D) and targets (N,), got {tuple(features.shape)} and {tuple(targets.shape)}"
        )
    if not (features.isfinite().all() and targets.isfinite().all()):
        raise ValueError("wanted finite features and targets, got NaN or infinite values")
    if len(features) >= features.shape[1]:
        return fit_ridge_moments(Moments.of(features, targets), alphas)
    centred, residual = features.double(), targets.to(features.device, torch.float64)
    mean_x, mean_y = centred.mean(0), residual.mean()
    centred = centred - mean_x
    weights = _solve_shifted(centred @ centred.T, residual - mean_y, alphas) @ centred
    return weights, mean_y - weights @ mean_x


def fit_ridge_moments(moments: Moments, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the ridge path from the moments of its rows; returns weights (A, D) and intercepts (A,), float64."""
    mean_x, mean_y = moments.x / moments.count, moments.y / moments.count
    gram = torch.addr(moments.xx, moments.x, mean_x, alpha=-1)
    weights = _solve_shifted(gram, moments.xy - moments.x * mean_y, alphas)
    return weights, mean_y - weights @ mean_x


def _solve_shifted(matrix: Tensor, vector: Tensor, shifts: Tensor) -> Tensor:
    """Solve (matrix + shift·I) x = vector for every shift; matrix (n, n) positive semi-definite → (A, n)."""
    penalties = shifts.detach().cpu().double().numpy()
    if penalties.ndim != 1 or not (penalties > 0).all():
        raise ValueError(f"wanted alphas (A,) above 0, got {shifts}")
    size, norm = len(vector), float(vector.norm())
    if norm == 0:
        return vector.new_zeros(len(penalties), size)
    basis = vector.new_empty(min(size, 64), size)
    basis[0] = vector / norm
    diagonal: list[float] = []
    offdiagonal: list[float] = []
    while True:
        step = len(diagonal)
        new = matrix @ basis[step]
        diagonal.append(float(new @ basis[step]))
        for _ in range(2):  # twice is enough: a second pass removes what rounding left behind
            new -= basis[: step + 1].T @ (basis[: step + 1] @ new)
        length = float(new.norm())
        coordinates = norm * _tridiagonal_solutions(diagonal, offdiagonal, penalties[[penalties.argmin()]])[:, 0]
        if length * abs(coordinates[-1]) <= _TOLERANCE * norm or step + 1 == size:
            break
        if step + 1 == len(basis):
            basis = torch.cat([basis, torch.empty_like(basis)])[:size]
        basis[step + 1] = new / length
        offdiagonal.append(length)
    solutions = norm * _tridiagonal_solutions(diagonal, offdiagonal, penalties)
    return torch.from_numpy(solutions.T).to(basis) @ basis[: len(diagonal)]


def _tridiagonal_solutions(diagonal: list[float], offdiagonal: list[float], shifts: np.ndarray) -> np.ndarray:
    """Solve (T + shift·I) y = e₁ for every shift → (k, A)."""
    if not offdiagonal:
        return 1 / (np.array([diagonal]) + shifts)
    unit = np.eye(len(diagonal), 1)[:, 0]
    bands = np.array([[0.0, *offdiagonal], diagonal])
    on_diagonal = np.array([[0.0], [1.0]])
    solutions = [solveh_banded(bands + shift * on_diagonal, unit, check_finite=False) for shift in shifts]
    return np.stack(solutions, axis=1)
