"""Where results come from: what ran, from which source, with which versions, on what."""

import importlib.metadata
import platform
import shlex
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from arniqa_pl.tracking.privacy import anonymous


def origin(cfg: DictConfig) -> dict[str, str]:
    """Return tags that say what a run did, on what, from which source, where it left its files, and how to repeat it.

    `run_dir` is how a run's folder is found by its MLflow id.
    """
    from mlflow.tracking.context.git_context import GitRunContext

    job, git = HydraConfig.get().job.name, GitRunContext()
    return {
        "stage": job,
        "database": ",".join(cfg.databases),
        "command": command([f"arniqa_pl.{job}", *HydraConfig.get().overrides.task]),
        "run_dir": str(Path(cfg.paths.run_dir).resolve()),
        "mlflow.source.name": f"arniqa_pl.{job}",
        "mlflow.source.type": "LOCAL",
        **(git.tags() if git.in_context() else {}),
    }


def command(words: list[str]) -> str:
    """Return `python -m` and these words as a shell takes them, with $HOME and $USER for what is personal."""
    quoted = []
    for word in words:
        shared = anonymous(word)
        quoted.append(shlex.quote(word) if shared == word else '"' + shared.replace('"', '\\"') + '"')
    return " ".join(["python -m", *quoted])


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of what it computes with."""
    computing = ("arniqa_pl", "torch", "torchvision", "lightning", "kornia", "numpy", "scikit-learn")
    decoding = ("pillow", "imagecodecs")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in (*computing, *decoding)
    }


def machine() -> dict[str, str]:
    """Return the system, the processor with the threads that compute on it, and the GPUs."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": f"{model or platform.processor()}, {torch.get_num_threads()} threads",
        "gpu": ", ".join(gpus) or "none",
    }
