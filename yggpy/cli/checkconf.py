"""``-checkconf``: all that is wrong with a configuration, with the places, and nothing started.

Problems keep a node from running with it; warnings do not. It does not open sockets or devices, so a port that is in
use shows only at the start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from yggpy.cli.configfile import ConfigSource
from yggpy.config import Config
from yggpy.config.parsing import ConfigText
from yggpy.errors import ConfigError, PeerUriError
from yggpy.tun import MAX_MTU, MIN_MTU

__all__ = ["MAX_FINDINGS", "check_source"]

MAX_FINDINGS = 200
"""Findings that are listed; of more there is only the number."""
_MAX_INTERFACE_NAME = 15
_NOWHERE = (0, 0)


@dataclass(frozen=True, slots=True)
class _Finding:
    place: tuple[int, int]
    """``_NOWHERE``: not in the text, but in the environment."""
    text: str
    fatal: bool


def check_source(source: ConfigSource) -> tuple[str, bool]:
    """Return the report on a configuration, and whether a node runs with it. Raises ``ConfigError`` if unreadable."""
    findings = sorted(_findings(source), key=lambda finding: finding.place)
    lines = [
        f"{_shown(source, finding.place)}: {'' if finding.fatal else 'warning: '}{finding.text}"
        for finding in findings[:MAX_FINDINGS]
    ]
    if len(findings) > MAX_FINDINGS:
        lines.append(f"{source.name}: {len(findings) - MAX_FINDINGS} more are not listed")
    problems = sum(finding.fatal for finding in findings)
    warnings = len(findings) - problems
    lines.append(f"{source.name}: {_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    return "\n".join(lines), not problems


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _shown(source: ConfigSource, place: tuple[int, int]) -> str:
    return "environment" if place == _NOWHERE else f"{source.name}:{place[0]}:{place[1]}"


def _findings(source: ConfigSource) -> list[_Finding]:
    from yggpy.reload import check_config

    environment = source.environment
    found = [_Finding(_NOWHERE, str(variable), False) for variable in environment.unknown]
    data = source.read()
    try:
        text = ConfigText(data)
    except ConfigError as error:
        return [*found, _Finding(error.place or (1, 1), str(error), True)]
    found += [_Finding((key.line, key.column), str(key), False) for key in text.unknown_keys()]
    try:
        config = source.build(text)
        problems: tuple[ConfigError, ...] = ()
    except ConfigError as error:
        return found + _placed(source, text, error.problems)
    try:
        check_config(config)
    except ConfigError as error:
        problems = environment.explain(error).problems
    beyond = [(ConfigError(line, key), fatal) for key, line, fatal in _beyond_the_links(config)]
    found += _placed(source, text, problems)
    found += [
        _Finding(_place(source, text, problem.key), str(environment.explain(problem)), fatal)
        for problem, fatal in beyond
    ]
    return found


def _place(source: ConfigSource, text: ConfigText, key: str) -> tuple[int, int]:
    return _NOWHERE if source.environment.variable_of(key) else text.place(key)


def _placed(source: ConfigSource, text: ConfigText, problems: tuple[ConfigError, ...]) -> list[_Finding]:
    # What there are more of than are listed need no place, which takes time to find.
    return [
        _Finding(_place(source, text, problem.key) if number <= MAX_FINDINGS else (1 << 30, 0), str(problem), True)
        for number, problem in enumerate(problems)
    ]


def _beyond_the_links(config: Config) -> list[tuple[str, str, bool]]:
    """Return key, text and whether it is fatal, of what concerns the device and the admin socket."""
    from yggpy.admin.server import check_listen
    from yggpy.monitoring import HTTP_ENDPOINT
    from yggpy.serving import ServingError

    found = []
    name = os.fsencode(config.if_name)
    if len(name) > _MAX_INTERFACE_NAME:
        found.append(("IfName", f"IfName has {len(name)} bytes; an interface name has {_MAX_INTERFACE_NAME}", True))
    if not MIN_MTU <= config.if_mtu <= MAX_MTU:
        nearest = min(max(config.if_mtu, MIN_MTU), MAX_MTU)
        found.append(("IfMTU", f"IfMTU {config.if_mtu} is outside {MIN_MTU}..{MAX_MTU}; {nearest} is used", False))
    places = {"AdminListen": (check_listen, config.admin_listen)}
    places["HTTPListen"] = (HTTP_ENDPOINT.check_listen, config.http_listen)
    for key, (check, listen) in places.items():
        try:
            check(listen)
        except (ServingError, PeerUriError) as error:
            found.append((key, f"{key}: {error}", True))
    return found
