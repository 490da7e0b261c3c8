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

_BLOCK_ROWS = 2048
_TOLERANCE = 1e-12
_CONSTANT = 1e-12


@dataclass
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
    def zero(cls, dim: int, device: torch.device | str = "cpu") -> Moments:
        """Sum over no rows."""
        y, x, xy, xx = (torch.zeros(size, dtype=torch.float64, device=device) for size in ((), dim, dim, (dim, dim)))
        return cls(0, x, y, xx, xy)

    def clone(self) -> Moments:
        """Return a copy that may be changed."""
        return Moments(self.count, self.x.clone(), self.y.clone(), self.xx.clone(), self.xy.clone())

    def add_(self, features: Tensor, targets: Tensor, sign: int = 1) -> None:
        """Add rows of features (N, D) and targets (N,), or take them away (sign -1), a block in float64 at a time."""
        for rows, values in zip(features.split(_BLOCK_ROWS), targets.split(_BLOCK_ROWS), strict=True):
            block, scores = rows.double(), values.to(rows.device, torch.float64)
            self.count += sign * len(block)
            self.x += sign * block.sum(0)
            self.y += sign * scores.sum()
            self.xx.addmm_(block.T, block, alpha=sign)
            self.xy.addmv_(block.T, scores, alpha=sign)


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
        moments = Moments.zero(features.shape[1], features.device)
        moments.add_(features, targets)
        return fit_ridge_moments(moments, alphas)
    centred, residual = features.double(), targets.to(features.device, torch.float64)
    mean_x, mean_y = centred.mean(0), residual.mean()
    centred = centred - mean_x
    weights = _solve_shifted(centred @ centred.T, residual - mean_y, alphas) @ centred
    return weights, mean_y - weights @ mean_x


def fit_ridge_moments(moments: Moments, alphas: Tensor, *, standardise: bool = False) -> tuple[Tensor, Tensor]:
    """Fit the ridge path from the moments of its rows.

    Args:
        moments: of the training rows.
        alphas: (A,) positive penalties.
        standardise: fit on features of mean 0 and standard deviation 1 over these rows (sklearn's `StandardScaler`,
            which leaves constant features alone too); the result takes features as they are all the same.

    Returns:
        weights (A, D) and intercepts (A,), float64.

    """
    mean_x, mean_y = moments.x / moments.count, moments.y / moments.count
    gram = torch.addr(moments.xx, moments.x, mean_x, alpha=-1)
    covariance = moments.xy - moments.x * mean_y
    scale = torch.ones_like(mean_x)
    if standardise:
        squares = moments.xx.diagonal()
        varies = gram.diagonal() > _CONSTANT * squares  # what is left of a constant one is rounding
        scale = torch.where(varies, (gram.diagonal().clamp(min=0) / moments.count).sqrt(), scale)
        gram /= torch.outer(scale, scale)
    weights = _solve_shifted(gram, covariance / scale, alphas) / scale
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
