"""``yggpy-node``: the flags of Go's ``yggdrasil``, and what each of them does (protocol section 14.1).

Whatever goes wrong is one line on standard error and exit code 1, where Go prints a panic and a stack and exits with 2;
2 is for a command line that cannot be understood. What only prints something never loads the network code.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

from yggpy.cli.flags import FlagError, FlagSet, HelpRequestedError, ParsedFlags
from yggpy.errors import YggpyError
from yggpy.version import BUILD_NAME, build_version

if TYPE_CHECKING:
    from yggpy.cli.configfile import ConfigSource
    from yggpy.config import Config

__all__ = ["PROGRAM", "main"]

PROGRAM = "yggpy-node"
_INTERRUPTED = 130


def _flags() -> FlagSet:
    flags = FlagSet(PROGRAM)
    with_config = "with -useconf or -useconffile:"
    flags.add("genconf", False, "print a new configuration with a random key")
    flags.add("useconf", False, "read the configuration (HJSON or JSON) from standard input")
    flags.add("useconffile", "", "read the configuration (HJSON or JSON) from this file")
    flags.add("autoconf", False, "run with defaults and a random key, without a configuration")
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
    try:
        return _run(flags, parsed)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; without this, Python would complain when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (YggpyError, OSError) as error:
        _complain(str(error))
        return 1


def _run(flags: FlagSet, parsed: ParsedFlags) -> int:
    if parsed.enabled("version"):
        _print(f"Build name: {BUILD_NAME}\nBuild version: {build_version()}")
        return 0

    from yggpy.config import Config

    source = _source(parsed)
    if parsed.enabled("checkconf"):
        return _check(source)
    if source is not None:
        config = source.load()
    elif parsed.enabled("autoconf"):
        config = Config.generate()
    elif parsed.enabled("genconf"):
        _print_config(Config.generate(), parsed)
        return 0
    else:
        _print("Usage:")
        sys.stderr.write(flags.help_text())
        if parsed.enabled("address") or parsed.enabled("subnet"):
            _print("\nError: You need to specify some config data using -useconf or -useconffile.")
        return 0

    if _answer(config, parsed):
        return 0
    return _serve(config, source, parsed)


def _check(source: ConfigSource | None) -> int:
    """Print all that is wrong with a configuration."""
    from yggpy.cli.checkconf import check_source

    if source is None:
        _complain("-checkconf needs a configuration: give -useconf or -useconffile as well")
        return 1
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


def _serve(config: Config, source: ConfigSource | None, parsed: ParsedFlags) -> int:
    from yggpy.cli.daemon import DaemonOptions, run_daemon
    from yggpy.cli.logs import configure_logging
    from yggpy.cli.privileges import Identity

    options = DaemonOptions(
        notify_fd=parsed.number("notifyfd"),
        user=Identity.parse(parsed.text("user")) if parsed.text("user") else None,
        source=source,
    )
    setup = configure_logging(parsed.text("logto"), parsed.text("loglevel"), PROGRAM)

    def report(error: Exception) -> None:
        expected = isinstance(error, (YggpyError, OSError))
        message = str(error) if expected else f"internal error: {type(error).__name__}: {error}"
        if not expected:
            setup.logger.debug("What failed, in full:", exc_info=error)
            message += " (-loglevel debug shows where)"
        if not setup.to_terminal:
            setup.logger.error("%s", message)
        _complain(message)

    return run_daemon(config, setup.logger, report, options)


def _source(parsed: ParsedFlags) -> ConfigSource | None:
    """Return where a configuration is to be read from, if the flags ask for that."""
    from yggpy.cli.configfile import ConfigSource

    if parsed.enabled("autoconf"):
        return None
    if parsed.enabled("useconf"):
        return ConfigSource(None)
    return ConfigSource(parsed.text("useconffile")) if parsed.text("useconffile") else None


def _print(text: str) -> None:
    """Print to standard output: in UTF-8 whatever the locale, since configurations are in UTF-8."""
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{text}\n".encode())
    sys.stdout.flush()


def _complain(message: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"{PROGRAM}: {' '.join(message.splitlines())}\n")
