"""What the entries share: where the configs lie, how a run is tracked, how a user's mistake is told.

Lightning, pandas and MLflow are imported where they are needed: a command that only scores does not wait for them.
"""

import ctypes
import errno
import functools
import logging
import signal
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.utils import instantiate
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from arniqa_pl import jobs
from arniqa_pl.composition import CONFIG_DIR
from arniqa_pl.errors import FULL, InputError, writing
from arniqa_pl.overrides import check_overrides, check_shown

log = logging.getLogger(__name__)

# database=all: every published one, so every one that has a config, but for the user's own table.
PUBLISHED = sorted({file.stem for file in (CONFIG_DIR / "database").glob("*.yaml")} - {"csv"})
# Hydra copies the store, which nobody changes, for each config group that --help lists: most of the time it took.
ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
ConfigStore.instance().store("all", {"defaults": PUBLISHED}, group="database", package="_global_")


def _session_dir(*arguments: Any) -> str:
    from arniqa_pl.runs import session_dir

    try:
        return session_dir(*arguments)
    except InputError as error:  # of which Hydra, which only asks where to write, would print a traceback
        raise SystemExit(str(error)) from error


OmegaConf.register_new_resolver("session_dir", _session_dir, replace=True)


def entry(config_name: str, lists: Collection[str] = ()) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make a function of a config a command: composed by Hydra, with a user's mistakes told in one sentence.

    Args:
        config_name: the root config, `conf/<config_name>.yaml`.
        lists: keys that take several files as `key=a,b,c`, which Hydra alone would read as a sweep.

    """

    def decorate(command: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)
        @functools.wraps(command)
        def run(cfg: DictConfig) -> Any:
            logging.captureWarnings(True)
            logging.getLogger("imagecodecs").setLevel(logging.ERROR)  # libpng warns of metadata, and names no file
            keep_freed_memory()
            if getattr(rank_zero_only, "rank", 0):  # Lightning, if imported, starts the command again for each device
                logging.getLogger().setLevel(logging.WARNING)
            try:
                with writing(HydraConfig.get().runtime.output_dir, FULL):
                    return jobs.run_job(cfg, checked)
            except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
                key = str(error).splitlines()[0].rpartition(" ")[2]  # OmegaConf's first line ends with it
                raise CompactHydraException(f"Wanted {key}=…, which has no default: add it to the command.") from None
            except (InputError, InstantiationException, OSError, RuntimeError) as error:
                cause = error.__cause__ if isinstance(error, InstantiationException) else error
                if (sentence := _in_a_sentence(cause)) is None:
                    raise
                # The one kind of exception that Hydra prints without a traceback; it exits with 1 all the same.
                raise CompactHydraException(sentence) from cause
            except (KeyboardInterrupt, SystemExit) as stop:
                if _asked_to_leave(stop):
                    raise SystemExit(128 + signal.SIGTERM) from stop
                log.warning("Stopped before the end; what was finished is kept.")
                raise

        def checked(cfg: DictConfig) -> Any:
            check_overrides(cfg, config_name, list(HydraConfig.get().overrides.task))
            return command(cfg)

        def command_line() -> Any:
            try:
                sys.argv[1:] = jobs.continued(sys.argv[1:])
                if not {"-m", "--multirun"} & set(sys.argv):
                    sys.argv[1:] = [as_list(argument, lists) for argument in sys.argv[1:]]
                check_shown(config_name)
            except InputError as error:
                raise SystemExit(str(error)) from error
            try:
                return run()
            except (
                KeyboardInterrupt
            ):  # by which the process ends, so that a loop of a shell ends, too; it has been told
                sys.excepthook = lambda *_: None
                raise

        return functools.wraps(command)(command_line)

    return decorate


def run_verb(verbs: Mapping[str, Callable[[], Any]]) -> None:
    """Run the command that the first word names, or else the first one: Hydra knows overrides and flags only."""
    verb = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1].isidentifier() else next(iter(verbs))
    if verb not in verbs:
        sys.exit(f"Wanted python -m arniqa_pl.{Path(sys.argv[0]).stem} {' | '.join(verbs)}, got {verb!r}.")
    verbs[verb]()


def _asked_to_leave(stop: BaseException) -> bool:
    """Say whether Lightning ended its loop because of SIGTERM; without Lightning that ends the process by itself."""
    if "lightning" not in sys.modules:
        return False
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    return isinstance(stop, SIGTERMException)


def _in_a_sentence(error: BaseException | None) -> str | None:
    """Say what an error means that the user, or the machine, can do something about; None: it is a fault of ours."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ACCESS and error.filename is not None:
        return (
            f"Wanted to open {error.filename}, could not: {error.strerror}. Give this user access to it, or "
            "name another place."
        )
    if killed := _killed_loader(error):
        return (
            f"A process that loads images was killed: {killed} The system does so where memory runs out: lower "
            "num_workers, batch_size or cache_images (of data or features), and run the command again; a training goes "
            "on with resume=<its folder>."
        )
    if isinstance(error, RuntimeError) and _left_alone(error):
        return (
            f"Wanted an answer from the other processes of this command, found none ({error}): one of them, its host "
            "or the network is gone; see what they said. Training goes on from its last checkpoint with resume=<folder "
            "of the run>."
        )
    return None


_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR)


def _killed_loader(error: BaseException | None) -> str | None:
    """Return what PyTorch says of a loader process that was killed.

    It does from a signal handler, in the middle of anything: a save, for one, then fails with an error of its own.
    """
    while error is not None:
        first = next(iter(str(error).splitlines()), "")
        if first.startswith("DataLoader worker"):
            return first
        error = error.__context__
    return None


def _left_alone(error: RuntimeError) -> bool:
    """Say whether another process did not answer: PyTorch has an error for that, gloo only names its source file."""
    if "torch" not in sys.modules:
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo/transport" in str(error)


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next step, instead of handing it back to the system.

    Every step of a network on the CPU allocates the same hundreds of megabytes; getting them afresh from the system,
    page by page, takes up to twice as long as the arithmetic. Other C libraries have no such call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def as_list(argument: str, keys: Collection[str]) -> str:
    """Return the override `key=a,b` as `key=["a","b"]` if its key is one of these; others, and lists, as they are."""
    key, _, value = argument.partition("=")
    if key not in keys or "," not in value or value[0] in "[\"'":
        return argument
    quoted = [each.replace("\\", "\\\\").replace('"', '\\"') for each in value.split(",")]
    return f"{key}=[" + ",".join(f'"{each}"' for each in quoted) + "]"


def build(configs: Mapping[str, DictConfig]) -> dict[str, Any]:
    """Instantiate configs by name; what is wrong with any of them is told at once, not one run at a time.

    Raises:
        InputError: joins the messages of all that could not be built, or are databases with missing images or a fault.

    """
    from arniqa_pl.data.check import require_sound
    from arniqa_pl.data.databases import Database

    built, errors = {}, []
    for name, config in configs.items():
        try:
            built[name] = read_input(config)
            if isinstance(built[name], Database):
                require_sound(built[name].require_images())
        except InputError as error:
            errors.append(str(error))
    if errors:
        raise InputError("\n".join(errors))
    return built


def require_databases(cfg: DictConfig) -> None:
    """Refuse database=[].

    Raises:
        InputError: there is none.

    """
    if not cfg.databases:
        raise InputError(f"Wanted database=<name> or a list of names, found none: {', '.join([*PUBLISHED, 'csv'])}.")


def read_input(config: DictConfig) -> Any:
    """Instantiate a config; a user's mistake comes through as it is, not inside one of Hydra's exceptions."""
    try:
        return instantiate(config)
    except InstantiationException as error:
        if (sentence := _in_a_sentence(error.__cause__)) is None:
            raise
        raise InputError(sentence) from error.__cause__
