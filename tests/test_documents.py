"""The documents are true: every command is executed or says why not, every key exists, every link leads somewhere."""

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from PIL import Image

from arniqa_pl import __version__
from arniqa_pl.composition import CONFIG_DIR, check_types
from arniqa_pl.distortions import CATALOG
from arniqa_pl.launch import as_list
from arniqa_pl.runs import mlflow_run_id
from tests.documents import ROOT, TEXTS, blocks, copy_tree, follow, run_script
from tests.quality.test_checkpoints import files  # noqa: F401  a fixture
from tests.quality.test_scorer import make_scorer
from tests.test_configs import ROOTS
from tests.test_newcomer import PAGES as NEWCOMER

DOCS = ROOT / "docs"
FOLLOWED = [page for page in TEXTS if page not in NEWCOMER and any(block.kind == "run" for block in blocks(page))]
# What the pages leave to the reader, and what is shortened: name, and what it is read as where the page is followed.
STAND_INS = {
    "runs/kadid/<run>": "$(ls -d runs/kadid/*)",
    "runs/regression/<run>": "$(ls -d runs/regression/* | tail -1)",
    "runs/demo/<time>": "$(ls -d runs/demo/* | head -1)",
    "<run>,<run>": "runs/base/0,runs/base/1",
    "runs/<run>": "runs/base/0",
    "<run>": "runs/base/0",
    "<MLflow run id>": "",  # that of the run
    "max_distortions=1,2,4,7 seed=1,2,3": "max_distortions=1,2 seed=1",
    "max_distortions=1,2,4 seed=1,2,3": "max_distortions=1,2 seed=1",
    "experiment=ablation/distortions": "experiment=ablation/partner",
    "n_trials=20": "n_trials=2",
    "devices=4": "devices=2",
    "http://127.0.0.1:5000": "sqlite:///other.db",
    "/srv/images": "folder",
}
TINY = """
encoder: {name: resnet18, weights: none}
data: {crop_size: 32, batch_size: 2, samples_per_epoch: 4, num_workers: 0, validation_pairs: 2}
"""
SMALL = {  # on top of the root configs: the commands stay as they are on the page
    "train": TINY + "features: {crop_size: 32, crops: 1, num_workers: 0}\n"
    "ridge: {num_splits: 2, alphas: {num: 3}}\ntrainer: {max_epochs: 1, accelerator: cpu, precision: 32-true}\n",
    "regress": "features: {crop_size: 32, crops: 1, num_workers: 0}\nridge: {num_splits: 2, alphas: {num: 3}}\n"
    "trainer: {accelerator: cpu, precision: 32-true}\n",
    "evaluate": "features: {num_workers: 0}\ntrainer: {accelerator: cpu, precision: 32-true}\n",
    "manifold": "features: {crop_size: 32, num_workers: 0}\ntrainer: {accelerator: cpu, precision: 32-true}\n",
    "prepare": "pristine: 20\n",
}


def test_the_table_of_distortions_is_the_catalog():
    text = (DOCS / "distortions.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in text.splitlines() if row.startswith("| ")]
    wanted = [
        [row.name, row.group.replace("_", " "), ", ".join(f"{value:g}" for value in row.levels)]
        for row in CATALOG.values()
    ]
    assert rows[1:] == wanted


@pytest.mark.parametrize("page", ["scoring", "distortions"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_scorer().save("csv.safetensors")
    Image.new("RGB", (80, 70), "red").save("photo.jpg")
    (code,) = [block.text for block in blocks(f"docs/{page}.md") if block.language == "python"]
    names: dict[str, object] = {}
    exec(code, names)
    if page == "scoring":
        assert names["images"].grad.abs().max() > 0
    else:
        assert names["degraded"].shape == names["images"].shape
        assert not names["degraded"].equal(names["images"])


def test_every_block_is_executed_or_says_why_not():
    found = [block for page in TEXTS for block in blocks(page)]
    fences = sum(len(re.findall(r"^\s*(?:```|~~~)", (ROOT / page).read_text(), re.MULTILINE)) for page in TEXTS)
    assert fences == 2 * len(found)
    assert not [(block.page, block.text) for block in found if not block.kind]
    kinds = {kind: [block for block in found if block.kind == kind] for kind in ("run", "marked", "file", "text")}
    assert len(kinds["run"]) > 3 * len(kinds["marked"]) > 0
    assert {block.page for block in kinds["run"]} == {*FOLLOWED, *NEWCOMER}
    marks = sum(len(re.findall("^<!-- not run", (ROOT / page).read_text(), re.MULTILINE)) for page in TEXTS)
    assert marks == len(kinds["marked"])


def commands() -> list[tuple[str, list[str]]]:
    """The words of every `python -m arniqa_pl.…` line, with its page; but for options that the page itself adds."""
    found = []
    for page in TEXTS:
        added = [Path(block.title).stem for block in blocks(page) if block.title.startswith("conf/")]
        for block in blocks(page):
            lines = block.text.replace("\\\n", " ").splitlines() if block.language == "bash" else []
            mine = [line for line in lines if " -m arniqa_pl." in line and "arniqa_pl.completion" not in line]
            plain = [re.sub(r"<[^>]*>|…|\$\w+", "x", line) for line in mine if not any(each in line for each in added)]
            found += [(page, shlex.split(line, comments=True)) for line in plain]
    return found


def first_job(override: str) -> str:
    """An override as it is, or of a sweep the first value."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    values = [str(parsed.value().start)] if parsed.is_interval_sweep() else parsed.sweep_string_iterator()
    return f"{parsed.get_key_element()}={next(iter(values))}"


@pytest.mark.parametrize(("page", "words"), commands())
def test_every_command_composes_with_the_right_types(page, words):
    """Those that no test executes, too: no key and no option on any page is stale."""
    place = next(number for number, word in enumerate(words) if word.startswith("arniqa_pl."))
    root, given = words[place].removeprefix("arniqa_pl."), [each for each in words[place + 1 :] if each[0] != "-"]
    if given and given[0].isidentifier() and "--cfg" not in words:
        root, given = f"{root}_{given[0]}", given[1:]
    overrides = []
    for each in given:
        if "=" not in each:  # --cfg job
            continue
        each = re.sub("^encoder=", "encoder_file=", each) if root == "export_import" else each
        overrides.append(first_job(as_list(each, ("checkpoint", "scorer", "runs"))))
    options = [each for each in overrides if (CONFIG_DIR / each.partition("=")[0].lstrip("+~")).is_dir()]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        check_types(compose(root, overrides), compose(root, options))


def test_every_key_in_a_sentence_exists():
    known: set[str] = set()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        for root in ROOTS:
            choice = "\n  - database: " in (CONFIG_DIR / f"{root}.yaml").read_text()
            cfg = compose(root, ["database=[all,csv]"] if choice else [])
            known |= set(keys(cfg, ""))
    found = [
        (page, key)
        for page in TEXTS
        for key in re.findall(r"`'?([a-z][a-z_]*(?:\.[a-z0-9_]+)+)=", prose(page))
        if not key.startswith("hydra.")
    ]
    assert len(found) > 20
    assert not [each for each in found if each[1] not in known]


def prose(page: str) -> str:
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def keys(cfg: DictConfig, path: str) -> Iterator[str]:
    for key in cfg:
        yield f"{path}{key}"
        child = cfg._get_node(key)
        if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none():
            yield from keys(child, f"{path}{key}.")


def test_links_lead_somewhere():
    """Those of the README and its like; within docs/ `mkdocs build --strict` looks at them. Outside only the form."""
    inside, outside = [], []
    for page in TEXTS:
        for link in re.findall(r"\]\(<?([^)\s>]+)>?\)", prose(page)):
            (outside if urlsplit(link).scheme else inside).append((page, link))
    assert len(inside) > 40
    assert not [
        (page, link)
        for page, link in inside
        if (path := link.partition("#")[0]) and not (ROOT / page).parent.joinpath(path).exists()
    ]
    assert len(outside) > 20
    assert not [each for each in outside if not re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/[\w.,:%~/+#-]*)?", each[1])]


def test_the_citation_and_the_change_log_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Agnolucci", "Galteri", "Bertini", "Del Bimbo"]
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def tree(demo_data, small_data, replicas, files, tmp_path_factory) -> Path:  # noqa: F811
    """A copy of the tree with small settings, data, photographs, published weights, and two runs in runs/base."""
    tree = tmp_path_factory.mktemp("documents") / "tree"
    copy_tree(tree)
    (tree / "conf/small").mkdir()
    for root, settings in SMALL.items():
        (tree / f"conf/small/{root}.yaml").write_text(f"# @package _global_\n{settings}")
        file = tree / f"conf/{root}.yaml"
        head, body = re.fullmatch(r"(.*?^defaults:\n(?:  - [^\n]*\n)+)(.*)", file.read_text(), re.M | re.S).groups()
        file.write_text(f"{head}  - small: {root}\n{body}")
    (tree / "data").mkdir()
    for folder in replicas.iterdir():
        (tree / "data" / folder.name).symlink_to(folder)
    (tree / "data/KADIS700").symlink_to(demo_data / "KADIS700")
    (tree / "data/demo").symlink_to(small_data)
    (tree / "home").mkdir()
    (tree / "home/photos").symlink_to(demo_data / "KADIS700/ref_imgs")
    _provide_files(tree, files, small_data)
    base = "python -m arniqa_pl.train -m experiment=demo seed=1,2 hydra.sweep.dir=runs/base"
    run_script(base, tree)
    for number, names in enumerate((("a", "csv"), ("b",))):
        for name in names:
            shutil.copy(tree / f"runs/base/{number}/kadid10k.safetensors", tree / f"{name}.safetensors")
    return tree


def _provide_files(tree: Path, published: Path, small_data: Path) -> None:
    """Write the photographs, the table and the weights that pages name without saying where they come from."""
    photos = sorted((tree / "src/arniqa_pl/data/photos").glob("*.jpg"))[:3]
    for folder in ("folder", "photos"):
        (tree / folder).mkdir()
        for photo in photos:
            Image.open(photo).resize((120, 90)).save(tree / folder / photo.name)
    shutil.make_archive(str(tree / "photos"), "zip", tree / "photos")
    for name in ("photo.jpg", "photo.png", "a.jpg", "b.png", "b.jpg", "folder/a.jpg", "folder/b.jpg"):
        Image.open(photos[0]).resize((160, 120)).save(tree / name)
    table = pd.read_csv(small_data / "KADID10K/own.csv")
    table["image"] = f"{small_data}/KADID10K/" + table["image"]
    table.to_csv(tree / "ratings.csv", index=False)
    for file in published.iterdir():
        shutil.copy(file, tree)


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", FOLLOWED)
def test_every_page_can_be_followed(page, tree, tmp_path):
    own = tmp_path / "tree"
    shutil.copytree(tree, own, symlinks=True)
    run = mlflow_run_id(tree / "runs/base/0")
    follow(page, own, STAND_INS | {"<MLflow run id>": str(run)})


def test_no_stand_in_is_left_over():
    text = "".join(block.text for page in FOLLOWED for block in blocks(page) if block.kind == "run")
    assert [words for words in STAND_INS if words not in text] == []
