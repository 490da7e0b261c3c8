from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from arniqa_pl.launch import CONFIG_DIR

EXPERIMENTS = sorted(
    file.relative_to(CONFIG_DIR / "experiment").with_suffix("").as_posix()
    for file in (CONFIG_DIR / "experiment").rglob("*.yaml")
)
ROOTS = (
    "train",
    "regress",
    "evaluate",
    "manifold",
    "predict",
    "predict_summary",
    "prepare",
    "prepare_check",
    "prepare_photos",
    "prepare_shards",
    "distort",
    "export",
    "export_import",
    "export_mlflow",
    "serve",
)
OPTIONS = sorted(
    (file.parent.relative_to(CONFIG_DIR).as_posix(), file.stem)
    for file in CONFIG_DIR.rglob("*.yaml")
    if file.parent != CONFIG_DIR
)


def composed(root: str, *overrides: str) -> DictConfig:
    """The config as the entry gets it, in a run folder called run."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose(root, [*overrides, "hydra.runtime.output_dir=run"], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def test_no_config_is_overlooked():
    assert {file.stem for file in CONFIG_DIR.glob("*.yaml")} == set(ROOTS)
    assert len(OPTIONS) == 49
    assert Path(__file__).parents[1] / "conf" == CONFIG_DIR


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_composes_and_resolves(root):
    missing = {
        "regress": ["checkpoint=x"],
        "evaluate": ["scorer=x"],
        "manifold": ["checkpoint=x"],
        "predict": ["scorer=x", "input=x"],
        "predict_summary": ["input=x"],
        "distort": ["image=x"],
        "export": ["scorer=x"],
        "export_import": ["encoder_file=x", "regressor=y"],
        "export_mlflow": ["scorer=x"],
        "serve": ["scorer=x"],
        "prepare_check": ["database=kadid10k"],
        "prepare_photos": ["input=x"],
        "prepare_shards": ["input=x", "output=y"],
    }
    cfg = composed(root, *missing.get(root, []))
    assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize(
    ("group", "option"), [each for each in OPTIONS if each[0] not in ("hydra", "experiment/ablation")]
)
def test_every_option_composes_into_train(group, option):
    value = f"[{option}]" if group == "database" else option
    extra = ["databases.csv.path=x"] if option == "csv" else []
    cfg = composed("train", f"{'+' if group == 'debug' else ''}{group}={value}", *extra)
    assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_needs_no_data_can_be_built(experiment):
    cfg = composed("train", f"experiment={experiment}", "encoder.weights=none")
    encoder = instantiate(cfg.encoder)
    model = instantiate(cfg.model)(
        encoder=encoder, optimizer=instantiate(cfg.optimizer), schedule=instantiate(cfg.schedule)
    )
    assert model.projector[-1].out_features == 128
    assert instantiate(cfg.degradation).max_distortions == 4
    assert len(instantiate(cfg.ridge.alphas)) == 100
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values()]
    instantiate(cfg.trainer)(logger=False, callbacks=callbacks)


@pytest.mark.parametrize("ablation", [each for each in EXPERIMENTS if each.startswith("ablation/")])
def test_ablations_sweep_over_one_value_which_the_paper_has_first_or_among_them(ablation):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"experiment={ablation}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    ((key, values),) = cfg.hydra.sweeper.params.items()
    paper = OmegaConf.select(composed("train", "experiment=kadid"), key)
    assert str(paper).lower() in str(values).split(",")
    for value in str(values).split(","):
        changed = composed("train", f"experiment={ablation}", f"{key}={value}")
        assert str(OmegaConf.select(changed, key)).lower() == value
        OmegaConf.update(changed, key, paper)
        changed.name = "kadid"
        assert changed == composed("train", "experiment=kadid")


def test_kadid_holds_the_settings_of_the_paper():
    cfg = composed("train", "experiment=kadid")
    assert (cfg.encoder.name, cfg.encoder.weights) == ("resnet50", "imagenet")
    assert (cfg.data.crop_size, cfg.data.batch_size, cfg.data.samples_per_epoch) == (224, 16, None)
    assert (cfg.model.projection_dim, cfg.model.temperature, cfg.model.joint_forward) == (128, 0.1, False)
    assert (cfg.data.partner, cfg.data.half_scale) == ("other", "independent")
    assert (cfg.callbacks.best.monitor, cfg.callbacks.best.mode) == ("val/srcc", "max")
    assert (cfg.optimizer.lr, cfg.optimizer.momentum, cfg.optimizer.weight_decay) == (1e-3, 0.9, 1e-4)
    assert (cfg.schedule.first_epochs, cfg.schedule.factor, cfg.schedule.min_lr) == (1, 2, 1e-6)
    assert (cfg.degradation.max_distortions, cfg.degradation.num_levels, cfg.degradation.pristine_prob) == (4, 5, 0.05)
    assert (cfg.features.crop_size, cfg.features.crops, cfg.ridge.validation_alpha) == (224, 5, 0.1)
    assert (cfg.trainer.max_epochs, cfg.ridge.num_splits, cfg.seed) == (10, 10, 27)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_open_with_their_command(experiment):
    lines = (CONFIG_DIR / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[1].startswith(f"# python -m arniqa_pl.train experiment={experiment}")


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(ConfigCompositionException, match=r"data\.bach_size"):
        composed("train", "data.bach_size=3")
