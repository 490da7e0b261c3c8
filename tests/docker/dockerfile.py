"""A Dockerfile as a list of instructions, for tests that look at it or follow it."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"


@dataclass
class Stage:
    """What a FROM begins: its image, its name, and the (word, rest) of each instruction after it."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        """Return the rest of the instruction that counts: the last one."""
        return [rest for found, rest in self.steps if found == word][-1]


def read(file: Path = FILE) -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first stage, with their defaults, and the stages."""
    lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            stages.append(Stage(image, name))
        elif stages:
            stages[-1].steps.append((word, rest))
        else:
            arguments |= dict([assignment(rest)])
    return arguments, stages


def assignment(rest: str) -> tuple[str, str]:
    """Return name and value of `NAME=value` or `NAME="value"`."""
    name, _, value = rest.partition("=")
    return name, value.strip('"')


def words(rest: str) -> list[str]:
    """Return the words of an instruction in its exec form, `[…]`, with or without CMD and options before it."""
    return json.loads(rest[rest.index("[") :])
