"""Where the configs are, and what one has to hold before anything is built from it: right types, known targets."""

import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from arniqa_pl.errors import InputError

PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the configs inside the package; a checkout has them at its top.
CONFIG_DIR = next(folder for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if folder.is_dir())

TRUSTED = (
    "arniqa_pl.",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.plugins.",
    "lightning.pytorch.profilers.",
    "lightning.pytorch.strategies.",
    "torch.optim.",
)
TRUSTED_CALLABLES = ("lightning.Trainer", "numpy.geomspace", "numpy.linspace", "numpy.logspace")

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}


def check_types(cfg: DictConfig, defaults: DictConfig) -> None:
    """Refuse values that what is built from them does not take.

    A value below a `_target_` is held against the annotation of the argument that it becomes. Where there is none, it
    is held against the value that the yaml files give it: against its type, or a list of it. An interpolation is not
    looked at, its source is.

    Args:
        cfg: a command's config, unresolved.
        defaults: the config of the same command with the same options of groups, but no value overridden.

    Raises:
        InputError: names the key, what was wanted and what was found.

    """
    for key, value, hint in _values(cfg):
        wanted = _like(OmegaConf.select(defaults, key)) if hint is Any else hint
        if not fits(value, wanted):
            raise InputError(f"Wanted {words(wanted)} for {key}, found {value!r}: --cfg job prints the defaults.")


def check_targets(cfg: DictConfig) -> None:
    """Refuse a config of unknown origin that names callables which no config of ours needs.

    Raises:
        InputError: names the key and the callable.

    """
    for key, node in _nodes(cfg, ""):
        target = str(node.get("_target_", "lightning.Trainer"))
        if target not in TRUSTED_CALLABLES and not _is_trusted(target):
            raise InputError(
                f"Wanted only callables of arniqa_pl, Lightning and torch.optim in the config, found {target} at "
                f"{key}, which is not run. If you trust it, start the run from its own yaml files."
            )


def _is_trusted(target: str) -> bool:
    if not target.startswith(TRUSTED):
        return False
    found = get_object(target)  # imports trusted modules only; but these may have others as attributes
    return f"{found.__module__}.".startswith(TRUSTED)


def _nodes(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    """Yield all dictionaries of a config, in lists as well, with their keys."""
    if isinstance(node, DictConfig):
        yield path, node
        below: Iterable[Any] = [key for key in node if not OmegaConf.is_missing(node, key)]
    else:
        below = range(len(node))
    for key in below:
        child = node._get_node(key)
        if OmegaConf.is_config(child) and not OmegaConf.is_interpolation(node, key) and child._value() is not None:
            yield from _nodes(child, f"{path}.{key}".lstrip("."))


def _values(cfg: DictConfig) -> Iterator[tuple[str, Any, Any]]:
    """Yield the key, the value and the annotation (Any: there is none) of everything that is not a dictionary."""
    for path, node in _nodes(cfg, ""):
        hints = _annotations(node["_target_"]) if "_target_" in node else {}
        for key in map(str, node):
            if key.startswith("_") or OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
                continue
            value = node[key]
            if isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
            if not isinstance(value, DictConfig):
                yield f"{path}.{key}".lstrip("."), value, hints.get(key, Any)


def _annotations(target: str) -> dict[str, Any]:
    called = get_object(target)
    return typing.get_type_hints(called.__init__ if inspect.isclass(called) else called)


def _like(default: Any) -> Any:
    """Return the annotation of values like this one: of its type, or lists of that."""
    if default is None or isinstance(default, DictConfig):
        return Any
    kind: Any = type(default)
    return list if isinstance(default, ListConfig) else kind | list[kind]


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value of a yaml file is of an annotated type; dictionaries, which build something, are."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is Any or isinstance(value, dict):
        return True
    if origin in (int, float):
        return isinstance(value, (int, origin)) and not isinstance(value, bool)
    if origin is Path:
        return isinstance(value, str)
    if isinstance(origin, type) and issubclass(origin, Iterable) and origin is not str:
        inner = [each for each in arguments if each is not ...] or [Any]
        return isinstance(value, list) and all(any(fits(each, one) for one in inner) for each in value)
    return not isinstance(origin, type) or isinstance(value, origin)


def words(hint: Any) -> str:
    """Return an annotation in words: "a whole number or null"."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(words, arguments)))
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if isinstance(origin, type) and issubclass(origin, Iterable) and origin is not str:
        return "a list"
    return _WORDS.get(origin) or str(getattr(origin, "__name__", origin))
