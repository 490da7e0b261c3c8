"""ARNIQA-style image quality models: pre-train a distortion manifold, regress opinion scores, use the scorer.

pretraining   photos → crops (B, view 2, scale 2, 3, S, S) → degraded crops → encoder → projections → NT-Xent
scoring       images → crops (B, scale 2, crop 5, 3, S, S) → frozen features → ridge → score (N,) → report
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arniqa_pl.quality.scorer import Scorer

__all__ = ["Scorer"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the scorer when it is asked for: PyTorch takes seconds, which a command's --help need not wait for."""
    if name == "Scorer":
        from arniqa_pl.quality.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
