"""``-user``: give up root once everything that needs it is there (protocol section 14.1).

The order is Go's: the unix admin socket is given to the user, then the groups, the group and the user are set, for all
threads of the process. What Go does not do: afterwards it is tried whether root can be had back, and if so the node
does not run. Whether the user exists is asked before anything is started.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from yggpy.config import Config
from yggpy.errors import PeerUriError, YggpyError

__all__ = ["Identity", "PrivilegeError", "shortcomings"]

_ROOT = 0
_FIRST_FREE_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_USUAL_FIRST_FREE_PORT = 1024
_T = TypeVar("_T")
_MAX_ID = 2**32 - 2
"""2**32 - 1 means "leave it as it is" to the kernel."""


class PrivilegeError(YggpyError):
    """``-user`` cannot be obeyed; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the node is to be once it has started."""

    name: str
    """As it was given."""
    uid: int
    gid: int

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Look up ``user`` or ``user:group``, by number or by name; without a group, the user's own one.

        A number must be that of an account, as in Go. Raises :class:`PrivilegeError`.
        """
        user, colon, group = text.partition(":")
        if not user:
            raise PrivilegeError("-user: user is empty; give it as USER or USER:GROUP")
        if colon and not group:
            raise PrivilegeError("-user: group is empty; give it as USER or USER:GROUP")
        account = _find(user, pwd.getpwuid, pwd.getpwnam)
        if account is None:
            raise PrivilegeError(f"-user: unknown user {user}; make the account, or name one that exists")
        if not group:
            return cls(text, account.pw_uid, account.pw_gid)
        found = _find(group, grp.getgrgid, grp.getgrnam)
        if found is None:
            raise PrivilegeError(f"-user: unknown group {group}; make it, or name one that exists")
        return cls(text, account.pw_uid, found.gr_gid)

    def assume(self, *listens: str) -> None:
        """Become this user, with its group as the only one, for good. Raises :class:`PrivilegeError`.

        Unix sockets that ``listens`` (``AdminListen``, ``HTTPListen``) name are given to the user first.
        """
        for path in filter(None, map(_unix_path, listens)):
            self._do(f"chown {path}", lambda: os.chown(path, self.uid, self.gid))  # noqa: B023  called at once
        self._do("setgroups", lambda: os.setgroups([self.gid]))
        self._do("setgid", lambda: os.setresgid(self.gid, self.gid, self.gid))
        self._do("setuid", lambda: os.setresuid(self.uid, self.uid, self.uid))
        if self.uid != _ROOT and _root_can_be_regained():
            raise PrivilegeError(
                f"-user {self.name}: the process could become root again, most likely because it was given "
                "CAP_SETUID or CAP_SETGID to keep; take those away, or leave -user out"
            )

    def _do(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            hint = "; -user needs to be started as root" if isinstance(error, PermissionError) else ""
            raise PrivilegeError(
                f"-user {self.name}: {what} {self.uid}:{self.gid}: {(error.strerror or str(error)).lower()}{hint}"
            ) from None


def _find(text: str, by_number: Callable[[int], _T], by_name: Callable[[str], _T]) -> _T | None:
    """Return the account or group ``text``: a number that exists wins over a name of digits, as in Go."""
    if text.isascii() and text.isdecimal() and int(text) <= _MAX_ID:
        with contextlib.suppress(KeyError):
            return by_number(int(text))
    try:
        return by_name(text)
    except (KeyError, ValueError):  # ValueError: a NUL or another character that no name has
        return None


def _unix_path(listen: str) -> str:
    """Return the path of a unix socket, or nothing."""
    from yggpy.links.url import parse_url

    try:
        url = parse_url(listen)
    except PeerUriError:
        return ""  # host:port without a scheme; Go cannot start with -user then
    return os.fsdecode(url.path) if url.scheme == "unix" else ""


def _root_can_be_regained() -> bool:
    """Try to get user or group 0 back. Another gid than 0 as ours was set before, so group 0 is root's as well."""
    attempts: list[Callable[[], None]] = [lambda: os.setresuid(-1, _ROOT, -1)]
    if os.getgid() != _ROOT:
        attempts += [lambda: os.setresgid(-1, _ROOT, -1), lambda: os.setgroups([_ROOT])]
    for attempt in attempts:
        with contextlib.suppress(OSError):
            attempt()
            return True
    return False


def shortcomings(config: Config, config_file: str | None) -> list[str]:
    """Return what will not work any more, in lines for the log, now that the process has become another user.

    ``config_file`` is what a reload reads.
    """
    user = f"user {os.getuid()}"
    lines = []
    if config_file is not None and not os.access(config_file, os.R_OK):
        lines.append(f"A reload will fail: {user} may not read {config_file}")
    elif config_file is not None and not os.access(os.path.dirname(os.path.realpath(config_file)), os.W_OK):
        lines.append(f"persist=true will fail: {user} may not write beside {config_file}")
    elif config_file is not None and not _could_be_ours(config_file):
        lines.append(f"persist=true will fail: {user} must own {config_file}, with group {os.getgid()} as its group")
    low = [str(port) for port in _listening_ports(config) if 0 < port < _first_free_port()]
    if low:
        lines.append(f"A listener on port {', '.join(low)} cannot be opened again without a restart, should it close")
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if not os.access(package, os.R_OK | os.X_OK):
        lines.append(
            f"quic, ws, wss, socks and unix links may fail: {user} may not read the program's own files in {package}"
        )
    return lines


def _could_be_ours(path: str) -> bool:
    """Tell whether a file that takes the place of this one can have its owner and group."""
    if os.geteuid() == _ROOT:
        return True
    try:
        status = os.stat(path)
    except OSError:
        return True
    return (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def _listening_ports(config: Config) -> Iterator[int]:
    from yggpy.links.uri import LinkUri
    from yggpy.links.url import split_host_port

    for uri in config.listen:
        with contextlib.suppress(PeerUriError, ValueError):
            yield int(split_host_port(LinkUri.parse(uri).host_port)[1])
    for interface in config.multicast_interfaces:
        yield interface.port if interface.listen or interface.beacon else 0
    if config.dns is not None:
        yield from (port for _, port in config.dns.endpoints())


def _first_free_port() -> int:
    """Return the lowest port that needs no privilege."""
    try:
        with open(_FIRST_FREE_PORT, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _USUAL_FIRST_FREE_PORT
