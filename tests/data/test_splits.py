import numpy as np
import pytest

from arniqa_pl.data.splits import digest, draw_splits
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
    assert digest(draw_splits(groups, 10)) == digest(draw_splits(groups, 10))
    assert digest(draw_splits(groups, 10)) != digest(draw_splits(groups, 10, seed=28))
    assert digest(draw_splits(groups, 10)[:3]) == digest(draw_splits(groups, 3))
    first, second = draw_splits(groups, 2)
    assert set(first.test) != set(second.test)


def test_two_groups_cannot_be_split():
    with pytest.raises(InputError, match=r"at least 3 groups .* found 2"):
        draw_splits(["a", "a", "b"])


def test_sides_of_one_image_are_refused():
    with pytest.raises(InputError, match=r"at least 2 images .* found 14 images in 14 groups"):
        draw_splits(list(range(14)))
