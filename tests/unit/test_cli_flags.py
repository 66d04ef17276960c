"""Flags in Go's style."""

from __future__ import annotations

import pytest

from yggpy.cli.flags import FlagError, FlagSet, HelpRequestedError


def flag_set() -> FlagSet:
    flags = FlagSet("prog")
    flags.add("json", False, "as JSON")
    flags.add("borders", True, "with borders")
    flags.add("logto", "stdout", "where to log")
    flags.add("user", "", "who")
    flags.add("fd", -1, "descriptor")
    flags.add("v", False, "short")
    return flags


def test_defaults() -> None:
    parsed = flag_set().parse([])
    assert (parsed.enabled("json"), parsed.enabled("borders")) == (False, True)
    assert (parsed.text("logto"), parsed.number("fd"), parsed.arguments) == ("stdout", -1, [])


def test_one_dash_or_two_with_or_without_equals_sign() -> None:
    parsed = flag_set().parse(["-json", "--borders=false", "-logto", "a", "--user=b=c", "-fd", "0x10"])
    assert (parsed.enabled("json"), parsed.enabled("borders")) == (True, False)
    assert (parsed.text("logto"), parsed.text("user"), parsed.number("fd")) == ("a", "b=c", 16)


@pytest.mark.parametrize(("text", "number"), [("017", 15), ("0_17", 15), ("1_000", 1000), ("-0x10", -16), ("00", 0)])
def test_numbers_are_gos(text: str, number: int) -> None:
    assert flag_set().parse([f"-fd={text}"]).number("fd") == number


def test_the_last_of_repeated_flags_counts() -> None:
    parsed = flag_set().parse(["-json", "-json=f", "-fd=1", "-fd=2"])
    assert (parsed.enabled("json"), parsed.number("fd")) == (False, 2)


def test_a_value_may_look_like_a_flag() -> None:
    assert flag_set().parse(["-logto", "-json"]).text("logto") == "-json"


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["-json", "getSelf", "-v"], ["getSelf", "-v"]),
        (["--", "-v"], ["-v"]),
        (["-", "-v"], ["-", "-v"]),
        (["-json", "false"], ["false"]),
        (["", "-v"], ["", "-v"]),
    ],
)
def test_flags_end_at_the_first_other_word(argv: list[str], arguments: list[str]) -> None:
    parsed = flag_set().parse(argv)
    assert parsed.arguments == arguments
    assert not parsed.enabled("v")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-nosuch"], "flag provided but not defined: -nosuch"),
        (["--nosuch=1"], "flag provided but not defined: -nosuch"),
        (["---json"], "bad flag syntax: ---json"),
        (["-=x"], "bad flag syntax: -=x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-logto"], "flag needs an argument: -logto"),
        (["-json=maybe"], 'invalid boolean value "maybe" for -json: parse error'),
        (["-fd=x"], 'invalid value "x" for flag -fd: parse error'),
        (["-fd", ""], 'invalid value "" for flag -fd: parse error'),
        (["-fd", " 5"], 'invalid value " 5" for flag -fd: parse error'),
        (["-fd", "08"], 'invalid value "08" for flag -fd: parse error'),
        (["-fd", "٣"], 'invalid value "٣" for flag -fd: parse error'),
        (["-fd", "9223372036854775808"], 'invalid value "9223372036854775808" for flag -fd: value out of range'),
        (["-fd=-9223372036854775809"], 'invalid value "-9223372036854775809" for flag -fd: value out of range'),
    ],
)
def test_errors_have_gos_texts(argv: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        flag_set().parse(argv)
    assert str(caught.value) == message


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help(word: str) -> None:
    with pytest.raises(HelpRequestedError):
        flag_set().parse([word])


def test_usage_lists_flags_by_name_with_their_defaults() -> None:
    assert flag_set().usage() == (
        "Usage of prog:\n"
        "  -borders\n    \twith borders (default true)\n"
        "  -fd int\n    \tdescriptor (default -1)\n"
        "  -json\n    \tas JSON\n"
        '  -logto string\n    \twhere to log (default "stdout")\n'
        "  -user string\n    \twho\n"
        "  -v\tshort\n"
    )
