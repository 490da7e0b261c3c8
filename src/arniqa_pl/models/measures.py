"""How well the rows of two views sort pairs by degradation: what the loss is for, in readable numbers."""

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def measure_views(first: Tensor, second: Tensor, scales: int) -> dict[str, Tensor]:
    """Measure rows of which row i of one view is the positive of row i of the other.

    Args:
        first: (N, D) rows of the first views, any length; with two scales, the full-scale rows come first.
        second: (N, D) rows of the second views.
        scales: 1 or 2.

    Returns:
        Scalars. The mean cosine of positives (`positive_similarity`), of all other rows across the views
        (`negative_similarity`), and, at two scales, of crops of one photograph and degradation at both
        (`hard_negative_similarity`). The mean squared distance of positives (`alignment`), and the logarithm of the
        mean Gaussian potential exp(-2·distance²) of the rows of a view, averaged over the views (`uniformity`): Wang
        and Isola, ICML 2020, equations 1 and 2; low is good for both. The share of rows whose nearest neighbour among
        all others, of both views, is their positive (`retrieved`): equally degraded, another photograph.

    """
    with torch.autocast(first.device.type, enabled=False):
        first, second = (functional.normalize(view.float(), dim=1) for view in (first, second))
        rows = len(first)
        cosines = first @ second.T
        positive = cosines.diagonal()
        measures = {
            "positive_similarity": positive.mean(),
            "negative_similarity": (cosines.sum() - positive.sum()) / max(rows * (rows - 1), 1),
            "alignment": 2 - 2 * positive.mean(),
            "uniformity": torch.stack([_uniformity(first), _uniformity(second)]).mean(),
            "retrieved": _retrieved(first, second),
        }
        if scales == 2:
            full, half = first.chunk(2)
            measures["hard_negative_similarity"] = (full * half).sum(1).mean()
        return measures


def _uniformity(rows: Tensor) -> Tensor:
    """Return log of the mean of exp(-2·distance²) over the pairs of unit rows (N, D)."""
    distances = functional.pdist(rows).square()
    return torch.logsumexp(-2 * distances, dim=0) - torch.tensor(max(len(distances), 1)).log()


def _retrieved(first: Tensor, second: Tensor) -> Tensor:
    rows = torch.cat([first, second])
    cosines = (rows @ rows.T).fill_diagonal_(-torch.inf)
    return (cosines.argmax(1) == torch.arange(len(rows), device=rows.device).roll(len(first))).float().mean()
