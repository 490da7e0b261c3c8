"""python -m arniqa_pl.serve scorer=<file>: a page on http://127.0.0.1:8000 that scores the images dropped on it."""

import contextlib
import logging
import socket
from concurrent.futures import ThreadPoolExecutor

from omegaconf import DictConfig

from arniqa_pl import launch
from arniqa_pl.data.images import read_image
from arniqa_pl.demo import demo_photos
from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import Scorer

log = logging.getLogger(__name__)

LOCAL = ("127.0.0.1", "localhost", "::1")
WHOLE_SIZE = 224  # px: of the photographs' parts that a scorer of whole images is shown the distortions on


@launch.entry("serve")
def main(cfg: DictConfig) -> None:
    """Serve the page until it is interrupted."""
    try:
        import uvicorn

        from arniqa_pl.serving.app import create_app
    except ImportError as error:
        raise InputError(
            f"Wanted the packages of the extra serve, {error.name} is not installed: pip install 'arniqa_pl[serve]'."
        ) from error
    from arniqa_pl.serving.nearest import DistortionMap

    scorer = Scorer.load(str(cfg.scorer))
    listener = listen(cfg.host, cfg.port)
    with listener, ThreadPoolExecutor(1) as pool:
        photos = [read_image(file) for file in demo_photos()[: cfg.photos]]
        size = WHOLE_SIZE if scorer.crops == "whole" else scorer.crop_size
        distortion_map = pool.submit(DistortionMap, scorer.encoder, photos, size)  # half a minute with a ResNet-50
        hosts = LOCAL if cfg.host in LOCAL else ("*",)
        app = create_app(scorer, distortion_map.result, hosts=hosts, **cfg.limits)
        log.info("Scoring on http://%s:%d, until interrupted (Ctrl-C)", cfg.host, listener.getsockname()[1])
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Raises:
        InputError: somebody else has it, or the host is no address of this machine.

    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise InputError(f"Wanted to listen on {host}:{port}, could not: {error}. Try port=0, any free one.") from error


if __name__ == "__main__":
    main()
