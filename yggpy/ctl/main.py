"""``yggpy-ctl``: the flags of Go's ``yggdrasilctl``, the same output on standard output (protocol section 14.4).

Exit codes: 0; 1 when the node refuses, cannot be reached or makes no sense (Go: 0 for the last two); 2 for a command
line that cannot be understood. Whatever is not an answer goes to standard error, in one line.
"""

from __future__ import annotations

import sys

from yggpy.admin.jsontext import RawJson
from yggpy.cli.flags import FlagError, FlagSet, HelpRequestedError, ParsedFlags
from yggpy.cli.program import exit_code
from yggpy.ctl.answers import render
from yggpy.ctl.commands import LOCAL_COMMANDS, Invocation, find_local, write
from yggpy.ctl.endpoint import ENDPOINT_VARIABLE, find_endpoint
from yggpy.printable import printable, printable_json
from yggpy.version import BUILD_NAME, build_version

__all__ = ["PROGRAM", "main"]

PROGRAM = "yggpy-ctl"


def _flags() -> FlagSet:
    flags = FlagSet(PROGRAM)
    flags.add(
        "endpoint",
        "",
        f"the node's admin socket: unix:///path, tcp://host:port or host:port (default: ${ENDPOINT_VARIABLE}, else\n"
        "    \tAdminListen of the machine's configuration file, else the socket where nodes listen by default)",
    )
    flags.add("json", False, "print the answer as JSON")
    flags.add("borders", True, "draw lines around and between the cells of tables")
    flags.add("version", False, "print name and version of this program")
    return flags


def _usage(flags: FlagSet) -> str:
    own = "".join(f"  {command.name}\n    \t{command.summary}\n" for command in LOCAL_COMMANDS)
    return (
        f"Usage: {PROGRAM} [options] command [name=value] ...\n\n"
        f"Options, which go before the command:\n{flags.help_text()}\n"
        f'Commands: those of the node, which "{PROGRAM} list" shows, and\n{own}\n'
        "Examples:\n"
        f"  {PROGRAM} getPeers\n"
        f"  {PROGRAM} getPeers sort=cost\n"
        f"  {PROGRAM} addPeer uri=tls://peer.example:12345\n"
        f"  {PROGRAM} -json -endpoint=tcp://localhost:9001 getSelf\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program with these arguments (default: the process's) and return its exit code."""
    flags = _flags()
    try:
        parsed = flags.parse(sys.argv[1:] if argv is None else argv)
    except HelpRequestedError:
        parsed = flags.parse([])  # without a command it explains itself
    except FlagError as error:
        _to_stderr(f"{printable(str(error))}\n{_usage(flags)}")
        return 2
    return exit_code(lambda: _run(flags, parsed), _complain)


def _run(flags: FlagSet, parsed: ParsedFlags) -> int:
    if parsed.enabled("version"):
        write(
            f"Build name: {BUILD_NAME}\nBuild version: {build_version()}\n"
            f"To get the version number of the running Yggdrasil node, run {PROGRAM} getSelf\n"
        )
        return 0
    if not parsed.arguments:
        write(_usage(flags))
        return 0
    command, *rest = parsed.arguments
    local = find_local(command)
    arguments: dict[str, str] = {}
    words = []
    for word in rest:
        name, equals, value = word.partition("=")
        if equals:
            arguments[name] = value
        elif local is not None and local.takes_words and not word.startswith("-"):
            words.append(word)
        else:
            advice = "options go before the command" if word.startswith("-") else "arguments are written name=value"
            _complain(f'ignoring "{word}": {advice}')
    found = find_endpoint(parsed.text("endpoint"))
    for warning in found.warnings:
        _complain(warning)
    invocation = Invocation(found, arguments, parsed.enabled("json"), parsed.enabled("borders"), tuple(words))
    return _pass_on(invocation, command) if local is None else local.run(invocation)


def _pass_on(invocation: Invocation, command: str) -> int:
    """Put the command to the node and print its answer."""
    answer = invocation.ask(command, invocation.arguments)
    if answer.error is not None:
        return invocation.refused(answer.error)
    if invocation.json:
        invocation.show_json(RawJson(printable_json(answer.text or "null").encode()))
        return 0
    output = render(command, answer)
    if output is not None:
        invocation.show(output)
    return 0


def _complain(message: str) -> None:
    """Print one line to standard error."""
    _to_stderr(f"{PROGRAM}: {printable(message)}\n")


def _to_stderr(text: str) -> None:
    if sys.stderr is not None:  # a script may have closed it
        sys.stderr.write(text)
