"""python -m arniqa_pl.train experiment=kadid: pre-train an encoder, then regress on the experiment's databases."""

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig

from arniqa_pl import launch
from arniqa_pl.errors import InputError

if TYPE_CHECKING:
    from arniqa_pl.data.pristine import Photos

log = logging.getLogger(__name__)


@launch.entry("train")
def main(cfg: DictConfig) -> float:
    """Pre-train, regress, report; return the best epoch's mean validation SRCC, or monitor, for a sweeper."""
    # What computes is imported once the command line is understood: PyTorch and Lightning take seconds.
    import lightning

    from arniqa_pl import reproduction, runs
    from arniqa_pl.models.encoder import load_encoder
    from arniqa_pl.quality.validation import RidgeValidation
    from arniqa_pl.regress import TRAINED, UNTRAINED, draw_database_splits, regress_databases

    cfg = reproduction.reproduced(runs.resumed(cfg))
    lightning.seed_everything(cfg.seed, workers=True)
    databases = launch.build({**cfg.databases, "photos": cfg.photos})
    photos: Photos = databases.pop("photos")
    require_labels(cfg)
    sizes = ", ".join(f"{len(database.table)} images of {name}" for name, database in databases.items())
    log.info("%d pristine photographs; %s", len(photos), sizes)
    if cfg.reproduce:
        digests = {name: runs.digest(database.table, database.root) for name, database in databases.items()}
        reproduction.tell_differences(cfg, {"pristine": runs.digest(photos.table(), photos.source), **digests})
    data = instantiate(cfg.data)(photos=photos, databases=databases, degradation=instantiate(cfg.degradation))
    encoder = instantiate(cfg.encoder)
    untrained = copy.deepcopy(encoder)
    model = instantiate(cfg.model)(
        encoder=encoder, optimizer=instantiate(cfg.optimizer), schedule=instantiate(cfg.schedule)
    )
    splits = draw_database_splits(databases, cfg.ridge)
    callbacks = {name: instantiate(callback) for name, callback in cfg.callbacks.items() if callback}
    validation = RidgeValidation(databases, splits, alpha=cfg.ridge.validation_alpha)

    with runs.tracked_run(cfg, encoder.name) as logger:
        runs.log_dataset(logger, "pristine", photos.table(), photos.source, "train")
        trainer = instantiate(cfg.trainer)(callbacks=[validation, *callbacks.values()], logger=logger)
        trainer.fit(model, data, ckpt_path=runs.checkpoint_to_continue(cfg))
        best = callbacks.get("best")
        # A shortened run (fast_dev_run) keeps no checkpoint; one that was moved names the folder where it was.
        kept = Path(best.dirpath, Path(best.best_model_path).name) if best and best.best_model_path else None
        if kept:
            trained = load_encoder(kept)
        else:  # each rank ends with batch-norm statistics of its own: all take those of the first
            trained = encoder
            trained.load_state_dict(trainer.strategy.broadcast(encoder.state_dict()))
        if databases:
            regress_databases({TRAINED: trained, UNTRAINED: untrained}, databases, splits, cfg, logger)
    return float("nan") if best is None or best.best_model_score is None else float(best.best_model_score)


def require_labels(cfg: DictConfig) -> None:
    """Refuse to choose an epoch by scores that no database gives."""
    best = cfg.callbacks.get("best")
    if best and best.monitor == "val/srcc" and not cfg.databases:
        raise InputError(
            "Wanted a database to choose the best epoch by val/srcc, found none: add database=<name>, or choose "
            "without labels: callbacks.best.monitor=val/retrieved."
        )


if __name__ == "__main__":
    main()
