"""Which data plane a node takes, and what it says when it cannot take the one that was asked for."""

from __future__ import annotations

import sys

import pytest

from yggpy import testing
from yggpy.datapath.choice import DATAPATH_VARIABLE, DatapathChoice, DatapathError, choose_datapath
from yggpy.datapath.native import NativeDatapath
from yggpy.datapath.pure import PureDatapath
from yggpy.errors import YggpyError
from yggpy.node import Node


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this an installation without the extension."""
    monkeypatch.delenv(DATAPATH_VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "yggpy.datapath.native", raising=False)
    monkeypatch.setitem(sys.modules, "yggpy.datapath._native", None)


@pytest.mark.parametrize("wanted", [None, "", "native"])
def test_the_native_one_is_taken_where_it_was_built(wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATAPATH_VARIABLE, raising=False)
    assert choose_datapath(wanted) == DatapathChoice("native", NativeDatapath, "")


def test_the_pure_one_is_taken_on_request_and_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATAPATH_VARIABLE, raising=False)
    assert choose_datapath("pure") == DatapathChoice("pure", PureDatapath, "")


@pytest.mark.parametrize(("value", "name"), [("pure", "pure"), ("native", "native"), ("", "native")])
def test_the_environment_decides(value: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATAPATH_VARIABLE, value)
    assert choose_datapath().name == name


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATAPATH_VARIABLE, "nonsense")
    assert choose_datapath("pure").name == "pure"


@pytest.mark.parametrize("value", ["Native", "c", "none", " pure"])
def test_other_values_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATAPATH_VARIABLE, value)
    with pytest.raises(DatapathError) as caught:
        choose_datapath()
    assert str(caught.value) == f'YGGPY_DATAPATH is "{value}"; it can be native or pure'
    assert isinstance(caught.value, YggpyError)


@pytest.mark.usefixtures("not_built")
def test_without_the_extension_the_pure_one_is_taken_and_the_log_gets_a_line() -> None:
    choice = choose_datapath()
    assert (choice.name, choice.factory) == ("pure", PureDatapath)
    assert choice.shortcoming.startswith(
        "Using the data plane in Python, which is slower: the native one does not load ("
    )
    assert "yggpy.datapath._native" in choice.shortcoming and "\n" not in choice.shortcoming


@pytest.mark.usefixtures("not_built")
def test_without_the_extension_the_pure_one_on_request_is_not_worth_a_word() -> None:
    assert choose_datapath("pure").shortcoming == ""


@pytest.mark.usefixtures("not_built")
def test_without_the_extension_the_native_one_is_refused_with_the_way_out() -> None:
    with pytest.raises(DatapathError) as caught:
        choose_datapath("native")
    text = str(caught.value)
    assert text.startswith("the native data plane does not load (") and "yggpy.datapath._native" in text
    assert "build it" in text and text.endswith("or set YGGPY_DATAPATH=pure")
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("not_built")
async def test_a_node_starts_without_the_extension_unless_that_was_demanded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "yggpy"):
        async with Node(testing.quiet_config()) as node:
            assert isinstance(node.datapath, PureDatapath)
    assert "the native one does not load" in caplog.text
    monkeypatch.setenv(DATAPATH_VARIABLE, "native")
    node = Node(testing.quiet_config())
    with pytest.raises(DatapathError, match="does not load"):
        await node.start()
    await node.close()


async def test_a_node_has_the_plane_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("native", NativeDatapath), ("pure", PureDatapath)):
        monkeypatch.setenv(DATAPATH_VARIABLE, name)
        async with Node(testing.quiet_config()) as node:
            assert isinstance(node.datapath, kind)
