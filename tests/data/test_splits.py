from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arniqa_pl.data.databases import Database, csiq, flive, kadid10k, live, uhdiqa
from arniqa_pl.data.databases.database import tabulate
from arniqa_pl.data.splits import Split, digest, draw_splits, find_splits, read_splits
from arniqa_pl.errors import InputError


def test_sides_cover_all_rows_and_share_no_group():
    groups = [f"I{number:02d}" for number in range(12) for _ in range(7)]
    for split in draw_splits(groups, count=10):
        rows = np.concatenate([split.train, split.val, split.test])
        assert sorted(rows) == list(range(len(groups)))
        sides = [{groups[row] for row in side} for side in (split.train, split.val, split.test)]
        assert not sides[0] & sides[1] and not sides[1] & sides[2] and not sides[0] & sides[2]  # noqa: PT018
        assert [len(side) for side in sides] == [9, 1, 2]


@pytest.mark.parametrize(("references", "sizes"), [(81, (57, 8, 16)), (25, (18, 2, 5)), (29, (20, 3, 6))])
def test_sizes_are_those_of_the_published_tables(references, sizes):
    (split,) = draw_splits([number // 2 for number in range(2 * references)], count=1)
    assert (len(split.train) / 2, len(split.val) / 2, len(split.test) / 2) == sizes


def test_splits_depend_on_seed_and_number_alone():
    groups = list(range(50))
    assert digest(draw_splits(groups)) == digest(draw_splits(groups, 10, 27))
    assert digest(draw_splits(groups)) == digest(draw_splits([str(group) for group in groups]))
    assert digest(draw_splits(groups, 10)) != digest(draw_splits(groups, 10, seed=28))
    assert digest(draw_splits(groups, 10)[:3]) == digest(draw_splits(groups, 3))
    first, second = draw_splits(groups, 2)
    assert set(first.test) != set(second.test)


def test_digests_in_records_of_earlier_runs_stay_comparable():
    assert digest([Split(*(np.array(rows) for rows in ([0, 1, 2], [3, 4], [5, 6])))]) == "14239479ba4d212b"


def test_two_groups_cannot_be_split():
    with pytest.raises(InputError, match=r"at least 3 groups .* found 2: add images or give a split of your own\.$"):
        draw_splits(["a", "a", "b"])


def test_sides_of_one_image_are_refused():
    with pytest.raises(InputError, match=r"at least 2 images .* found 14 images in 14 groups"):
        draw_splits(list(range(14)))


GROUPS = [f"r{number // 3}" for number in range(12)]  # 4 references, 3 rows each


def save(folder: Path, **sides) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for side, rows in sides.items():
        np.save(folder / f"{side}.npy", np.array(rows))
    return folder


def test_published_tables_lose_their_padding(tmp_path):
    folder = save(
        tmp_path,
        train=[[5, 4, 3, 2, 1, 0], [6, 7, -1, -1, -1, -1]],
        val=[[6, 8, 7], [0, 2, -1]],
        test=[[9, 10, 11], [3, 4, 9]],
    )
    first, second = read_splits(folder, GROUPS)
    assert first.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert (first.val.tolist(), first.test.tolist()) == ([6, 7, 8], [9, 10, 11])
    assert (second.train.tolist(), second.val.tolist(), second.test.tolist()) == ([6, 7], [0, 2], [3, 4, 9])


def test_a_published_table_of_one_split_may_have_one_dimension(tmp_path):
    (split,) = read_splits(save(tmp_path, train=[0, 1, 2], val=[3, 5], test=[6, 7]), GROUPS)
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 1, 2], [3, 5], [6, 7])


GOOD = {"train": [0, 1, 2], "val": [3, 4], "test": [6, 7]}


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"test": [6, 12]}, r"row numbers from 0 to 11 on the test side of split 1 .* found 12"),
        ({"train": [0, 1, 12]}, r"on the train side .* found 12: it belongs to another table\.$"),
        ({"test": [-2, 6]}, r"found -2"),
        ({"test": [6, 6, 7]}, r"each row once on the test side .* found row 6 twice"),
        ({"test": [6, 7, 7, 8]}, r"found row 7 twice"),
        ({"val": [2, 4]}, r"no row on two sides .* found row 2 in train and val"),
        ({"test": [5, 7]}, r"no group .* found r1 in val and test .* have splits drawn: ridge\.always_draw=true\.$"),
        ({"test": [6, -1]}, r"at least 2 rows on the test side .* found 1"),
        ({"test": [6.0, 7.0]}, r"Wanted integers .*test\.npy, found float64 \(2,\)"),
        ({"test": [[[6, 7]]]}, r"found int64 \(1, 1, 2\)"),
        ({"test": np.uint64([2**63 + 5, 7])}, r"found uint64 \(2,\)"),
        ({side: np.empty((0, 5), int) for side in ("train", "val", "test")}, r"found int64 \(0, 5\)"),
        ({"val": [[3, 4], [3, 4]]}, r"as many splits .* found 1, 2, 1"),
    ],
)
def test_published_tables_that_do_not_fit_are_refused(tmp_path, sides, message):
    with pytest.raises(InputError, match=message):
        read_splits(save(tmp_path, **(GOOD | sides)), GROUPS)


def test_damaged_published_tables_are_refused_and_never_unpickled(tmp_path):
    save(tmp_path, **GOOD)
    np.save(tmp_path / "test.npy", np.array([print, 7], dtype=object))
    with pytest.raises(InputError, match=r"test\.npy, could not read it: .*allow_pickle"):
        read_splits(tmp_path, GROUPS)
    np.savez(tmp_path / "test.npz", [6, 7])
    (tmp_path / "test.npz").rename(tmp_path / "test.npy")
    with pytest.raises(InputError, match=r"Wanted integers .*test\.npy, found NpzFile: restore it"):
        read_splits(tmp_path, GROUPS)
    np.save(tmp_path / "test.npy", [6, 7])
    sound = (tmp_path / "test.npy").read_bytes()
    for damaged in (b"\x93NUMPY", sound.replace(b"(2,), }         ", b"(9999999999999,),}")):
        (tmp_path / "test.npy").write_bytes(damaged)
        with pytest.raises(InputError, match=r"test\.npy, could not read it"):
            read_splits(tmp_path, GROUPS)
    (tmp_path / "test.npy").unlink()
    with pytest.raises(InputError, match=r"test\.npy, could not read it: .*No such file"):
        read_splits(tmp_path, GROUPS)


def database(root: Path, split="") -> Database:
    """Twelve rows of four references; their images are of no concern here."""
    columns = {"image": pd.Series([f"{number}.png" for number in range(12)]), "score": pd.Series(range(12))}
    table = tabulate(root, **columns, group=pd.Series(GROUPS), split=split)
    return Database("mine", root, table, (0, 11), higher_is_better=True)


def test_published_go_before_official_before_drawn(tmp_path):
    find = partial(find_splits, count=3, seed=1)
    official = pd.Series(["train"] * 6 + ["val"] * 3 + ["test"] * 2 + [""])
    drawn = find(database(tmp_path), always_draw=False)
    assert (drawn.origin, len(drawn)) == ("drawn", 3)
    assert drawn.digest == digest(draw_splits(GROUPS, 3, 1))

    own = find(database(tmp_path, official), always_draw=False)
    assert (own.origin, len(own)) == ("official", 1)
    assert (own[0].val.tolist(), own[0].test.tolist()) == ([6, 7, 8], [9, 10])

    save(tmp_path / "splits", **GOOD)
    published = find(database(tmp_path, official), always_draw=False)
    assert (published.origin, published[0].test.tolist()) == ("published", [6, 7])
    assert len({drawn.digest, own.digest, published.digest}) == 3
    assert find(database(tmp_path, official), always_draw=True).digest == drawn.digest


def test_an_official_split_is_proven_too(tmp_path):
    leaking = pd.Series(["train"] * 5 + ["val"] * 4 + ["test"] * 3)
    with pytest.raises(InputError, match=r"the split of mine's own .* found r1 in train and val"):
        find_splits(database(tmp_path, leaking), count=3, seed=1, always_draw=False)
    halves = pd.Series(["train"] * 6 + ["test"] * 6)
    with pytest.raises(InputError, match="at least 2 rows on the val side"):
        find_splits(database(tmp_path, halves), count=3, seed=1, always_draw=False)


def test_replicas_bring_their_splits(replicas):
    find = partial(find_splits, count=10, seed=27, always_draw=False)
    csiq_splits = find(csiq.read(str(replicas / "CSIQ")))
    assert csiq_splits.origin == "published"
    assert [len(split.test) for split in csiq_splits] == [7, 8]  # the shorter one was padded
    assert find(live.read(str(replicas / "LIVE"))).origin == "published"
    assert find(flive.read(str(replicas / "FLIVE"))).origin == "official"
    assert find(uhdiqa.read(str(replicas / "UHDIQA"))).origin == "official"
    assert find(kadid10k.read(str(replicas / "KADID10K"))).origin == "drawn"


# A group of its own size each: 2 rows at least, so that no side has a single one.
grouped = st.lists(st.integers(2, 5), min_size=3, max_size=40).map(
    lambda sizes: [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
)


@given(grouped, st.integers(0, 2**32), st.randoms())
def test_any_drawn_split_holds_every_row_once_and_every_group_on_one_side(groups, seed, random):
    random.shuffle(groups)
    names = sorted(set(groups))
    for split in draw_splits(groups, 3, seed):
        sides = (split.train, split.val, split.test)
        assert all((np.diff(side) > 0).all() for side in sides)
        assert sorted(np.concatenate(sides)) == list(range(len(groups)))
        of_sides = [{groups[row] for row in side} for side in sides]
        assert sorted(name for side in of_sides for name in side) == names
        assert len(of_sides[1]) == max(round(0.1 * len(names)), 1)
        assert len(of_sides[2]) == max(round(0.2 * len(names)), 1)


@given(grouped, st.integers(0, 2**32), st.data())
def test_a_written_split_is_read_again_and_any_row_that_strays_is_noticed(tmp_path_factory, groups, seed, data):
    folder = tmp_path_factory.mktemp("splits")
    (drawn,) = draw_splits(groups, 1, seed)
    sides = {side: np.random.default_rng(seed).permutation(getattr(drawn, side)) for side in ("train", "val", "test")}
    save(folder, **{side: [*rows, -1] for side, rows in sides.items()})
    assert digest(read_splits(folder, groups)) == digest([drawn])

    side = data.draw(st.sampled_from(list(sides)))
    stray = data.draw(st.integers(-3, len(groups) + 2))
    assume(stray != -1)  # pads
    save(folder, **{side: [*sides[side], stray]})
    with pytest.raises(InputError, match="Wanted"):
        read_splits(folder, groups)
