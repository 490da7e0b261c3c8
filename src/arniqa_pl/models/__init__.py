from arniqa_pl.models.contrastive import nt_xent
from arniqa_pl.models.encoder import Encoder

__all__ = ["Encoder", "nt_xent"]
