import functools

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from arniqa_pl.data.datamodule import HELD_OUT, PretrainingData
from arniqa_pl.data.datasets import CropPairs, PairBatch
from arniqa_pl.data.images import to_unit
from arniqa_pl.data.loading import EpochSampler
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
        "partner": "other",
        "half_scale": "independent",
        "num_workers": 0,
        "unreadable": "stop",
        "cache_images": 20,
        "validation_crop_size": 64,
        "validation_crops": 1,
        "validation_pairs": 0,
        "seed": 27,
    }
    return PretrainingData(**settings | changes)


def make_model(
    joint_forward: bool = False, seed: int = 0, rate_rule: str = "none", rate_pairs: int = 16
) -> Pretraining:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Pretraining(
            encoder=Encoder("mobilenet_v2", "imagenet"),
            projection_dim=16,
            temperature=0.1,
            joint_forward=joint_forward,
            compile_encoder=False,
            rate_rule=rate_rule,
            rate_pairs=rate_pairs,
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


def test_half_epochs_join_to_one_whatever_the_number_of_workers(demo_data):
    whole = [batch.key for batch in batches(make_data(demo_data, batch_size=2), 1)]
    for workers in (0, 2):
        first, second = (make_data(demo_data, batch_size=2, num_workers=workers) for _ in range(2))
        loader = first.train_dataloader()
        loader.sampler.set_epoch(1)
        keys = [batch.key for _, batch in zip(range(4), loader, strict=False)]
        second.load_state_dict(first.state_dict())
        keys += [batch.key for batch in batches(second, 1)]
        assert keys == whole
        assert len(batches(second, 2)) == len(whole)  # only that epoch is entered in its middle


def test_ranks_share_an_epoch_without_repeating_a_sample():
    for length, ranks, size in ((20, 2, 3), (21, 3, 2), (13, 3, 2)):
        seen = []
        for rank in range(ranks):
            sampler = EpochSampler(range(length), num_replicas=ranks, rank=rank, seed=1, drop_last=True)
            indices = [index for _, index in sampler]
            seen.append(indices[: len(indices) // size * size])
        assert len({len(each) for each in seen}) == 1
        flat = [index for each in seen for index in each]
        assert len(flat) == len(set(flat)) >= length - ranks * size


def _located(pairs: CropPairs, key) -> list[list[tuple[float, float, int]]]:
    """Centre (in full-scale pixels) and photograph of each crop, read off photographs that spell out their places."""
    views = []
    for view in pairs[key].crops.float():
        views.append([(float(crop[0].mean()), float(crop[1].mean()), int(crop[2].median())) for crop in view])
    return views


@pytest.fixture(scope="module")
def charts(tmp_path_factory):
    """Four photographs of which red is the column, green the row, blue the number."""
    folder = tmp_path_factory.mktemp("charts")
    columns, rows = np.meshgrid(np.arange(200), np.arange(160))
    for number in range(4):
        pixels = np.stack([columns, rows, np.full_like(rows, 50 * number)], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def _pairs(charts, **switches) -> CropPairs:
    settings = {"length": 40, "crop_size": 64, "degradation": DegradationModel(), "seed": 2, "cache_images": 0}
    settings |= {"padding": "zeros", "unreadable": "stop"}
    return CropPairs(
        find_photos(str(charts)), **settings | {"partner": "other", "half_scale": "independent"} | switches
    )


def test_partners_are_other_photographs_or_the_same(charts):
    other = [_located(_pairs(charts), (0, i)) for i in range(40)]
    same = [_located(_pairs(charts, partner="same"), (0, i)) for i in range(40)]
    assert {b[0][2] for a, b in other if a[0][2] == 50} == {0, 50, 100, 150}  # drawn uniformly, as in the paper
    assert all(a[0][2] == b[0][2] for a, b in same)
    assert any(a[0][:2] != b[0][:2] for a, b in same)  # another crop of it
    with pytest.raises(InputError, match=r"data\.partner out of other, same, got 'twin'"):
        _pairs(charts, partner="twin")


def test_half_scale_crops_lie_anywhere_or_beneath_the_full_scale_ones_or_are_left_out(charts):
    for i in range(40):
        for full, half in _located(_pairs(charts, half_scale="aligned"), (0, i)):
            # At half scale the crop shows 128 pixels of 200 × 160: its centre cannot come nearer to an edge than 64.
            wanted = (np.clip(full[0], 63.5, 135.5), np.clip(full[1], 63.5, 95.5))
            np.testing.assert_allclose(half[:2], wanted, atol=1.5)
    apart = [np.hypot(f[0] - h[0], f[1] - h[1]) for i in range(40) for f, h in _located(_pairs(charts), (0, i))]
    assert max(apart) > 40
    assert _pairs(charts, half_scale="none")[0, 0].crops.shape == (2, 1, 3, 64, 64)
    with pytest.raises(InputError, match=r"data\.half_scale out of independent, aligned, none, got 'double'"):
        _pairs(charts, half_scale="double")


def test_held_out_pairs_are_no_training_pairs_and_always_the_same(demo_data):
    data = make_data(demo_data, validation_pairs=8)
    (loader,) = data.val_dataloader()
    held_out = list(loader)
    assert len(held_out) == 2
    assert {batch.key[0] for batch in held_out} == {HELD_OUT}
    for one, other in zip(held_out, loader, strict=True):
        assert torch.equal(one.crops, other.crops)
        assert one.composition == other.composition


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


def test_only_crop_pairs_are_degraded_where_they_arrive(demo_data):
    data = make_data(demo_data)
    batch = batches(data)[0]
    arrived = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert torch.equal(arrived.crops, data.degrade(batch).crops)
    images = (torch.tensor([3, 4]), batch.crops)
    assert torch.equal(data.transfer_batch_to_device(images, torch.device("cpu"), 0)[1], batch.crops)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_stream_of_the_degradation_changes_no_crop(demo_data):
    data = make_data(demo_data)
    device = torch.device("cuda")
    for batch in batches(data):
        arrived = data.transfer_batch_to_device(batch, device, 0)
        beside = torch.randn(2048, 2048, device=device) @ torch.randn(2048, 2048, device=device)  # a step's work
        in_line = data.degrade(batch._replace(crops=batch.crops.to(device)))
        assert arrived.crops.device == beside.device
        assert torch.equal(arrived.crops, in_line.crops)


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


class Record(lightning.Callback):
    """Notes each step's batch and loss."""

    def __init__(self) -> None:
        self.keys, self.losses = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.keys.append(batch.key)
        self.losses.append(outputs["loss"].item())


def test_one_batch_can_be_overfitted(demo_data):
    record = Record()
    trainer = lightning.Trainer(
        overfit_batches=1,
        max_epochs=12,
        limit_val_batches=0,
        callbacks=[record],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    trainer.fit(make_model(), make_data(demo_data, degradation=DegradationModel(pristine_prob=0)))
    assert record.keys == [(0, 0)] * 12
    assert record.losses[-1] < record.losses[0] - 0.5


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


@pytest.mark.parametrize(("rule", "rate"), [("none", 5e-4), ("linear", 5e-4 * 8 / 2), ("sqrt", 5e-4 * 2)])
def test_the_rate_follows_the_pairs_of_an_optimiser_step(demo_data, rule, rate):
    model = make_model(rate_rule=rule, rate_pairs=2)
    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        accumulate_grad_batches=2,  # of four pairs
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, make_data(demo_data))
    (group,) = trainer.optimizers[0].param_groups
    assert group["max_lr"] == pytest.approx(rate)  # of the cycle
