"""The 24 distortions of KADID-10k as batched tensor code, and the model that composes them."""

from arniqa_pl.distortions.catalog import CATALOG, GROUPS, distort
from arniqa_pl.distortions.degradation import Composition, DegradationModel
from arniqa_pl.distortions.transform import RandomDegradation

__all__ = ["CATALOG", "GROUPS", "Composition", "DegradationModel", "RandomDegradation", "distort"]
