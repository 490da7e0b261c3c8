import logging
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from arniqa_pl import train
from arniqa_pl.composition import CONFIG_DIR, check_types

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
    "report",
    "report_send",
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
    assert len(OPTIONS) >= 64
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


@pytest.mark.parametrize(("group", "option"), [each for each in OPTIONS if each[0].split("/")[0] != "experiment"])
def test_every_option_composes_and_builds_what_it_is_for(group, option, replicas, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if group in ("hydra", "hydra/sweeper"):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            assert compose("train", [f"{group}={option}"], return_hydra_config=True).hydra.sweeper
        return
    images = replicas / "KADID10K/images"
    Path("scores.csv").write_text(f"image,score\n{images}/I01.png,1\n{images}/I02.png,2\n")
    places = [f"paths.data_dir={replicas}", f"photos.source={images}", "encoder.weights=none"]
    places += ["databases.csv.path=scores.csv"] if option == "csv" else []
    value = f"[{option}]" if group == "database" else option
    cfg = composed("train", f"{'+' if group == 'debug' else ''}{group}={value}", *places)
    assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_types(cfg, cfg)  # finds every callable as well
    part = {"database": "databases", "debug": "callbacks"}.get(group, group)
    assert instantiate(cfg[part])


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
def test_experiments_open_with_command_hardware_hours_and_result(experiment):
    lines = (CONFIG_DIR / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[1].startswith(f"# python -m arniqa_pl.train experiment={experiment}")
    opening = " ".join(takewhile(lambda line: line.startswith("#"), lines))
    assert re.search(r"\d CPU cores|One GPU", opening)
    assert re.search(r"about \d+ minutes|hours: not yet measured", opening)
    assert re.search(r"Expected[^:]*: (\w+ )*(not yet measured|median test SRCC \d)", opening)


def test_hydras_own_words_work(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # --info adds one of its own, and leaves it there

    def says(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "experiment=demo"])
        train.main()
        return capsys.readouterr().out

    assert OmegaConf.create(says("--cfg", "job", "seed=3")) == composed("train", "seed=3", "experiment=demo")
    assert re.search(r"experiment/demo\s", says("--info", "defaults"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cfg", "job", "data.batch_size=abc"], "Wanted a whole number for data.batch_size, found 'abc'"),
        (["--info", "defaults", "seed=x"], "Wanted a whole number or a list for seed, found 'x'"),
        (["-m", "data.batch_size=abc", "seed=1,2"], "Wanted a whole number for data.batch_size, found 'abc'"),
        (["-m", "encoder=resnet50,mobilenet_v2", "seed=1,x"], "Wanted a whole number or a list for seed, found 'x'"),
        (["-m", "+trainer.limit_val_batches=1,few"], "for trainer.limit_val_batches, found 'few'"),
        (["-m", "model.temperature=0.1,hot", "seed=range(1,3)"], "Wanted a number for model.temperature, found 'hot'"),
    ],
)
def test_a_wrong_type_is_refused_before_anything_is_shown_or_run(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit, match=message):
        train.main()
    assert not capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_bash_completes_experiments_and_keys_of_a_module():
    script = f"""eval "$({sys.executable} -m arniqa_pl.completion)"
        typed() {{ COMP_WORDS=("$@") COMP_LINE="$*" COMP_CWORD=$(($# - 1)); _arniqa_pl; echo "${{COMPREPLY[@]}}"; }}
        typed {sys.executable} -m arniqa_pl.train experiment=k
        typed {sys.executable} -m arniqa_pl.train experiment=demo data.ba
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["experiment=kadid experiment=koniq10k", "data.batch_size="]


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(ConfigCompositionException, match=r"data\.bach_size"):
        composed("train", "data.bach_size=3")


def test_help_of_train_does_not_wait_for_pytorch():
    code = (
        "import runpy, sys; sys.argv = ['train', '--help']\n"
        "try: runpy.run_module('arniqa_pl.train', run_name='__main__')\n"
        "finally: print('imported:', {'torch', 'lightning', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "experiment" in done.stdout
    assert done.stdout.endswith("imported: set()\n")
