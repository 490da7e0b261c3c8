"""What the entries share: where the configs lie, how a run is tracked, how a user's mistake is told.

Lightning, pandas and MLflow are imported where they are needed: a command that only scores does not wait for them.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import platform
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from arniqa_pl.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the configs inside the package; a checkout has them at its top.
CONFIG_DIR = next(folder for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if folder.is_dir())


def _session_dir(*arguments: Any) -> str:
    from arniqa_pl.runs import session_dir

    return session_dir(*arguments)


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
            keep_freed_memory()
            if getattr(rank_zero_only, "rank", 0):  # Lightning, if imported, starts the command again for each device
                logging.getLogger().setLevel(logging.WARNING)
            try:
                refuse_shared_process(cfg)
                return command(cfg)
            except InputError as error:
                # The one kind of exception that Hydra prints without a traceback; it exits with 1 all the same.
                raise CompactHydraException(str(error)) from error
            except (KeyboardInterrupt, SystemExit) as stop:
                if _asked_to_leave(stop):
                    raise SystemExit(128 + signal.SIGTERM) from stop
                log.warning("Stopped before the end; what was finished is kept.")
                raise

        def command_line() -> Any:
            if not {"-m", "--multirun"} & set(sys.argv):
                sys.argv[1:] = [as_list(argument, lists) for argument in sys.argv[1:]]
            return run()

        return functools.wraps(command)(command_line)

    return decorate


def _asked_to_leave(stop: BaseException) -> bool:
    """Say whether Lightning ended its loop because of SIGTERM; without Lightning that ends the process by itself."""
    if "lightning" not in sys.modules:
        return False
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    return isinstance(stop, SIGTERMException)


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


def refuse_shared_process(cfg: DictConfig) -> None:
    """Refuse a sweep whose jobs run in this process while each wants to start more processes like it.

    Raises:
        InputError: says which ways work.

    """
    if HydraConfig.get().mode != RunMode.MULTIRUN or "trainer" not in cfg:
        return
    from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

    launcher = instantiate(cfg.trainer)(logger=False, enable_checkpointing=False).strategy.launcher
    shares = isinstance(launcher, _SubprocessScriptLauncher)
    if shares and not launcher.cluster_environment.creates_processes_externally:
        raise InputError(
            f"Wanted a process of its own for each job of a sweep over {launcher.num_processes} devices, found Hydra's "
            f"launcher {HydraConfig.get().runtime.choices['hydra/launcher']}, from which Lightning would start the "
            "whole sweep again on each device. Start the jobs one by one (for seed in 1 2 3; do python -m … "
            "seed=$seed; done), or let SLURM start them: hydra/launcher=submitit_slurm with "
            "hydra.launcher.tasks_per_node=<devices>."
        )


def build(configs: Mapping[str, DictConfig]) -> dict[str, Any]:
    """Instantiate configs by name; what is wrong with any of them is told at once, not one run at a time.

    Raises:
        InputError: joins the messages of all that could not be built, or are databases without all their images.

    """
    from arniqa_pl.data.databases import Database

    built, errors = {}, []
    for name, config in configs.items():
        try:
            built[name] = read_input(config)
            if isinstance(built[name], Database):
                built[name].require_images()
        except InputError as error:
            errors.append(str(error))
    if errors:
        raise InputError("\n".join(errors))
    return built


def read_input(config: DictConfig) -> Any:
    """Instantiate a config; an InputError comes through as it is, not inside one of Hydra's."""
    try:
        return instantiate(config)
    except InstantiationException as error:
        if not isinstance(error.__cause__, InputError):
            raise
        raise error.__cause__ from None


@contextmanager
def tracked_run(cfg: DictConfig) -> Iterator[Any]:
    """Open the MLflow run of this command and record what it takes to repeat it.

    Yields:
        Lightning's MLFlowLogger. The run ends FINISHED, or FAILED if an exception leaves the block.

    """
    import mlflow  # takes seconds: commands that do not track must not pay for it

    from arniqa_pl.runs import mlflow_run_id

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # after the import, which sets it to INFO
    Path(cfg.paths.runs_dir).mkdir(parents=True, exist_ok=True)
    resumed = mlflow_run_id(Path(cfg.paths.run_dir)) if cfg.get("resume") else None
    logger = instantiate(cfg.logger, run_name=Path(cfg.paths.run_dir).name, run_id=resumed)
    if getattr(rank_zero_only, "rank", 0):
        yield logger
        return
    mlflow.set_tracking_uri(cfg.logger.tracking_uri)
    with mlflow.start_run(run_id=logger.run_id, log_system_metrics=True):
        if resumed is None:
            settings = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
            logger.log_hyperparams(settings)
            mlflow.log_dict(settings, "config.yaml")
            mlflow.set_tag("run_dir", str(Path(cfg.paths.run_dir).resolve()))
        mlflow.set_tags({f"version.{name}": version for name, version in versions().items()})
        started = time.monotonic()
        yield logger
        mlflow.log_metric("minutes", (time.monotonic() - started) / 60)


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of what it computes with."""
    packages = ("arniqa_pl", "torch", "torchvision", "lightning", "kornia", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


@rank_zero_only
def log_dataset(name: str, table: "pd.DataFrame", root: Path | str, context: str) -> None:
    """Record on the active MLflow run which rows it saw: a digest of every path, file size and further column.

    Args:
        name: what the data set is called.
        table: a row for each image; the column image holds paths relative to root, bytes (if there) their sizes.
        root: folder of the images, or another source with sizes in the table.
        context: what they were used for.

    """
    import mlflow
    from mlflow.data.pandas_dataset import from_pandas

    if "bytes" not in table:
        table = table.assign(bytes=[(Path(root) / image).stat().st_size for image in table["image"]])
    digest = hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16]
    source = str(root.resolve()) if isinstance(root, Path) else root
    dataset = from_pandas(table.astype(str), source=source, name=name, digest=digest)
    mlflow.log_input(dataset, context=context)
