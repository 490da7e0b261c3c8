"""The command that exports and imports, through its real command line."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from arniqa_pl.errors import InputError
from arniqa_pl.export import local_file, named_database
from arniqa_pl.quality import Scorer
from tests.quality.test_checkpoints import files as published  # noqa: F401  a fixture
from tests.test_entries import run


@pytest.fixture(scope="module")
def address(published):  # noqa: F811
    """Where a server on this machine offers the published files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=published))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_published_files_are_imported_from_disk_and_from_an_address(published, address, tmp_path):  # noqa: F811
    encoder, regressor = published / "ARNIQA.pth", published / "regressor_kadid10k.pth"
    output = run(
        tmp_path,
        "export",
        "import",
        f"encoder={encoder}",
        f"encoder_sha256={checksum(encoder)}",
        f"regressor={address}/regressor_kadid10k.pth",
        f"regressor_sha256={checksum(regressor)}",
        TORCH_HOME=str(tmp_path / "cache"),
    )
    assert "ARNIQA as published for kadid10k: kadid10k.safetensors" in output
    scorer = Scorer.load(tmp_path / "kadid10k.safetensors")
    assert (scorer.encoder.name, float(scorer.ridge.bias), scorer.scale.database) == ("resnet50", 3.25, "kadid10k")


def test_an_address_needs_a_checksum_that_fits(published, address, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source, file = f"{address}/regressor_kadid10k.pth", published / "regressor_kadid10k.pth"
    with pytest.raises(InputError, match=r"Wanted regressor_sha256 with the address .*, found none"):
        local_file(source, None, "regressor")
    with pytest.raises(InputError, match=r"Wanted the 64 hexadecimal digits .* found 'abc'"):
        local_file(source, "abc", "regressor")
    with pytest.raises(InputError, match=r"could not fetch it: invalid hash value"):
        local_file(source, "0" * 64, "regressor")
    with pytest.raises(InputError, match="could not fetch it: HTTP Error 404"):
        local_file(f"{address}/gone.pth", "0" * 64, "regressor")
    with pytest.raises(InputError, match=f"Wanted the SHA-256 {'0' * 64} of the regressor"):
        local_file(str(file), "0" * 64, "regressor")
    assert not list((tmp_path / "checkpoints").iterdir())
    fetched = local_file(source, checksum(file).upper(), "regressor")
    assert fetched.read_bytes() == file.read_bytes()
    fetched.write_bytes(b"changed since")
    with pytest.raises(InputError, match="it is another file"):
        local_file(source, checksum(file), "regressor")


def test_the_database_is_in_the_regressors_name():
    assert named_database("https://example.org/v1/regressor_tid2013.pth") == "tid2013"
    with pytest.raises(InputError, match="database="):
        named_database("mine.pth")
