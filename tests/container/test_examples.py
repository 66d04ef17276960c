"""What holds for every example: the files that it has, what its script says to a wrong call, and the flags it uses."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.container.lab import DOCKER_FLAGS
from tests.container.readme import EXAMPLES

FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
FLAGS = {"subnet": DOCKER_FLAGS[:2]}
"""Where nodes are given less than :data:`DOCKER_FLAGS`: in a host's own network its sysctls are not theirs to set."""


def test_the_index_lists_all() -> None:
    listed = re.findall(r"^\| \[([\w-]+)\]\(\1/\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) >= {folder.name for folder in FOLDERS}
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_form(folder: Path) -> None:
    script = folder / "run.sh"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
    assert "--privileged" not in text
    assert " ".join(FLAGS.get(folder.name, DOCKER_FLAGS)) in text
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("## Run it", "## What you should see", "## When it does not work"):
        assert heading in readme
    assert "./run.sh up" in readme
    assert "./run.sh down" in readme


@pytest.mark.parametrize("arguments", [(), ("sideways",), ("--help",)], ids=" ".join)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_wrong_call_shows_the_usage(folder: Path, arguments: tuple[str, ...]) -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent"}  # it must not come so far
    done = subprocess.run(
        [folder / "run.sh", *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert done.stdout == ""
