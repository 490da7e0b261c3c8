"""What holds of every composition, drawn or written."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arniqa_pl.distortions import CATALOG, GROUPS, Composition, DegradationModel
from arniqa_pl.errors import InputError

CHEAP = [name for name, row in CATALOG.items() if not row.random and row.group not in ("jpeg", "blur")]

pairs = st.tuples(st.sampled_from(list(CATALOG)), st.integers(1, 5))
chains = st.lists(st.lists(pairs, max_size=4), max_size=6)
seeds = st.integers(0, 2**32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(chains, st.integers(-7, 7), st.integers(-7, 7))
def test_a_composition_is_the_list_of_its_chains(chains, start, stop):
    composition = Composition(chains)
    assert list(composition) == chains
    assert len(composition) == len(chains)
    assert list(composition[start:stop]) == chains[start:stop]
    assert Composition.concatenate([composition[:start], composition[start:]]) == composition
    same = eval(repr(composition))
    assert (same, hash(same)) == (composition, hash(composition))


@given(chains, st.data())
def test_an_unknown_pair_is_refused_wherever_it_stands(chains, data):
    wrong = data.draw(
        st.tuples(st.sampled_from(["", "JPEG", "jpeg ", "blur"]), st.just(1))
        | st.tuples(st.just("jpeg"), st.integers(6))
    )
    chain = data.draw(st.lists(pairs, max_size=3))
    chain.insert(data.draw(st.integers(0, len(chain))), wrong)
    chains.insert(data.draw(st.integers(0, len(chains))), chain)
    with pytest.raises(InputError, match="Wanted"):
        Composition(chains)


@given(st.integers(0, 7), st.integers(1, 5), st.floats(0, 1), st.integers(0, 20), st.integers(0, 20), seeds)
def test_every_draw_keeps_to_its_settings(longest, num_levels, pristine, n, more, seed):
    model = DegradationModel(max_distortions=longest, num_levels=num_levels, pristine_prob=pristine)
    composition = model.draw(n + more, seeded(seed))
    for chain in composition:
        groups = [CATALOG[name].group for name, _ in chain]
        assert len(set(groups)) == len(groups) <= longest
        assert set(groups) <= GROUPS.keys()
        assert all(1 <= level <= num_levels for _, level in chain)
    generator = seeded(seed)
    assert Composition.concatenate([model.draw(n, generator), model.draw(more, generator)]) == composition


@settings(max_examples=15)
@given(st.lists(st.lists(st.tuples(st.sampled_from(CHEAP), st.integers(1, 5)), max_size=3), max_size=5), st.randoms())
def test_samples_do_not_see_their_neighbours(chains, random):
    images = torch.rand(len(chains), 3, 32, 40, generator=seeded(0))
    before = images.clone()
    order = random.sample(range(len(chains)), len(chains))
    model = DegradationModel()
    degraded = model.apply(images, Composition(chains))
    shuffled = model.apply(images[order], Composition(chains[i] for i in order))
    assert torch.equal(images, before)
    # the last bit of a sum may move a value over an edge of a bin
    assert ((shuffled - degraded[order]).abs() > 1e-5).float().mean() < 1e-2 or not chains
    for i, chain in enumerate(chains):
        assert torch.equal(degraded[i], images[i]) or chain
