import functools

import lightning
import numpy as np
import pytest
import torch

from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.datasets import PairBatch
from arniqa_pl.data.images import to_unit
from arniqa_pl.data.pristine import find_photos
from arniqa_pl.distortions import Composition, DegradationModel
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.models.pair_grid import pair_figure
from arniqa_pl.models.pretraining import Pretraining
from arniqa_pl.models.schedules import cosine_warm_restarts, one_cycle
from tests import oracles


def make_data(demo_data, **changes) -> PretrainingData:
    settings = {
        "photos": find_photos(str(demo_data / "KADIS700" / "ref_imgs")),
        "degradation": DegradationModel(),
        "databases": {},
        "crop_size": 64,
        "padding": "zeros",
        "batch_size": 4,
        "samples_per_epoch": 12,
        "num_workers": 0,
        "unreadable": "stop",
        "cache_images": 20,
        "validation_crop_size": 64,
        "validation_crops": 1,
        "seed": 27,
    }
    return PretrainingData(**settings | changes)


def make_model(joint_forward: bool = False, seed: int = 0) -> Pretraining:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Pretraining(
            encoder=Encoder("mobilenet_v2", "imagenet"),
            projection_dim=16,
            temperature=0.1,
            joint_forward=joint_forward,
            optimizer=functools.partial(torch.optim.AdamW, lr=5e-4),
            schedule=functools.partial(one_cycle, warmup=0.1),
        )


def batches(data: PretrainingData, epoch: int = 0) -> list[PairBatch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_workers_do_not_change_the_batches(demo_data):
    alone, helped = make_data(demo_data), make_data(demo_data, num_workers=2)
    for one, two in zip(batches(alone, 1), batches(helped, 1), strict=True):
        assert torch.equal(one.crops, two.crops)
        assert (one.composition, one.key) == (two.composition, two.key)


def test_epochs_show_every_photo_in_another_order(demo_data):
    data = make_data(demo_data, batch_size=1, samples_per_epoch=None)
    orders = [[batch.key[1] for batch in batches(data, epoch)] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]


def test_degradation_follows_the_composition_and_can_be_drawn_again(demo_data):
    data = make_data(demo_data)
    batch = batches(data)[0]
    chains = Composition([[("mean_shift", 4)], [], [("white_noise", 5)], [("jpeg", 5), ("darken", 3)]])
    batch = batch._replace(composition=chains)
    degraded = data.degrade(batch)
    assert torch.equal(degraded.crops, data.degrade(batch).crops)
    assert not torch.equal(degraded.crops[2], data.degrade(batch._replace(key=(0, 99))).crops[2])
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    crops = degraded.crops * std + mean
    torch.testing.assert_close(crops[1], to_unit(batch.crops[1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(crops[0], (to_unit(batch.crops[0]) + 0.15).clamp(max=1), atol=1e-5, rtol=0)
    noise = (crops[2] - to_unit(batch.crops[2])).flatten(0, 1)
    assert not torch.equal(noise[0], noise[1])  # crops of a pair share the composition, not the noise


def test_batches_larger_than_an_epoch_are_refused(demo_data):
    with pytest.raises(InputError, match=r"full batch of 16 pairs .* found 12 pairs"):
        make_data(demo_data, batch_size=16).train_dataloader()


@pytest.mark.parametrize("joint", [False, True])
def test_loss_is_nt_xent_over_full_and_half_scale_rows(demo_data, joint, monkeypatch):
    data = make_data(demo_data)
    batch = data.degrade(batches(data)[0])
    model = make_model(joint).eval()  # without batch statistics, joint and separate passes are the same
    monkeypatch.setattr(model, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    with torch.no_grad():
        loss = model.training_step(batch, 0)
        a, b = (torch.cat([model.project(batch.crops[:, view, scale]) for scale in (0, 1)]) for view in (0, 1))
    assert float(loss) == pytest.approx(oracles.nt_xent(a.numpy(), b.numpy(), 0.1), rel=1e-4)


def test_training_repeats_bit_for_bit(demo_data):
    losses = []
    for _ in range(2):
        data = make_data(demo_data, degradation=DegradationModel(pristine_prob=0), samples_per_epoch=32, batch_size=8)
        model = make_model()
        trainer = lightning.Trainer(
            max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
        )
        seen: list[float] = []
        model.log = lambda name, value, seen=seen, **_: seen.append(value.item()) if name == "train/loss" else None
        trainer.fit(model, data)
        losses.append(seen)
    assert losses[0] == losses[1]
    assert len(losses[0]) == 16


def test_one_batch_can_be_learned_by_heart(demo_data, monkeypatch):
    data = make_data(demo_data, degradation=DegradationModel(pristine_prob=0))
    batch = data.degrade(batches(data)[0])
    model = make_model()
    monkeypatch.setattr(model, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        loss = model.training_step(batch, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_warm_restarts_are_those_of_fractional_epochs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = cosine_warm_restarts(
        optimizer, steps_per_epoch=10, total_steps=70, first_epochs=1, factor=2, min_lr=1e-6
    )
    for step in range(70):
        start, length = (0, 10) if step < 10 else (10, 20) if step < 30 else (30, 40)
        wanted = 1e-6 + (1e-3 - 1e-6) * (1 + np.cos(np.pi * (step - start) / length)) / 2
        assert schedule.get_last_lr()[0] == pytest.approx(wanted)
        optimizer.step()
        schedule.step()


def test_one_cycle_rises_to_the_optimizers_rate_and_falls_to_nothing():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=5e-4)
    schedule = one_cycle(optimizer, steps_per_epoch=10, total_steps=100, warmup=0.1)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(5e-4)
    assert rates.index(max(rates)) == 9
    assert rates[-1] < 1e-7


def test_pair_figure_names_the_compositions(demo_data):
    data = make_data(demo_data)
    batch = batches(data)[0]._replace(composition=Composition([[("jpeg", 5), ("darken", 3)], [], [], []]))
    figure = pair_figure(data.degrade(batch), pairs=2)
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts == ["jpeg (5) → darken (3)", "pristine"]
