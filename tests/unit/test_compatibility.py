"""The tables of what is like Go and what is not: nothing is missing in them, and the tests that they name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.unit.test_admin_commands import FakeNode
from yggpy.admin.commands import node_commands
from yggpy.admin.own import own_commands
from yggpy.admin.remote import remote_commands
from yggpy.config.parsing import CONFIG_KEYS
from yggpy.links.transports import SCHEMES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "compatibility"
TABLES = sorted([ROOT / "docs" / "compatibility.md", *FOLDER.glob("*.md")])
URI_OPTIONS = {"key", "priority", "password", "maxbackoff", "sni", "origin", "cost"}


def missing(names: Iterable[str], table: str, form: str = "`{}`") -> list[str]:
    """Return the names that do not begin a code span of a table."""
    text = (FOLDER / table).read_text()
    found = [re.search(re.escape(form.format(name).removesuffix("`")) + r"\b", text) for name in names]
    return [name for name, place in zip(names, found, strict=True) if place is None]


@pytest.mark.parametrize("table", TABLES, ids=[path.stem for path in TABLES])
def test_the_named_tests_exist(table: Path) -> None:
    sources = list((ROOT / "tests").rglob("test_*.py"))
    known = {path.stem for path in sources}
    for path in sources:
        known |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    assert set(re.findall(r"\btest_\w+", table.read_text())) <= known


def test_each_table_is_on_the_first_page() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    assert [path.name for path in FOLDER.glob("*.md") if f"(compatibility/{path.name})" not in page] == []


def test_each_flag_is_in_the_table() -> None:
    command = [sys.executable, "-m", "yggpy", "-help"]
    usage = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    flags = re.findall(r"^  (-\w+)", usage.stdout + usage.stderr, re.MULTILINE)
    assert len(flags) > 15
    assert missing(flags, "cli.md") == []


def test_each_configuration_key_is_in_the_table() -> None:
    assert missing(CONFIG_KEYS, "config.md") == []


def test_each_command_of_the_admin_socket_is_in_the_table() -> None:
    node = FakeNode()
    commands = [*node_commands(node, "", ""), *remote_commands(node), *own_commands(node)]
    assert len(commands) > 15
    assert missing([command.name for command in commands] + ["reload"], "admin.md") == []


def test_each_scheme_and_option_is_in_the_table() -> None:
    assert missing(sorted(SCHEMES), "uri.md") == []
    assert missing(sorted(URI_OPTIONS), "uri.md") == []
