import logging
import threading
from collections.abc import Callable
from typing import Any

from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)

INTERVAL = 10.0  # s


class SystemMetrics(threading.Thread):
    """Logs what MLflow measures of processor, memory, disk, network and GPU, as `system/…`, at every interval.

    MLflow's own SystemMetricsMonitor does not start without a server, and stops when one does not answer.
    """

    def __init__(self, log_metrics: Callable[[dict[str, float], int], None], first_step: int) -> None:
        super().__init__(name="SystemMetrics", daemon=True)
        self.log_metrics = log_metrics
        self.step = first_step
        self._closing = threading.Event()

    def run(self) -> None:
        """Measure until `close`."""
        monitors = _monitors()
        while not self._closing.wait(INTERVAL):
            measured: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                measured |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            try:
                self.log_metrics({f"system/{name}": value for name, value in measured.items()}, self.step)
            except InputError:  # the disk is full, which the run itself will say
                return
            self.step += 1

    def close(self) -> None:
        """End; there are no further records after it."""
        self._closing.set()
        self.join()


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (ImportError, RuntimeError):  # no NVIDIA GPU, or not the package that asks it
        log.debug("No GPU to measure.")
    return monitors
