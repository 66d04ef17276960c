"""``yggpy-node``: the flags of Go's ``yggdrasil``, and what each of them does (protocol section 14.1).

Whatever goes wrong is one line on standard error and exit code 1, where Go prints a panic and a stack and exits with 2;
2 is for a command line that cannot be understood. What only prints something never loads the network code.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from typing import TYPE_CHECKING

from yggpy.cli.flags import FlagError, FlagSet, HelpRequestedError, ParsedFlags
from yggpy.cli.pid1 import end_at_sigterm, is_first_process
from yggpy.cli.program import exit_code, write_text
from yggpy.errors import ConfigError, YggpyError
from yggpy.version import BUILD_NAME, build_version

if TYPE_CHECKING:
    from yggpy.cli.configfile import ConfigSource
    from yggpy.cli.privileges import Identity
    from yggpy.cli.statedir import StateDirectory
    from yggpy.config import Config
    from yggpy.config.environment import Environment

__all__ = ["PROGRAM", "main"]

PROGRAM = "yggpy-node"


def _flags() -> FlagSet:
    flags = FlagSet(PROGRAM)
    with_config = "with -useconf, -useconffile or -autoconf:"
    flags.add("genconf", False, "print a new configuration with a random key")
    flags.add("useconf", False, "read the configuration (HJSON or JSON) from standard input")
    flags.add("useconffile", "", "read the configuration (HJSON or JSON) from this file")
    flags.add("autoconf", False, "run with defaults and a random key, without a configuration file")
    flags.add("normaliseconf", False, f"{with_config} print the configuration with all defaults filled in")
    flags.add("checkconf", False, f"{with_config} list all problems of the configuration, and start nothing")
    flags.add("exportkey", False, f"{with_config} print the private key in PEM format")
    flags.add("json", False, "print the configuration of -genconf or -normaliseconf as JSON, not HJSON")
    flags.add("address", False, f"{with_config} print the IPv6 address")
    flags.add("subnet", False, f"{with_config} print the IPv6 subnet")
    flags.add("publickey", False, f"{with_config} print the public key")
    flags.add("version", False, "print name and version of this build")
    flags.add("logto", "stdout", 'where to log: "stdout", "syslog" or the path of a file')
    flags.add("loglevel", "info", "how much to log: error, warn, info, debug or trace")
    flags.add("user", "", "user (and group, as user:group) to run as once started")
    flags.add(
        "statedir", "", "keep the private key in this folder, if the configuration has none; made at the first start"
    )
    flags.add("notifyfd", -1, "when ready, write a newline to this file descriptor, for a service manager")
    return flags


def main(argv: list[str] | None = None) -> int:
    """Run the program with these arguments (default: the process's) and return its exit code."""
    flags = _flags()
    try:
        parsed = flags.parse(sys.argv[1:] if argv is None else argv)
    except HelpRequestedError:
        sys.stderr.write(flags.usage())
        return 0
    except FlagError as error:
        sys.stderr.write(f"{error}\n{flags.usage()}")
        return 2
    if is_first_process():
        end_at_sigterm()
    return exit_code(lambda: _run(flags, parsed), _complain)


def _run(flags: FlagSet, parsed: ParsedFlags) -> int:
    if parsed.enabled("version"):
        _print(f"Build name: {BUILD_NAME}\nBuild version: {build_version()}")
        return 0

    from yggpy.config import Config

    if not _has_source(parsed):
        if parsed.enabled("genconf") and not parsed.enabled("checkconf"):
            _print_config(Config.generate(), parsed)
            return 0
        return _no_source(flags, parsed)
    checking = parsed.enabled("checkconf")
    try:
        environment = _environment()
    except ConfigError as error:
        if not checking:
            raise
        lines = [f"environment: {problem}" for problem in error.problems]
        _print("\n".join([*lines, "environment: the rest was not checked"]))
        return 1
    source = _source(parsed, environment)
    if checking:
        return _check(source)
    user = _user(parsed, environment)
    state = _state_directory(parsed, environment, user)
    config = source.load() if state is None else source.load(state.key)
    if _answer(config, parsed):
        for unknown in environment.unknown:
            _complain(f"warning: {unknown}")
        return 0
    return _serve(config, source, parsed, user, state)


def _no_source(flags: FlagSet, parsed: ParsedFlags) -> int:
    """Say what is missing, when no flag tells where the configuration is."""
    if parsed.enabled("checkconf"):
        _complain("-checkconf needs a configuration: give -useconf, -useconffile or -autoconf as well")
        return 1
    _print("Usage:")
    sys.stderr.write(flags.help_text())
    if parsed.enabled("address") or parsed.enabled("subnet"):
        _print("\nError: You need to specify some config data using -useconf or -useconffile.")
    if any(name.startswith("YGG_") for name in os.environ):
        _complain("YGG_ variables are set: -autoconf runs a node with them and without a file")
    return 0


def _environment() -> Environment:
    """Return what the process's variables say. Raises ``ConfigError``."""
    from yggpy.config.environment import PREFIX, Environment

    if not any(name.startswith(PREFIX) for name in os.environ):
        return Environment()

    from yggpy.cli.configfile import read_value

    return Environment.read(os.environ, read_value)


def _user(parsed: ParsedFlags, environment: Environment) -> Identity | None:
    """Return whom to become; the environment's is for nodes that are started as root, whatever their image says."""
    from yggpy.cli.privileges import Identity, PrivilegeError

    if name := parsed.text("user"):
        return Identity.parse(name)
    if not environment.user or os.geteuid() != 0:
        return None
    try:
        return Identity.parse(environment.user)
    except PrivilegeError as error:
        raise PrivilegeError(f"YGG_USER: {str(error).removeprefix('-user: ')}") from None


def _state_directory(parsed: ParsedFlags, environment: Environment, user: Identity | None) -> StateDirectory | None:
    path = parsed.text("statedir") or environment.state_directory
    if not path:
        return None

    from yggpy.cli.statedir import StateDirectory

    return StateDirectory(path, user)


def _check(source: ConfigSource) -> int:
    """Print all that is wrong with a configuration."""
    from yggpy.cli.checkconf import check_source

    report, good = check_source(source)
    _print(report)
    return 0 if good else 1


def _answer(config: Config, parsed: ParsedFlags) -> bool:
    """Print what a flag asks about the configuration; return False if none does."""
    from yggpy.address import Address, Subnet

    public_key = config.private_key.public_key
    if parsed.enabled("address"):
        _print(str(Address.for_key(public_key)))
    elif parsed.enabled("subnet"):
        _print(str(Subnet.for_key(public_key)))
    elif parsed.enabled("publickey"):
        _print(public_key.hex())
    elif parsed.enabled("normaliseconf"):
        _print_config(config, parsed)
    elif parsed.enabled("exportkey"):
        from yggpy.config.pem import private_key_to_pem

        _print(private_key_to_pem(config.private_key))
    else:
        return False
    return True


def _print_config(config: Config, parsed: ParsedFlags) -> None:
    config = dataclasses.replace(config, admin_listen="")
    _print(config.to_json() if parsed.enabled("json") else config.to_hjson())


def _serve(
    config: Config, source: ConfigSource, parsed: ParsedFlags, user: Identity | None, state: StateDirectory | None
) -> int:
    from yggpy.cli.daemon import DaemonOptions, run_daemon
    from yggpy.cli.logs import configure_logging

    options = DaemonOptions(
        notify_fd=parsed.number("notifyfd"),
        user=user,
        source=None if parsed.enabled("autoconf") else source,
        notes=(*_environment_notes(source.environment), *_state_notes(state)),
    )
    setup = configure_logging(parsed.text("logto"), parsed.text("loglevel"), PROGRAM)

    def report(error: Exception) -> None:
        if isinstance(error, ConfigError):
            error = source.environment.explain(error)
        expected = isinstance(error, (YggpyError, OSError))
        message = str(error) if expected else f"internal error: {type(error).__name__}: {error}"
        if not expected:
            setup.logger.debug("What failed, in full:", exc_info=error)
            message += " (-loglevel debug shows where)"
        if not setup.to_terminal:
            setup.logger.error("%s", message)
        _complain(message)

    return run_daemon(config, setup.logger, report, options)


def _environment_notes(environment: Environment) -> list[tuple[int, str]]:
    """Return what the log is to say of the environment: names, no values."""
    notes = []
    if environment.variables:
        notes.append((logging.INFO, f"Configuration from the environment: {', '.join(environment.variables.values())}"))
    return notes + [(logging.WARNING, f"Environment: {unknown}") for unknown in environment.unknown]


def _state_notes(state: StateDirectory | None) -> list[tuple[int, str]]:
    """Lock the state directory, and return what the log is to say of it."""
    if state is None:
        return []
    if not state.used:
        return [(logging.INFO, f"The configuration has a private key; the one in {state.path} is not used")]
    warnings = [(logging.WARNING, line) for line in state.hold()]
    made = "A new private key was made and is kept in" if state.is_new else "The private key is the one kept in"
    return [(logging.INFO, f"{made} {state.key_path}"), *warnings]


def _has_source(parsed: ParsedFlags) -> bool:
    return parsed.enabled("autoconf") or parsed.enabled("useconf") or bool(parsed.text("useconffile"))


def _source(parsed: ParsedFlags, environment: Environment) -> ConfigSource:
    """Return where the flags say that the configuration is to be read from."""
    from yggpy.cli.configfile import ConfigSource

    if parsed.enabled("autoconf"):
        return ConfigSource(None, environment, defaults=True)
    return ConfigSource(None if parsed.enabled("useconf") else parsed.text("useconffile"), environment)


def _print(text: str) -> None:
    write_text(f"{text}\n")


def _complain(message: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"{PROGRAM}: {' '.join(message.splitlines())}\n")
