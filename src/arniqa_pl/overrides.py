"""What a command line changes: held against the types of what it changes, before anything is built or shown."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from arniqa_pl.composition import CONFIG_DIR, check_types


def check_overrides(cfg: DictConfig, config_name: str, overrides: Sequence[str]) -> None:
    """Refuse values of the wrong type that a command line gives; needs Hydra to be initialised.

    Args:
        cfg: as it was composed, unresolved, with or without its `hydra`.
        config_name: the root config.
        overrides: of the command line.

    Raises:
        InputError: names the key, what was wanted and what was found.

    """
    if overrides:
        check_types(_task(cfg), compose(config_name, _options(overrides)))


def check_shown(config_name: str) -> None:
    """Refuse the same for `--cfg` and `--info`, which end before a job starts, where Hydra lets nobody in.

    What cannot be composed at all is left to Hydra, which says so.

    Raises:
        InputError: names the key, what was wanted and what was found.

    """
    arguments = get_args_parser().parse_args(sys.argv[1:])
    if not (arguments.cfg or arguments.info):
        return
    with suppress(HydraException), initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        check_overrides(compose(config_name, arguments.overrides), config_name, arguments.overrides)


def check_sweep(config: DictConfig, config_name: str) -> None:
    """Refuse values of the wrong type in any job of a sweep, before the first one runs.

    Args:
        config: of the sweep, with its `hydra`, without what the sweep changes.
        config_name: the root config.

    Raises:
        InputError: names the key, what was wanted and what was found.

    """
    given = list(config.hydra.overrides.task)
    fixed = OverridesParser.create().parse_overrides(given)
    defaults = compose(config_name, _options([str(each.input_line) for each in fixed if not each.is_sweep_override()]))
    job = _task(config)
    check_types(job, defaults)
    for key, override in swept(config).items():
        listed = override.is_choice_sweep() or override.is_range_sweep()  # an interval has no values to look at
        if listed and not _options([key]):
            for value in override.sweep_string_iterator():
                one = job.copy()
                parsed = OverridesParser.create().parse_override(f"{key}={value}")
                OmegaConf.update(one, key, parsed.value(), force_add=True)
                check_types(one, defaults)


def swept(config: DictConfig) -> dict[str, Override]:
    """Return what a sweep changes, by its keys: from the sweeper's params and the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides(params + list(config.hydra.overrides.task))
    return {each.key_or_group: each for each in overrides if each.is_sweep_override()}


def _options(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that choose an option of a group."""
    return [each for each in overrides if (CONFIG_DIR / each.partition("=")[0].lstrip("+~")).is_dir()]


def _task(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
