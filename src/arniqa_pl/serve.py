"""python -m arniqa_pl.serve scorer=<file>: a page on http://127.0.0.1:8000 that scores the images dropped on it."""

import contextlib
import functools
import logging
import socket

from omegaconf import DictConfig

from arniqa_pl import launch
from arniqa_pl.data.images import read_image
from arniqa_pl.demo import demo_photos
from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import WHOLE, Scorer

log = logging.getLogger(__name__)

LOCAL = ("127.0.0.1", "localhost", "::1")
PART = 224  # px: of the photographs' parts that a scorer of whole images is shown the distortions on


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

    @functools.cache
    def distortion_map() -> DistortionMap:
        size = PART if scorer.crops == WHOLE else scorer.crop_size
        return DistortionMap(scorer.encoder, [read_image(file) for file in demo_photos()[: cfg.map_photos]], size)

    with listen(cfg.host, cfg.port) as listener:
        app = create_app(scorer, distortion_map, hosts=LOCAL if cfg.host in LOCAL else ("*",), **cfg.limits)
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
