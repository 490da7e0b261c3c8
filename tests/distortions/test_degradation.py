import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from arniqa_pl.distortions import CATALOG, GROUPS, Composition, DegradationModel, distort
from arniqa_pl.distortions.degradation import _calls
from arniqa_pl.errors import InputError

DRAWS = 20_000
IMPROBABLE = 1e-4


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def drawn() -> Composition:
    return DegradationModel(pristine_prob=0).draw(DRAWS, _seeded(3))


@pytest.mark.parametrize("pristine", [0, 0.5])
def test_lengths_are_uniform(pristine):
    composition = DegradationModel(pristine_prob=pristine).draw(DRAWS, _seeded(3))
    lengths = Counter(len(chain) for chain in composition if chain)
    assert sorted(lengths) == [1, 2, 3, 4]
    assert chisquare(list(lengths.values())).pvalue > IMPROBABLE


def test_groups_are_distinct_and_uniform_at_every_place(drawn):
    chains = [[CATALOG[name].group for name, _ in chain] for chain in drawn]
    assert all(len(set(chain)) == len(chain) for chain in chains)
    for place in range(4):
        counts = Counter(chain[place] for chain in chains if len(chain) > place)
        assert len(counts) == 7
        assert chisquare(list(counts.values())).pvalue > IMPROBABLE


def test_every_order_of_two_groups_is_as_likely(drawn):
    pairs = Counter((CATALOG[c[0][0]].group, CATALOG[c[1][0]].group) for c in drawn if len(c) > 1)
    assert len(pairs) == 7 * 6
    assert chisquare(list(pairs.values())).pvalue > IMPROBABLE


@pytest.mark.parametrize("group", GROUPS)
def test_distortions_are_uniform_within_their_group(group, drawn):
    counts = Counter(name for chain in drawn for name, _ in chain if CATALOG[name].group == group)
    assert counts.keys() == set(GROUPS[group])
    assert chisquare(list(counts.values())).pvalue > IMPROBABLE


@pytest.mark.parametrize("num_levels", [1, 3, 5])
def test_levels_are_half_normal(num_levels):
    composition = DegradationModel(num_levels=num_levels).draw(DRAWS, _seeded(5))
    counts = Counter(level for chain in composition for _, level in chain)
    weights = np.array([np.exp(-((i - 1) ** 2) / (2 * 2.5**2)) for i in range(1, num_levels + 1)])
    assert sorted(counts) == list(range(1, num_levels + 1))
    want = weights / weights.sum() * sum(counts.values())
    if num_levels > 1:
        assert chisquare([counts[i] for i in range(1, num_levels + 1)], want).pvalue > IMPROBABLE
    if num_levels == 5:
        np.testing.assert_allclose(want / want.sum(), [0.2928, 0.2703, 0.2126, 0.1426, 0.0814], atol=2e-4)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_pristine_share(share):
    composition = DegradationModel(pristine_prob=share).draw(DRAWS, _seeded(6))
    pristine = sum(not chain for chain in composition)
    assert abs(pristine - share * DRAWS) <= 4 * (DRAWS * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("longest", [0, 1, 7])
def test_max_distortions(longest):
    lengths = {len(chain) for chain in DegradationModel(max_distortions=longest, pristine_prob=0).draw(500)}
    assert lengths == (set(range(1, longest + 1)) or {0})


def test_a_draw_of_n_is_n_draws_of_one():
    model, one_by_one = DegradationModel(), _seeded(9)
    single = Composition.concatenate(model.draw(1, one_by_one) for _ in range(40))
    assert model.draw(40, _seeded(9)) == single


def test_a_seed_draws_what_it_always_drew():
    """A run that is repeated with another release trains on the same degradations."""
    first, second = DegradationModel().draw(2, _seeded(0))
    assert first == [("brighten", 2), ("pixelate", 1)]
    assert second == [("brighten", 2), ("gaussian_blur", 1), ("color_shift", 1), ("non_linear_contrast_change", 3)]


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    assert DegradationModel().draw(10) == DegradationModel().draw(10, _seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_distortions": 8}, r"max_distortions in 0\.\.7, got 8"),
        ({"max_distortions": -1}, r"max_distortions in 0\.\.7, got -1"),
        ({"num_levels": 6}, r"num_levels in 1\.\.5, got 6"),
        ({"num_levels": 0}, r"num_levels in 1\.\.5, got 0"),
        ({"pristine_prob": 1.2}, r"pristine_prob in 0\.\.1, got 1\.2"),
        ({"codec": "jpg"}, "codec out of auto, tensor, exact, got 'jpg'"),
    ],
)
def test_refuses_wrong_settings(setting, message):
    with pytest.raises(InputError, match=message):
        DegradationModel(**setting)


def test_composition_reads_like_a_list_of_chains():
    chains = [[("jpeg", 3), ("darken", 1)], [], [("jitter", 5)]]
    composition = Composition(chains)
    assert len(composition) == 3
    assert composition[0] == [("jpeg", 3), ("darken", 1)]
    assert composition[-1] == [("jitter", 5)]
    assert composition[1:] == Composition(chains[1:])
    assert list(composition) == chains
    assert eval(repr(composition)) == composition
    assert pickle.loads(pickle.dumps(composition)) == composition
    assert hash(composition) == hash(Composition(chains))
    assert composition != Composition(chains[:2])
    assert Composition.concatenate([composition[:1], composition[1:]]) == composition


def test_composition_stays_as_it_was():
    composition = Composition([[("jpeg", 3)]])
    composition[0].append(("darken", 1))
    assert composition == Composition([[("jpeg", 3)]])


@pytest.mark.parametrize("pair", [("blurry", 1), ("jpeg", 0), ("jpeg", 6), ("jpeg", 1.5)])
def test_composition_refuses_unknown_pairs(pair):
    with pytest.raises(InputError, match=r"Wanted .* got"):
        Composition([[pair]])


def test_lightning_leaves_a_composition_alone():
    """It must pass through the move of a batch to the device as it is."""
    from lightning.fabric.utilities import move_data_to_device

    composition = Composition([[("jpeg", 3)]])
    batch = move_data_to_device({"images": torch.zeros(1), "composition": composition}, torch.device("cpu"))
    assert batch["composition"] is composition


def _deterministic(n: int, seed: int) -> Composition:
    """Chains without random distortions, and without the codecs, which have tests of their own."""
    drawn = DegradationModel(max_distortions=7, pristine_prob=0.2).draw(n, _seeded(seed))
    return Composition(
        [(name, level) for name, level in chain if not CATALOG[name].random and CATALOG[name].group != "jpeg"]
        for chain in drawn
    )


def test_apply_is_the_chain_of_distort(crop):
    composition = _deterministic(24, 1)
    assert {len(chain) for chain in composition} >= {0, 1, 2, 3, 4}
    images = crop[..., :64, :80].repeat(24, 1, 1, 1)
    got = DegradationModel().apply(images, composition)
    for i, chain in enumerate(composition):
        want = images[i : i + 1]
        for name, level in chain:
            want = distort(want, name, level)
        # truncations and bins magnify the last bit of a sum that was taken in another order
        assert ((got[i] - want[0]).abs() > 1e-4).float().mean() < 5e-3, chain


def test_order_matters_and_is_kept(crop):
    forth, back = [("darken", 4), ("mean_shift", 4)], [("mean_shift", 4), ("darken", 4)]
    got = DegradationModel().apply(crop.repeat(2, 1, 1, 1), Composition([forth, back]))
    torch.testing.assert_close(got[:1], distort(distort(crop, "darken", 4), "mean_shift", 4))
    assert not torch.allclose(got[0], got[1])


def test_crops_share_the_composition_but_not_the_noise(crop):
    images = crop[..., :40, :40].expand(3, 2, 2, 3, 40, 40)
    composition = Composition([[("white_noise", 3)], [], [("darken", 2)]])
    noisy, pristine, dark = DegradationModel().apply(images, composition, _seeded(1))
    assert torch.equal(pristine, images[1])
    assert torch.equal(dark, dark[:1, :1].expand_as(dark))
    deviations = (noisy - images[0]).flatten(2).std(2)
    torch.testing.assert_close(deviations, deviations[:1, :1].expand_as(deviations), rtol=0.1, atol=0)
    assert not torch.equal(noisy[0, 0], noisy[0, 1])
    assert not torch.equal(noisy[0, 0], noisy[1, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_apply_keeps_shape_dtype_range_and_input(dtype, crops):
    images = crops[:, None].to(dtype).expand(-1, 2, -1, -1, -1)
    before = images.clone()
    model = DegradationModel(max_distortions=7, pristine_prob=0)
    composition = Composition([pair for pair in chain if "jpeg" not in pair[0]] for chain in model.draw(5, _seeded(2)))
    degraded = model.apply(images, composition, _seeded(1))
    assert degraded.shape == images.shape
    assert degraded.dtype == dtype
    assert degraded.isfinite().all()
    assert degraded.min() >= 0
    assert degraded.max() <= 1
    assert torch.equal(images, before)
    assert torch.equal(degraded, model.apply(images, composition, _seeded(1)))
    assert not torch.equal(degraded, model.apply(images, composition, _seeded(2)))


def test_apply_of_pristine_chains_is_a_copy(crops):
    same = DegradationModel().apply(crops, Composition([[]] * 5))
    assert torch.equal(same, crops)
    assert same.data_ptr() != crops.data_ptr()


def test_apply_without_a_generator_means_seed_0_and_no_global_state(crops):
    composition = Composition([[("white_noise", 2), ("jitter", 1)]] * 5)
    before = torch.get_rng_state()
    got = DegradationModel().apply(crops, composition)
    assert torch.equal(got, DegradationModel().apply(crops, composition, _seeded(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_apply_takes_an_empty_batch(crops):
    assert DegradationModel().apply(crops[:0], Composition([])).shape == (0, 3, 80, 64)


def test_apply_refuses_another_number_of_chains_and_wrong_images(crops):
    with pytest.raises(InputError, match="one chain for each of 5 samples, got 4"):
        DegradationModel().apply(crops, Composition([[]] * 4))
    with pytest.raises(InputError, match=r"\(N, …, 3, H, W\), got \(3, 80, 64\)"):
        DegradationModel().apply(crops[0], Composition([[]] * 3))
    with pytest.raises(InputError, match="at least 32×32 px, got 31×64"):
        DegradationModel().apply(crops[None, ..., :31, :], Composition([[]]))


def test_the_codec_reaches_the_codecs(crops, monkeypatch):
    seen = []

    def recorded(images, value, generator, codec):
        seen.append((codec, value.tolist()))
        return images

    monkeypatch.setattr(
        "arniqa_pl.distortions.degradation.CATALOG", {"jpeg": CATALOG["jpeg"]._replace(function=recorded)}
    )
    DegradationModel(codec="exact").apply(crops[:2], Composition([[("jpeg", 1)], [("jpeg", 5)]]))
    assert seen == [("exact", [43, 4])]


@pytest.mark.parametrize("samples", [1, 2, 32, 128])
def test_every_chain_runs_through_in_its_own_order_in_few_calls(samples):
    chains = list(DegradationModel(max_distortions=7).draw(samples, _seeded(samples)))
    done = [[] for _ in chains]
    calls = 0
    for name, rows, levels in _calls(chains):
        assert rows == sorted(set(rows))
        for row, level in zip(rows, levels, strict=True):
            done[row].append((name, level))
        calls += 1
    assert done == chains
    at_each_place = sum(len({chain[place][0] for chain in chains if place < len(chain)}) for place in range(7))
    assert calls <= (at_each_place if samples < 3 else 0.75 * at_each_place)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_distortion_waits_for_the_device(crops):
    images = crops.cuda()
    levels = list(range(1, 6))
    for warm_up in (True, False):
        torch.cuda.set_sync_debug_mode("default" if warm_up else "error")
        try:
            for name in CATALOG:
                distorted = distort(images, name, levels, torch.Generator("cuda").manual_seed(1))
                assert distorted.device == images.device  # to wait raises here
        finally:
            torch.cuda.set_sync_debug_mode("default")
