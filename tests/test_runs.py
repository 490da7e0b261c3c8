from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from arniqa_pl.errors import InputError
from arniqa_pl.runs import resumed, run_folder
from tests.test_configs import composed

STARTED = ("experiment=demo", "seed=5")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of a run that was started with STARTED, as Hydra writes it."""
    cfg = composed("train", *STARTED)
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(cfg, tmp_path / ".hydra/config.yaml")
    OmegaConf.save(list(STARTED), tmp_path / ".hydra/overrides.yaml")
    return tmp_path


def test_the_runs_own_settings_hold_and_values_go_on_top(folder):
    def resume(*overrides: str) -> DictConfig:
        return resumed(composed("train", f"resume={folder}", *overrides))

    wanted = composed("train", *STARTED)
    for found in (resume(), resume("experiment=demo"), resume(*STARTED)):
        assert found.paths.run_dir == str(folder)
        found.resume, found.paths.run_dir = None, wanted.paths.run_dir
        assert found == wanted
    changed = resume("data.num_workers=3", "trainer.max_epochs=7")
    assert (changed.data.num_workers, changed.trainer.max_epochs, changed.seed, changed.name) == (3, 7, 5, "demo")
    for option in ("experiment=kadid", "optimizer=sgd", "+trainer.benchmark=true"):
        with pytest.raises(InputError, match=rf"found {option.replace('+', '.')}, with which it was not started"):
            resume(option)


def test_what_cannot_be_continued_is_named(folder, tmp_path_factory):
    with pytest.raises(InputError, match=r"found no gone"):
        run_folder("gone", f"sqlite:///{folder}/mlflow.db")
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(InputError, match=r"found no \.hydra/config\.yaml"):
        resumed(composed("train", f"resume={other}"))
    (other / "checkpoints").mkdir()
    (other / "checkpoints/last.ckpt").touch()
    with pytest.raises(InputError, match=rf"continue it with resume={other}"):
        resumed(composed("train", f"paths.run_dir={other}"))
