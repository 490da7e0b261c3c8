"""Values of the wrong type and callables of unknown origin are refused before anything is built from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from arniqa_pl.composition import check_targets, check_types, fits
from arniqa_pl.errors import InputError
from tests.test_configs import composed


@pytest.fixture(scope="module")
def defaults():
    return composed("train")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=abc", "Wanted a whole number for data.batch_size, found 'abc'"),
        ("data.batch_size=2.5", "Wanted a whole number for data.batch_size, found 2.5"),
        ("data.samples_per_epoch=all", "Wanted a whole number or null for data.samples_per_epoch, found 'all'"),
        ("degradation.pristine_prob=yes", "Wanted a number for degradation.pristine_prob, found 'yes'"),
        ("model.joint_forward=1", "Wanted true or false for model.joint_forward, found 1"),
        ("trainer.max_epochs=[3]", r"Wanted a whole number or null for trainer.max_epochs, found \[3\]"),
        ("trainer.precision=fp32", "for trainer.precision, found 'fp32'"),
        ("optimizer.lr=fast", "for optimizer.lr, found 'fast'"),
        ("callbacks.best.monitor=3", "Wanted text or null for callbacks.best.monitor, found 3"),
        ("features.crops=true", "Wanted a whole number or a list for features.crops, found True"),
        ("ridge.num_splits=ten", "Wanted a whole number or a list for ridge.num_splits, found 'ten'"),
        ("ridge.alphas.num=many", "Wanted a whole number or a list for ridge.alphas.num, found 'many'"),
        ("seed=x", "Wanted a whole number or a list for seed, found 'x'"),
        ("paths.data_dir=3", "Wanted text or a list for paths.data_dir, found 3"),
    ],
)
def test_a_wrong_type_is_refused_by_the_name_of_its_key(defaults, override, message):
    with pytest.raises(InputError, match=message):
        check_types(composed("train", override), defaults)


@pytest.mark.parametrize(
    "override",
    [
        "regression.train_fraction=[0.01,0.1]",
        "regression.train_fraction=1",
        "photos.source=[a,b]",
        "trainer.devices=[0,1]",
        "trainer.devices=auto",
        "trainer.precision=32-true",
        "+trainer.limit_train_batches=0.5",
        "optimizer.lr=1",
        "+optimizer.nesterov=true",
        "callbacks.best=null",
        "resume=runs/demo/a",
    ],
)
def test_every_right_type_is_taken(defaults, override):
    cfg = composed("train", override)
    check_types(cfg, defaults)
    check_targets(cfg)


def test_annotations_are_understood():
    assert fits([1, 2], Sequence[int])
    assert fits([0, 5], tuple[float, float] | None)
    assert not fits([1, "2"], Sequence[int])
    assert not fits("12", Sequence[int])
    assert fits("a", Path)
    assert fits("a", Literal["a", 3])
    assert not fits("b", Literal["a", 3])
    assert fits(object(), Any)
    assert not fits(True, int | float)


@pytest.mark.parametrize("target", ["os.system", "torch.optim.sgd.torch.load", "arniqa_pl.runs.Path", "lightning.gone"])
def test_callables_of_others_are_named_and_not_run(target):
    cfg = OmegaConf.create({"data": {"parts": [{"_target_": target}]}})
    with pytest.raises(InputError, match=rf"found {target} at data.parts.0, which is not run"):
        check_targets(cfg)
