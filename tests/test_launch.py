import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from arniqa_pl.launch import as_list


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scorer=a.safetensors,b.safetensors", ["a.safetensors", "b.safetensors"]),
        ("scorer=runs/x y/alpha=1/a,runs/(b)", ["runs/x y/alpha=1/a", "runs/(b)"]),
        ("scorer=[a,b]", ["a", "b"]),
        ("scorer=a", "a"),
        ('scorer="a,b"', "a,b"),
    ],
)
def test_commas_make_a_list_of_files(argument, value):
    (override,) = OverridesParser.create().parse_overrides([as_list(argument, ["scorer"])])
    assert override.value() == value or list(map(str, override.value())) == value


def test_other_keys_are_left_to_hydra():
    assert as_list("seed=1,2,3", ["scorer"]) == "seed=1,2,3"
