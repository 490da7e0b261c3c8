"""The fenced blocks of README.md and docs/, and how they are followed: in a copy of the tree, as a reader would.

A block is one of four things, and `Block.kind` says which:

- "run": `bash` or `python`. A test executes it.
- "marked": the same behind `<!-- not run: reason -->`, where what it needs is not there.
- "file": has a title, `python title="src/…"`: what the named file holds. A `diff` is what to change in it.
- "text": `text`, which is what is printed, or a formula.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
TEXTS = ["README.md", "CONTRIBUTING.md", *PAGES]
_FENCE = re.compile(
    r'(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?\n'
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Servers are asked for a page as soon as they answer; what follows finds them running.
_SHELL = r"""set -euo pipefail
answers() { for _ in {1..600}; do curl -fs "$1" > /dev/null && return; sleep 0.5; done; curl -fS "$1"; }
python() {
    if [[ "$2" == arniqa_pl.serve ]]; then command python "$@" port=8731 & answers http://127.0.0.1:8731/
    else command python "$@"; fi
}
mlflow() { command mlflow "$@" & answers http://127.0.0.1:5001/ping; }
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str
    reason: str
    title: str

    @property
    def kind(self) -> str:
        """As above; "" if it is none of them."""
        if self.title:
            return "file"
        if self.language in ("bash", "python"):
            return "marked" if self.reason else "run"
        return "text" if self.language == "text" else ""


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    found = [match.groupdict("") for match in _FENCE.finditer((ROOT / page).read_text())]
    return [Block(page, each["language"], each["text"], each["reason"], each["title"]) for each in found]


def copy_tree(tree: Path) -> None:
    """Copy what a newcomer edits and runs."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "conf", "tests", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "mkdocs.yml"):
        shutil.copy(ROOT / name, tree)
    (tree / ".venv").symlink_to(sys.prefix)


def follow(page: str, tree: Path, stand_ins: Mapping[str, str]) -> None:
    """Do what a page says: write its files, make its changes, execute its blocks in one shell.

    Args:
        page: of the original tree.
        tree: a copy, with what the page's commands are about.
        stand_ins: what to read in a command in place of what the page has.

    Raises:
        AssertionError: something went wrong; says what was printed.

    """
    lines = [_SHELL]
    for number, block in enumerate(blocks(page)):
        text = block.text
        for words, instead in stand_ins.items():
            text = text.replace(words, instead)
        if block.kind == "file":
            _write(block, tree)
        elif block.kind == "run" and block.language == "python":
            (tree / f"block_{number}.py").write_text(text)
            lines.append(f"command python block_{number}.py\n")
        elif block.kind == "run":
            lines.append(text)
    run_script("\n".join(lines), tree)


def run_script(script: str, tree: Path) -> None:
    """Run a shell script in a copy of the tree, with the package and the home folder of that copy."""
    environment = os.environ | {
        "HOME": str(tree / "home"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tree / 'src'}:{tree}",
    }
    with (tree / "printed.txt").open("w+") as stream:  # not a pipe, which a server that is left would keep open
        shell = subprocess.Popen(
            ["bash", "-xc", script],
            cwd=tree,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=1200)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(shell.pid, signal.SIGKILL)  # servers, and what they have started
    assert code == 0, f"exit code {code}:\n{(tree / 'printed.txt').read_text()[-6000:]}"


def _write(block: Block, tree: Path) -> None:
    file = tree / block.title
    if block.language != "diff":
        assert not file.exists(), f"{block.title} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
        return
    marked = block.text.splitlines(keepends=True)
    before = "".join(line[1:] for line in marked if line[0] in " -")
    after = "".join(line[1:] for line in marked if line[0] in " +")
    content = file.read_text()
    assert content.count(before) == 1, (
        f"{block.page} changes this in {block.title}, found {content.count(before)}:\n{before}"
    )
    file.write_text(content.replace(before, after))
