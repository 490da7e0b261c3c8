"""Slow, plain truths written from the papers, in NumPy."""

import numpy as np


def nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """SimCLR, algorithm 1: (N, D) views; the loss of each of the 2N rows against the 2N - 1 others."""
    rows = np.concatenate([first, second])
    count = len(rows)
    total = 0.0
    for i in range(count):
        positive = (i + count // 2) % count
        denominator = 0.0
        for k in range(count):
            if k != i:
                denominator += np.exp(_cosine(rows[i], rows[k]) / temperature)
        total -= np.log(np.exp(_cosine(rows[i], rows[positive]) / temperature) / denominator)
    return total / count


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
