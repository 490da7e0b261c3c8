"""Does pre-training help, on photographs it never saw? The demo over three seeds, before and after pre-training.

    python benchmarks/demo_quality.py            2 CPU cores, no GPU: about 15 minutes

Seeds change pairs, crops, compositions, noise and the projector's weights; data, splits and the encoder's first
weights (ImageNet's) stay. Prints the median test SRCC of each seed, mean ± standard deviation over the seeds, and
exits with 1 below the floors: 0.80, and 0.15 above the encoder before pre-training.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console

SEEDS = (1, 2, 3)
FLOOR, GAIN = 0.80, 0.15


def main() -> int:
    console = Console()
    python = [sys.executable, "-m"]
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"paths.data_dir={folder}/data", f"paths.runs_dir={folder}/runs"]
        subprocess.run([*python, "arniqa_pl.prepare", f"output={folder}/data"], check=True)
        for seed in SEEDS:
            run = Path(folder) / str(seed)
            settings = ["experiment=demo", f"seed={seed}", f"hydra.run.dir={run}", *paths]
            subprocess.run([*python, "arniqa_pl.train", *settings], check=True)
            frames.append(pd.read_csv(run / "results.csv").set_index("encoder")["srcc"])
    table = pd.DataFrame(frames, index=pd.Index(SEEDS, name="seed"))
    console.print(table.round(3))
    mean, spread = table.mean(), table.std()
    for encoder in table:
        console.print(f"{encoder}: SRCC {mean[encoder]:.3f} ± {spread[encoder]:.3f}")
    gain = mean["pre-trained"] - mean["untrained"]
    console.print(f"gain {gain:.3f} (floor {GAIN}), pre-trained {mean['pre-trained']:.3f} (floor {FLOOR})")
    return 0 if gain >= GAIN and mean["pre-trained"] >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
