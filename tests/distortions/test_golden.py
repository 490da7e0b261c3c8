"""Our distortions against measured outputs of the published system; floors in dB, per distortion."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from arniqa_pl.distortions import CATALOG, distort
from tests.distortions.conftest import GOLDEN, PUBLISHED

FLOOR = 45.0
TIGHTER = {"lens_blur": 80.0, "motion_blur": 80.0, "quantization": 80.0, "pixelate": 80.0, "darken": 80.0}
DETERMINISTIC = [name for name, group in PUBLISHED.items() if group != "jpeg" and not CATALOG[name].random]
RANDOM = [name for name in PUBLISHED if CATALOG[name].random and name != "motion_blur"]
DRAWS = 64


def _psnr(got: Tensor, want: np.ndarray) -> float:
    """Of the bytes of `(1, 3, H, W)` in the window that the golden data hold."""
    window = (got[0, :, :64, 64:] * 255).round().permute(1, 2, 0).double().numpy()
    error = ((window - want) ** 2).mean()
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("name", [*DETERMINISTIC, "motion_blur"])
def test_matches_the_published_output(name, crop, golden_images):
    compared = 0
    for key, want in golden_images.items():
        if key.split("/")[0] != name:
            continue
        _, level, *angle = key.split("/")
        pinned = {"angle": float(angle[0].removeprefix("angle"))} if angle else {}
        psnr = _psnr(distort(crop, name, int(level), **pinned), want)
        assert psnr >= TIGHTER.get(name, FLOOR), f"{key}: {psnr:.1f} dB"
        compared += 1
    assert compared == (30 if name == "motion_blur" else 5)


def _statistics(difference: Tensor) -> dict[str, Tensor]:
    """Per draw, of `(DRAWS, 3, H, W)`."""
    size = difference.abs()
    found = {
        "mae": size.mean((1, 2, 3)),
        "rmse": difference.square().mean((1, 2, 3)).sqrt(),
        "changed": (size > 0.5 / 255).float().mean((1, 2, 3)),
        "changed_px": (size.amax(1) > 0.5 / 255).float().mean((1, 2)),
    }
    for i, channel in enumerate("rgb"):
        found[f"bias_{channel}"] = difference[:, i].mean((1, 2))
        found[f"std_{channel}"] = difference[:, i].flatten(1).std(1)
    return found


@pytest.mark.parametrize("name", RANDOM)
def test_has_the_published_statistics(name, crop, generator):
    """All five levels in one mixed batch, so that the law does not depend on the neighbours in it."""
    golden = json.loads((GOLDEN / "stochastic.json").read_text())[name]
    levels = torch.arange(5).repeat(DRAWS) + 1
    difference = distort(crop.expand(len(levels), -1, -1, -1), name, levels, generator) - crop
    for level in range(1, 6):
        found = _statistics(difference[levels == level])
        assert found.keys() == golden[str(level)].keys()
        for statistic, (mean, deviation) in golden[str(level)].items():
            got = found[statistic]
            sampling = ((deviation**2 + float(got.var())) / DRAWS) ** 0.5
            tolerance = max(0.06 * abs(mean), 4 * sampling, 1e-6)
            assert float(got.mean()) == pytest.approx(mean, abs=tolerance), f"level {level}, {statistic}"


def test_the_golden_data_cover_what_is_published_but_the_codecs(golden_images):
    covered = {key.split("/")[0] for key in golden_images} - {"input"}
    covered |= json.loads((GOLDEN / "stochastic.json").read_text()).keys()
    assert covered == {name for name, group in PUBLISHED.items() if group != "jpeg"}
