"""``-statedir``: a folder in which a node without a configured key keeps the one that it made at its first start.

The key is a PEM file that only its owner may read. It is written beside its place and then linked there, so that a
start that is cut short leaves none or a whole one, and of two first starts at once one wins. A running node holds a
lock on the file: a second node with the same key would make both unreachable in turns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from yggpy.config.pem import MAX_PEM_SIZE, private_key_from_pem, private_key_to_pem
from yggpy.errors import ConfigError, YggpyError
from yggpy.keys import PrivateKey

if TYPE_CHECKING:
    from yggpy.cli.privileges import Identity

__all__ = ["KEY_FILE", "StateDirectory", "StateDirectoryError"]

KEY_FILE = "key.pem"
_NO_LINKS = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))
"""What file systems say that have no hard links, as some that are shared with containers."""


class StateDirectoryError(YggpyError):
    """The state directory cannot be used; the text is one line for the operator."""


class StateDirectory:
    """The folder ``path``, which is made if it is not there; nothing is touched before ``key``."""

    def __init__(self, path: str, owner: Identity | None = None) -> None:
        """``owner``: whom the key is to belong to, if the node becomes another user."""
        self.path = path
        self.key_path = os.path.join(path, KEY_FILE)
        self.used = False
        """Whether the key came from here."""
        self.is_new = False
        """Whether it was made now."""
        self._owner = owner
        self._held = -1

    def key(self) -> PrivateKey:
        """Return the key that is kept here; make it first if there is none. Raises ``StateDirectoryError``."""
        self.used = True
        try:
            data = self._read()
            if data is None:
                self._make()
                data = self._read()
        except OSError as error:
            raise self._error(f"{error.strerror or error}{self._hint(error)}") from None
        try:
            return private_key_from_pem(b"" if data is None else data)
        except ConfigError as error:
            raise self._error(
                f"{KEY_FILE} is damaged: {error}; put the right key there, or remove it for a new key and address"
            ) from None

    def hold(self) -> list[str]:
        """Lock the directory for this process, for as long as it lives, and give the key to its owner.

        To be called after ``key``. Returns lines of warning. Raises ``StateDirectoryError``.
        """
        try:
            self._held = os.open(self.key_path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise self._error("another node runs with it; each node needs a state directory of its own") from None
        except OSError as error:
            self.release()
            raise self._error(f"cannot lock {KEY_FILE}: {error.strerror or error}") from None
        return self._give_away(self._held)

    def release(self) -> None:
        """Give the lock back, as the end of the process does. Harmless when repeated."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _give_away(self, number: int) -> list[str]:
        found = os.fstat(number)
        lines = []
        if stat.S_IMODE(found.st_mode) & 0o077:
            lines.append(f"Others may read the private key: do chmod 600 {self.key_path}")
        if self._owner is not None and found.st_uid != self._owner.uid:
            try:
                os.fchown(number, self._owner.uid, self._owner.gid)
            except OSError as error:
                lines.append(f"Cannot give {self.key_path} to user {self._owner.uid}: {error.strerror or error}")
        return lines

    def _read(self) -> bytes | None:
        try:
            with open(self.key_path, "rb") as file:
                return file.read(MAX_PEM_SIZE)
        except FileNotFoundError:
            return None

    def _make(self) -> None:
        """Make folder and key. Raises ``OSError``."""
        folder_is_new = not os.path.isdir(self.path)
        os.makedirs(self.path, 0o700, exist_ok=True)
        if folder_is_new and self._owner is not None:
            os.chown(self.path, self._owner.uid, self._owner.gid)
        import tempfile  # seldom needed

        number, temporary = tempfile.mkstemp(prefix=f".{KEY_FILE}.", dir=self.path)  # mode 0600
        try:
            with open(number, "wb") as file:
                file.write(private_key_to_pem(PrivateKey.generate()).encode())
                file.flush()
                os.fsync(number)
            self._put(temporary)
        finally:
            with suppress(OSError):
                os.unlink(temporary)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _put(self, temporary: str) -> None:
        try:
            os.link(temporary, self.key_path)
        except FileExistsError:
            return  # another start was faster: its key counts
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(temporary, self.key_path)
        self.is_new = True

    def _hint(self, error: OSError) -> str:
        if isinstance(error, PermissionError):
            return f" (the node runs as user {os.geteuid()}, who must be able to write there)"
        return ""

    def _error(self, text: str) -> StateDirectoryError:
        return StateDirectoryError(f"state directory {self.path}: {text}")
