import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arniqa_pl.quality.correlation import plcc, srcc
    from arniqa_pl.quality.ridge import fit_ridge
    from arniqa_pl.quality.scorer import Scorer

__all__ = ["Scorer", "fit_ridge", "plcc", "srcc"]

_HOMES = {"Scorer": "scorer", "fit_ridge": "ridge", "plcc": "correlation", "srcc": "correlation"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: whoever scores does not wait for SciPy."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
