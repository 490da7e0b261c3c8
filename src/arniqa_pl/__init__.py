"""ARNIQA-style image quality models: pre-train a distortion manifold, regress opinion scores, use the scorer.

pretraining   photos → crops (B, view 2, scale 2, 3, S, S) → degraded crops → encoder → projections → NT-Xent
scoring       images → crops (B, scale 2, crop 5, 3, S, S) → frozen features → ridge → score (N,) → report
"""

__version__ = "0.1.0"
