"""The documents are true: every command is executed or says why not, every key exists, every link leads somewhere."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

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
from tests.documents import ROOT, TEXTS, blocks
from tests.quality.test_scorer import make_scorer
from tests.test_configs import ROOTS
from tests.test_followed import PAGES as FOLLOWED
from tests.test_newcomer import PAGES as NEWCOMER

DOCS = ROOT / "docs"


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
    assert len(kinds["run"]) > len(kinds["marked"]) > 0
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
        check_types(compose(root, overrides), defaults(root, tuple(options)))


@cache
def defaults(root: str, options: tuple[str, ...]) -> DictConfig:
    return compose(root, list(options))


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
