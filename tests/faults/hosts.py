"""Two hosts on one machine: network namespaces with an address each, joined by a cable that can be pulled."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ADDRESSES = ("10.77.0.1", "10.77.0.2")  # seen inside the namespaces only


class Hosts:
    """Namespaces of this process, which share its files: as hosts of a cluster share a file system."""

    def __init__(self) -> None:
        self.names = tuple(f"arniqa-{os.getpid()}-{side}" for side in "ab")
        self.port = 29500

    def build(self) -> None:
        """Make both and plug the cable in; OSError or CalledProcessError: not allowed here."""
        first, second = self.names
        for name in self.names:
            _ip("netns", "add", name)
        _ip("link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", "eth0", "netns", second)
        for name, address in zip(self.names, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
        self.plug()

    def plug(self) -> None:
        """Have the network up at both ends."""
        for name in self.names:
            _ip("-n", name, "link", "set", "eth0", "up")

    def pull(self) -> None:
        """Take the second host off the network: nobody is told, what is sent just gets lost."""
        _ip("-n", self.names[1], "link", "set", "eth0", "down")

    def remove(self) -> None:
        """Take down what there is; the cable goes with its ends."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def start(self, folder: Path, verb: str, *overrides: str) -> list[subprocess.Popen]:
        """Start torchrun with one process on each host, as docs/scaling.md has it."""
        self.port += 1  # the last one may not be free yet
        place = ["--nnodes=2", f"--master-addr={ADDRESSES[0]}", f"--master-port={self.port}"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *place]
        both = ["trainer=ddp", "trainer.num_nodes=2", "trainer.accelerator=cpu"]
        command = ["-m", f"arniqa_pl.{verb}", *both, *overrides]
        return [
            subprocess.Popen(
                ["ip", "netns", "exec", name, *torchrun, f"--node-rank={rank}", *command],
                cwd=folder,
                # By itself gloo takes the interface that the host's name leads to: here the one without a network.
                env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            for rank, name in enumerate(self.names)
        ]


def end(processes: list[subprocess.Popen], seconds: float) -> list[tuple[int, str]]:
    """Wait for the exit code and the output of each; in the end nothing of them is left."""
    try:
        return [(process.wait(seconds), process.communicate()[0]) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)
