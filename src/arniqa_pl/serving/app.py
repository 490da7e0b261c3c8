"""The web page and its two questions: what is this scorer, and how good is this image."""

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from arniqa_pl.data.crops import crop_places, with_short_side
from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import WHOLE, Scorer
from arniqa_pl.serving import intake
from arniqa_pl.serving.nearest import DistortionMap
from arniqa_pl.serving.portable import scale_facts

_PREVIEW = 640  # px, longest side of what the page shows
_NEAREST = 5


def create_app(
    scorer: Scorer,
    distortion_map: Callable[[], DistortionMap],
    *,
    max_images: int,
    max_bytes: int,
    max_pixels: int,
    max_seconds: float,
    hosts: Sequence[str],
) -> FastAPI:
    """Make the application: `/` is the page, `/about` what the scorer is, `POST /score` takes an image's bytes.

    Images are scored one at a time. Of those that wait at once, at most max_images are taken in, others get a 503.

    Args:
        scorer: on the CPU.
        distortion_map: returns the map; asked by one request at a time, the first of which waits for it.
        max_images: in the page at a time, and in the server at a time.
        max_bytes: of an encoded image.
        max_pixels: of a decoded image.
        max_seconds: that a request may take to arrive; a 408 after them.
        hosts: names that a request may call this server by; "*" for any. Another web site that points its own name
            at this address is refused.

    """
    app = FastAPI(title="arniqa_pl", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    page = (resources.files("arniqa_pl.serving") / "page.html").read_text()
    turn, room = threading.Lock(), threading.Semaphore(max_images)

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page

    @app.get("/about")
    def about() -> dict[str, Any]:
        limits = {"max_images": max_images, "max_bytes": max_bytes, "max_pixels": max_pixels}
        return {"scale": scale_facts(scorer), "encoder": scorer.encoder.name, **limits}

    def examine(content: bytes) -> dict[str, Any]:
        image = intake.decode(content, max_bytes=max_bytes, max_pixels=max_pixels)
        with turn:
            return report(scorer, image, distortion_map())

    @app.post("/score")
    async def score(request: Request) -> dict[str, Any]:
        if not room.acquire(blocking=False):
            raise HTTPException(503, f"{max_images} images are waiting already: send this one again later.")
        try:
            return await run_in_threadpool(examine, await _body(request, max_bytes, max_seconds))
        except intake.TooLargeError as error:
            raise HTTPException(413, str(error)) from error
        except InputError as error:
            raise HTTPException(422, str(error)) from error
        except TimeoutError as error:
            raise HTTPException(408, f"Wanted an image within {max_seconds:g} s, got a part of one.") from error
        finally:
            room.release()

    return app


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """Read a request's body, and stop when it has become too long, whatever its header said, or takes too long.

    Raises:
        TooLargeError: it has more bytes.
        TimeoutError: it takes more seconds.

    """
    body = bytearray()
    async with asyncio.timeout(seconds):
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise intake.TooLargeError(f"Wanted an image of at most {most:,} bytes, got more.")
    return bytes(body)


def report(scorer: Scorer, image: Image.Image, distortion_map: DistortionMap) -> dict[str, Any]:
    """Say how good an image is, where, and what it suffers from.

    Returns:
        score, quality, outside (of the range seen in training); size: (W, H) in pixels; crops: for each its left, top,
        width and height as shares of the image's, and its quality; nearest: distortion, level and cosine; preview: a
        small JPEG as a data URL. Plain values.

    """
    features = scorer.features(image)[0]  # (K, 2·D)
    crops = scorer.ridge(features).flatten().detach()
    score = crops.mean()
    full_scale = features[:, : features.shape[1] // 2].mean(dim=0)
    return {
        "score": float(score),
        "quality": float(scorer.to_quality(score)),
        "outside": bool(scorer.outside(score)),
        "size": image.size,
        "crops": [
            {"box": box, "quality": quality}
            for box, quality in zip(_boxes(scorer, image), scorer.to_quality(crops).tolist(), strict=True)
        ],
        "nearest": [each._asdict() for each in distortion_map.nearest(full_scale, _NEAREST)],
        "preview": _preview(image),
    }


def _boxes(scorer: Scorer, image: Image.Image) -> list[tuple[float, float, float, float]]:
    """Return where each crop lies at full scale: (left, top, width, height) as shares of the image's sides."""
    if scorer.crops == WHOLE:
        return [(0.0, 0.0, 1.0, 1.0)]
    width, height = with_short_side(image, scorer.short_side).size
    boxes = []
    for left, top in crop_places(width, height, scorer.crop_size)[: scorer.crops]:
        x, y = max(left, 0), max(top, 0)
        right, bottom = min(left + scorer.crop_size, width), min(top + scorer.crop_size, height)
        boxes.append((x / width, y / height, (right - x) / width, (bottom - y) / height))
    return boxes


def _preview(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_PREVIEW, _PREVIEW))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
