import pytest

from arniqa_pl.tracking.privacy import anonymous, personal


@pytest.fixture(autouse=True)
def jane(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("LOGNAME", "jane")


@pytest.mark.parametrize(
    ("told", "shared"),
    [
        ("/home/jane/data/x.png", "$HOME/data/x.png"),
        ("/home/jane", "$HOME"),
        ("/home/janet/data", "/home/janet/data"),
        ("sqlite:////home/jane/runs/mlflow.db", "sqlite:///$HOME/runs/mlflow.db"),
        ("paths.data_dir=/scratch/jane/data", "paths.data_dir=/scratch/$USER/data"),
        ("[/scratch/jane, /scratch/janet]", "[/scratch/$USER, /scratch/janet]"),
        ("runs/jane/first", "runs/jane/first"),
        ("jane", "jane"),
    ],
)
def test_places_name_nobody_and_can_be_found_again(told, shared):
    assert anonymous(told) == shared
    assert personal(shared) == told


@pytest.mark.parametrize(
    ("told", "shared"),
    [
        ("https://jane:s3cret@host/mlflow", "https://host/mlflow"),
        ("postgresql+psycopg2://jane:p%40ss@host:5432/db", "postgresql+psycopg2://host:5432/db"),
        ("postgresql://host/db?user_password=x1&sslmode=on", "postgresql://host/db?user_password=***&sslmode=on"),
        ("https://bucket/a?X-Amz-Signature=abc&Expires=3", "https://bucket/a?X-Amz-Signature=***&Expires=3"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mail jane@host", "mail jane@host"),
    ],
)
def test_credentials_are_left_out(told, shared):
    assert anonymous(told) == shared


def test_settings_keep_their_shape():
    settings = {"paths": {"dir": "/home/jane/a", "all": ["/home/jane/b", 3, None]}, "seed": 27}
    assert anonymous(settings) == {"paths": {"dir": "$HOME/a", "all": ["$HOME/b", 3, None]}, "seed": 27}
