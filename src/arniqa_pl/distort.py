"""python -m arniqa_pl.distort image=photo.jpg: see the distortions on a photograph, or degrade it by a composition."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Generator

from arniqa_pl import launch
from arniqa_pl.atlas import draw_atlas
from arniqa_pl.data.images import read_image, to_image, to_tensor, to_unit
from arniqa_pl.distortions import CATALOG, Composition, DegradationModel
from arniqa_pl.distortions.catalog import LEVELS
from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)

DRAW = "draw"


@launch.entry("distort")
def main(cfg: DictConfig) -> None:
    """Write the atlas; or, given a composition, the photograph degraded by it."""
    photo = read_image(str(cfg.image))
    output = Path(str(cfg.output))
    if output.resolve() == Path(str(cfg.image)).resolve():
        raise InputError(
            f"Wanted an output besides the photograph, found {output} for both: name another file, output=<file>."
        )
    if cfg.composition is None:
        write_image(draw_atlas(photo, cfg.seed), output)
        log.info("%d distortions at %d levels: %s", len(CATALOG), LEVELS, output)
        return
    model: DegradationModel = instantiate(cfg.degradation)
    composition = read_composition(cfg.composition, model, cfg.seed)
    degraded = model.apply(to_unit(to_tensor(photo))[None], composition, Generator().manual_seed(cfg.seed))
    write_image(to_image(degraded[0]), output)
    log.info("'composition=%s' seed=%d: %s", override(composition), cfg.seed, output)


def read_composition(given: object, model: DegradationModel, seed: int) -> Composition:
    """Draw a composition if asked to, or take it as it is written: [[jpeg,3],[darken,1]]."""
    if given == DRAW:
        return model.draw(1, Generator().manual_seed(seed))
    chain = OmegaConf.to_container(given) if OmegaConf.is_list(given) else given
    if not isinstance(chain, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in chain):
        raise InputError(f"Wanted composition=draw, or 'composition=[[jpeg,3],[darken,1]]', found {given}.")
    return Composition([[(str(name), level) for name, level in chain]])


def write_image(image: Image.Image, file: Path) -> None:
    """Write a picture in the format that the file's name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        image.save(file, quality=85)
    except ValueError as error:  # before anything is written
        raise InputError(f"Wanted the name of a picture file as output, .png or .jpg, found {file}.") from error


def override(composition: Composition) -> str:
    """Write a chain as it is given on the command line."""
    return "[" + ",".join(f"[{name},{level}]" for name, level in composition[0]) + "]"


if __name__ == "__main__":
    main()
