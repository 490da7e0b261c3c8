from arniqa_pl.quality.correlation import plcc, srcc
from arniqa_pl.quality.ridge import fit_ridge
from arniqa_pl.quality.scorer import Scorer

__all__ = ["Scorer", "fit_ridge", "plcc", "srcc"]
