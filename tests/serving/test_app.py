"""The page's server through real HTTP: what its one page asks, and what others may try."""

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import torch
from PIL import Image

from arniqa_pl.data.images import normalize, read_image, to_tensor, to_unit
from arniqa_pl.demo import demo_photos
from arniqa_pl.distortions import CATALOG, distort
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.quality import Scorer
from arniqa_pl.serve import listen
from arniqa_pl.serving.nearest import DistortionMap


def ask(address: str, content: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(address, content, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_the_page_loads_nothing_from_elsewhere(page):
    status, text = ask(page)
    assert status == 200
    assert "Drop images here" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert [ask(f"{page}/{path}")[0] for path in ("docs", "openapi.json", "redoc")] == [404] * 3


def test_an_image_gets_its_score_crops_and_nearest_distortions(page, photo, scorer_file):
    image = photo.resize((300, 200))
    status, text = ask(f"{page}/score", encoded(image))
    assert status == 200, text
    found, scorer = json.loads(text), Scorer.load(scorer_file)
    score = scorer.score(image)
    assert found["score"] == pytest.approx(float(score), abs=1e-3)
    assert found["quality"] == pytest.approx(float(scorer.to_quality(score)), abs=1e-4)
    assert (found["outside"], found["size"]) == (bool(scorer.outside(score)), [300, 200])
    boxes = [
        [round(share * side) for share, side in zip(crop["box"], (300, 200, 300, 200), strict=True)]
        for crop in found["crops"]
    ]
    assert boxes == [[x, y, 64, 64] for x, y in ((118, 68), (0, 0), (236, 0), (0, 136), (236, 136))]
    crops = scorer.ridge(scorer.features(image)[0]).flatten()
    assert [crop["quality"] for crop in found["crops"]] == pytest.approx(scorer.to_quality(crops).tolist(), abs=1e-4)
    assert len(found["nearest"]) == 5
    cosines = [each["cosine"] for each in found["nearest"]]
    assert cosines == sorted(cosines, reverse=True)
    assert {each["distortion"] for each in found["nearest"]} <= {*CATALOG, "pristine"}
    preview = base64.b64decode(found["preview"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(preview)).size == (300, 200)


def test_an_image_smaller_than_a_crop_is_one_box(page, photo):
    found = json.loads(ask(f"{page}/score", encoded(photo.resize((50, 40))))[1])
    assert [crop["box"] for crop in found["crops"]] == [[0, 0, 1, 1]] * 5


def test_what_cannot_be_scored_is_told(page, photo):
    assert ask(f"{page}/score", b"no image") == (422, '{"detail":"Wanted an image, could not decode 8 bytes as one."}')
    assert ask(f"{page}/score", b"")[0] == 422
    whole = encoded(photo.resize((300, 200)))
    assert ask(f"{page}/score", whole[: len(whole) // 2])[0] == 422
    status, text = ask(f"{page}/score", encoded(photo.resize((301, 300))))
    assert (status, "at most 90,000 pixels, got 301 × 300" in text) == (413, True)
    status, text = ask(f"{page}/score", bytes(200_001))
    assert (status, "at most 200,000 bytes" in text) == (413, True)


def test_a_body_without_end_is_cut_off(page):
    """Sent in chunks, whose sum no header tells."""
    connection = HTTPConnection(urlsplit(page).netloc, timeout=60)
    connection.request("POST", "/score", iter([bytes(50_000)] * 40), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_only_so_many_images_wait(page, photo):
    """Two requests that do not end take the two places; when they end, there is room again."""
    image = encoded(photo.resize((300, 200)))
    places = [HTTPConnection(urlsplit(page).netloc, timeout=60) for _ in range(2)]
    for place in places:
        place.putrequest("POST", "/score")
        place.putheader("Content-Length", str(len(image)))
        place.endheaders(image[:100])
    deadline = time.monotonic() + 30
    while (answer := ask(f"{page}/score", image))[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer == (503, '{"detail":"2 images are waiting already: send this one again later."}')
    for place in places:
        place.send(image[100:])
        assert place.getresponse().status == 200
        place.close()
    assert ask(f"{page}/score", image)[0] == 200


def test_threads_that_ask_at_once_get_their_own_answers(page, photo):
    images = [encoded(photo.resize((200 + 40 * k, 150))) for k in range(2)]
    alone = [json.loads(ask(f"{page}/score", image)[1])["score"] for image in images]
    together: dict[int, float] = {}

    def question(k: int) -> None:
        together[k] = json.loads(ask(f"{page}/score", images[k])[1])["score"]

    threads = [threading.Thread(target=question, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[k] for k in range(2)] == pytest.approx(alone, abs=1e-4)


def test_other_names_for_this_address_are_refused(page):
    assert ask(page, Host="attacker.example")[0] == 400
    assert ask(page, Host="localhost")[0] == 200


def test_a_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"Wanted to listen on 127\.0\.0\.1:{port}, could not: .* Try port=0"):
            listen("127.0.0.1", port)


def test_a_degraded_photograph_is_where_the_map_has_it():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder("resnet18").eval()
    photo = read_image(demo_photos()[0]).resize((384, 384))  # of which the map sees the middle
    found = DistortionMap(encoder, [photo], 64)
    assert len(set(found.names)) == 1 + 24 * 5
    tile = to_unit(to_tensor(photo.crop((160, 160, 224, 224))))[None]
    with torch.no_grad():
        for name, level in (("gaussian_blur", 3), ("darken", 5), ("jpeg", 4)):
            near = found.nearest(encoder(normalize(distort(tile, name, level)))[0], 25)
            assert near[0][:2] == (name, level)
            assert near[0].cosine == pytest.approx(1, abs=1e-3)
            assert {each.distortion for each in near} == {*CATALOG, "pristine"}
        undistorted = found.nearest(encoder(normalize(tile))[0], 2)
    assert {near[:2] for near in undistorted} == {("pristine", 0), ("gaussian_blur", 1)}  # whose kernel is one pixel
