"""The programs in the documentation run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from yggpy import testing
from yggpy.config import Config
from yggpy.node import Node

DOCS = Path(__file__).parents[2] / "docs"


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


def test_the_embedding_example_runs() -> None:
    example = python_blocks("embedding.md")[0]
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"hello from 2[0-9a-f]{2}:[0-9a-f:]+\n", result.stdout)


def test_the_other_embedding_examples_compile() -> None:
    blocks = python_blocks("embedding.md")
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        compile(block, f"embedding.md block {number}", "exec")


def test_the_examples_of_names_are_read() -> None:
    examples = re.findall(r"```hjson\n(.*?)```", (DOCS / "names.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        config = Config.from_bytes(example.encode())
        config.check()
        assert config.dns is not None and config.unknown_keys == ()


FIREWALL_EXAMPLES = re.findall(r"```hjson\n(.*?)```", (DOCS / "firewall.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", FIREWALL_EXAMPLES)
@pytest.mark.usefixtures("plane")
async def test_nodes_run_with_the_firewall_examples(example: str) -> None:
    assert len(FIREWALL_EXAMPLES) == 3
    config = Config.from_bytes(example.encode())
    config.check()
    quiet = testing.quiet_config()
    quiet.firewall = config.firewall
    async with Node(quiet) as node:
        status = node.status_firewall()
        assert status is not None
        assert len(status.rules) == example.count("Name:")
