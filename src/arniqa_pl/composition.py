"""Where the configs are, and what one has to hold before anything is built from it: right types, known targets."""

import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.grammar_parser import OmegaConfGrammarParser, parse

from arniqa_pl.errors import InputError

PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the configs inside the package; a checkout has them at its top.
CONFIG_DIR = next(folder for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if folder.is_dir())

_TARGET = re.compile(r"_target_: *([\w.]+)")
OWN_TARGETS = frozenset(name for file in CONFIG_DIR.rglob("*.yaml") for name in _TARGET.findall(file.read_text()))
"""What the project's own configs call."""
TRUSTED = (
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.plugins.",
    "lightning.pytorch.profilers.",
    "lightning.pytorch.strategies.",
    "torch.optim.",
)
TRUSTED_CALLABLES = (*OWN_TARGETS, "numpy.geomspace", "numpy.linspace", "numpy.logspace")
TRUSTED_RESOLVERS = ("hydra",)  # of where the run's folder is; others read variables, files, or make configs of text

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
    """Refuse a config of unknown origin that names callables, or resolvers, which no config of ours needs.

    Raises:
        InputError: names the key and the callable or the value.

    """
    for key, value in _texts(cfg, ""):
        if "$" in value and not set(_resolvers(parse(value))) <= set(TRUSTED_RESOLVERS):
            raise InputError(
                f"Wanted no resolvers in the config but {', '.join(TRUSTED_RESOLVERS)}, found {value} at {key}, which "
                "is not looked up. If you trust it, give the value on this command line."
            )
    for key, node in _nodes(cfg, ""):
        if "_target_" not in node:
            continue
        # What an interpolation leads to may be another callable when it is called.
        target = str(node._get_node("_target_")._value())  # type: ignore[union-attr]
        if target not in TRUSTED_CALLABLES and not _is_trusted(target):
            raise InputError(
                f"Wanted only callables of arniqa_pl's own configs, Lightning and torch.optim in the config, found "
                f"{target} at {key}, which is not run. If you trust it, start the run from its own yaml files."
            )


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the values that are text, as written, with their keys."""
    keys: Iterable[Any] = node if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        child = node._get_node(key)
        value, where = child._value(), f"{path}.{key}".lstrip(".")
        if isinstance(value, str):
            yield where, value
        elif OmegaConf.is_config(child) and value is not None:
            yield from _texts(child, where)


def _resolvers(tree: Any) -> Iterator[str]:
    """Yield the names of the resolvers that a value asks, however deep one is inside another."""
    if isinstance(tree, OmegaConfGrammarParser.InterpolationResolverContext):
        yield tree.resolverName().getText()
    for child in getattr(tree, "children", None) or ():
        yield from _resolvers(child)


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
