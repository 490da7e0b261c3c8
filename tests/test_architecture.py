"""Rules of the source tree that a reader relies on, checked on the files themselves."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "arniqa_pl"
FILES = sorted(PACKAGE.rglob("*.py"))
# What each package may import of the others; entries (the files at the top) may import all.
ALLOWED = {
    "data": {"data", "distortions", "errors"},
    "distortions": {"distortions", "errors"},
    "tracking": {"tracking", "errors"},
    "models": {"models", "tracking", "data", "distortions", "errors"},
    "pages": {"pages", "quality", "tracking", "errors"},
    "quality": {"quality", "models", "data", "errors"},
    "serving": {"serving", "quality", "models", "data", "distortions", "errors"},
}
MAY_DEGRADE = {"datamodule.py", "datasets.py"}  # the only files of data/ that know distortions


def imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names


def test_imports_go_one_way():
    checked = 0
    for file in FILES:
        package = file.relative_to(PACKAGE).parts[0]
        for name in imports(file):
            if name.startswith("arniqa_pl.") and package in ALLOWED:
                target = name.split(".")[1]
                assert target in ALLOWED[package], f"{file.name} imports {name}"
                if package == "data" and target == "distortions":
                    assert file.name in MAY_DEGRADE, f"{file.name} imports {name}"
                checked += 1
    assert checked > 40


def test_only_entries_know_configs():
    for file in FILES:
        if file.parent != PACKAGE:
            assert not {name for name in imports(file) if name.split(".")[0] in ("omegaconf", "hydra")}, file


def test_no_file_is_a_drawer():
    assert not {file.stem for file in FILES} & {"utils", "helpers", "common", "misc", "base"}
    assert max(len(file.read_text().splitlines()) for file in FILES) <= 300
