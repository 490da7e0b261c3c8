import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from arniqa_pl.data.databases import live, spaq
from arniqa_pl.errors import InputError
from arniqa_pl.launch import read_input
from arniqa_pl.quality.checkpoints import PUBLISHED, read_encoder, read_published, read_regressor
from tests.test_configs import composed


class LinearRegression(nn.Module):
    """A regressor as the published system wrote them: weights (1, 4096), one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.arange(4096.0)[None] / 4096)
        self.biases = nn.Parameter(torch.tensor(3.25))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weights.T + self.biases


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with ARNIQA.pth and regressor_kadid10k.pth: random weights in the published structure."""
    folder = tmp_path_factory.mktemp("published")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(*list(resnet50().children())[:-1])
    state = {f"model.{name}": value for name, value in trunk.state_dict().items()}
    state |= {f"projector.{layer}.{name}": torch.ones(2) for layer in (0, 2) for name in ("weight", "bias")}
    torch.save(state, folder / "ARNIQA.pth")
    torch.jit.script(LinearRegression()).save(folder / "regressor_kadid10k.pth")
    return folder


def test_the_published_files_become_a_scorer_of_the_same_network(files):
    scorer = read_published(files / "ARNIQA.pth", files / "regressor_kadid10k.pth", "kadid10k")
    trunk = resnet50()
    trunk.fc = nn.Identity()
    state = torch.load(files / "ARNIQA.pth", weights_only=True)
    names = [name for name, _ in trunk.named_children()]
    published = {key.split(".", 2)[1:2][0]: key for key in state if key.startswith("model.")}
    assert set(published) == {"0", "1", "4", "5", "6", "7"}
    trunk.load_state_dict(
        {
            f"{names[int(key.split('.')[1])]}.{key.split('.', 2)[2]}": value
            for key, value in state.items()
            if "model" in key
        }
    )
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = nn.functional.normalize(trunk.eval()(images))
        torch.testing.assert_close(scorer.encoder(images), wanted, rtol=0, atol=1e-6)
    regressor = torch.jit.load(files / "regressor_kadid10k.pth")
    features = torch.rand(3, 4096)
    torch.testing.assert_close(scorer.ridge(features), regressor(features))
    assert (scorer.crop_size, scorer.crops, scorer.short_side) == (224, 5, None)
    assert (scorer.scale.nominal, scorer.scale.higher_is_better, scorer.scale.srcc) == ((1, 5), True, 0.908)
    assert scorer.to_quality(torch.tensor([1.0, 4.0, 5.0])).tolist() == [0, 0.75, 1]


def test_the_scales_are_those_of_the_readers(replicas):
    cfg = composed("train", f"database=[{','.join(PUBLISHED)}]", f"paths.data_dir={replicas}")
    for name, facts in PUBLISHED.items():
        database = read_input(cfg.databases[name])
        found = (database.score_range, database.higher_is_better, database.short_side)
        nominal = (0.0, 100.0) if name == "koniq10k" else facts.nominal  # published as 1 to 100
        assert found == (nominal, facts.higher_is_better, facts.short_side), name
    assert (PUBLISHED["live"].higher_is_better, PUBLISHED["spaq"].short_side) == (False, 512)
    assert live.RELEASE.title
    assert spaq.RELEASE.title


def repack(source: Path, target: Path, name: str, content: bytes) -> Path:
    """Copy an archive with another content of one entry."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry.endswith(name) else old.read(entry))
    return target


def test_damaged_and_foreign_regressors_are_refused(files, tmp_path):
    good = files / "regressor_kadid10k.pth"
    for cut in (0, 100, 2000, good.stat().st_size - 10):
        (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:cut])
        with pytest.raises(InputError, match="could not read it"):
            read_regressor(tmp_path / "cut.pth", 4096)
    with pytest.raises(InputError, match="promises 1048577 bytes"):
        read_regressor(repack(good, tmp_path / "bomb.pth", "data/0", bytes(2**20 + 1)), 4096)
    with pytest.raises(InputError, match="could not read it"):
        read_regressor(repack(good, tmp_path / "short.pth", "data/0", bytes(16)), 4096)
    with pytest.raises(InputError, match=r"weights \(1, 1024\) and one bias .* found .*weights \(1, 4096\)"):
        read_regressor(good, 1024)
    with pytest.raises(InputError, match=r"wants to call torch\.LongStorage, which was refused"):
        read_regressor(files / "ARNIQA.pth", 4096)
    with pytest.raises(InputError, match=r"found no .*gone\.pth"):
        read_regressor(tmp_path / "gone.pth", 4096)


def test_foreign_encoders_and_databases_are_refused(files, tmp_path):
    torch.save({"state": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"keys like model\.0\.weight, found 'state'"):
        read_encoder(tmp_path / "other.pth")
    torch.save({"model.0.weight": torch.ones(2)}, tmp_path / "small.pth")
    with pytest.raises(InputError, match="ARNIQA's ResNet-50"):
        read_encoder(tmp_path / "small.pth")
    with pytest.raises(InputError, match="Wanted one of live, csiq"):
        read_published(files / "ARNIQA.pth", files / "regressor_kadid10k.pth", "pipal")
