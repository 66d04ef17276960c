"""The configuration's source: standard input, or a file that can be read again while the node runs; and over it the
environment of the process, which stays what it was at the start.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from yggpy.config import MAX_CONFIG_SIZE, Config
from yggpy.config.environment import Environment
from yggpy.config.parsing import ConfigText
from yggpy.config.pem import read_private_key
from yggpy.errors import ConfigError
from yggpy.keys import PrivateKey

__all__ = ["ConfigSource", "read_value"]

_STANDARD_INPUT = 0


def read_value(path: str) -> bytes:
    """Return what is in a file that a variable names. Raises ``ConfigError``."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_CONFIG_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f'cannot read the file "{path}": {reason}') from None


class ConfigSource:
    """Where the configuration comes from: the file ``path``; None: standard input, or with ``defaults`` nowhere."""

    def __init__(self, path: str | None, environment: Environment | None = None, *, defaults: bool = False) -> None:
        """``environment`` counts over what the source says."""
        self.path = path
        self.environment = environment or Environment()
        self._defaults = defaults

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if self._defaults:
            return "environment"
        return "standard input" if self.path is None else self.path

    def read(self) -> bytes:
        """Return all of it, or a little more than a configuration may have. Raises ``ConfigError``."""
        if self._defaults:
            return b"{}"
        source: str | int = _STANDARD_INPUT if self.path is None else self.path
        try:
            file: BinaryIO
            with open(source, "rb", closefd=source != _STANDARD_INPUT) as file:
                return file.read(MAX_CONFIG_SIZE + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"cannot read the configuration from {self.name}: {reason}") from None

    def build(self, text: ConfigText, make_key: Callable[[], PrivateKey] = PrivateKey.generate) -> Config:
        """Return the configuration of a text of this source. Raises ``ConfigError``, which names variables."""
        return self._build(text, read_private_key, make_key)

    def _build(
        self, text: ConfigText, read_key: Callable[[str], PrivateKey], make_key: Callable[[], PrivateKey]
    ) -> Config:
        try:
            return text.build(read_key, make_key, self.environment.over(text.members))
        except ConfigError as error:
            raise self.environment.explain(error) from None

    def load(self, make_key: Callable[[], PrivateKey] = PrivateKey.generate) -> Config:
        """Read a configuration to start with. Raises ``ConfigError``, which names the source.

        ``make_key`` gives the key if nothing else does.
        """
        data = self.read()
        try:
            return self.build(ConfigText(data), make_key)
        except ConfigError as error:
            raise self._cannot_use(error) from None

    def load_again(self, running: Config, *, file_only: bool = False) -> Config:
        """Read the file again, for a node that has been started with ``running``. Raises ``ConfigError``.

        ``file_only``: what the file says by itself, without the environment.
        The node's key stays: one that the file leaves out does not become another random one, and a key file need not
        be readable any more.
        """
        if self.path is None:
            raise ConfigError("there is no file to read again: the configuration did not come from -useconffile")
        self.require_file(self.path)

        def read_key(path: str) -> PrivateKey:
            if path == running.private_key_path and not os.access(path, os.R_OK):
                return running.private_key
            return read_private_key(path)

        data = self.read()
        try:
            text = ConfigText(data)
            if file_only:
                return text.build(read_key, lambda: running.private_key)
            return self._build(text, read_key, lambda: running.private_key)
        except ConfigError as error:
            raise self._cannot_use(error) from None

    @staticmethod
    def require_file(path: str) -> None:
        """Raise ``ConfigError`` for what cannot be read twice, such as a pipe: a reader would wait for ever."""
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            return  # whoever reads it says why not
        if not stat.S_ISREG(mode):
            raise ConfigError(f"there is no file to read again: {path} is a pipe, a device or a folder")

    def rewrite(self, edit: Callable[[bytes], bytes]) -> bool:
        """Put what ``edit`` makes of the file in its place; False if that is the same.

        The file is replaced in one step, with its owner, group and mode; a link to it stays a link. Raises
        ``ConfigError``; then the file is as it was.
        """
        if self.path is None:
            raise ConfigError("there is no file to write to: the configuration did not come from -useconffile")
        self.require_file(self.path)
        before = _version(self.path)
        data = self.read()
        try:
            changed = edit(data)
        except ConfigError as error:
            raise ConfigError(f"cannot change {self.path}: {error}") from None
        if changed == data:
            return False
        if _version(self.path) != before:
            raise ConfigError(f"cannot change {self.path}: somebody else has just changed it; try again")
        try:
            _replace(os.path.realpath(self.path), changed)
        except OSError as error:
            raise ConfigError(f"cannot change {self.path}: {error.strerror or error}{_advice(error)}") from None
        return True

    def _cannot_use(self, error: ConfigError) -> ConfigError:
        more = "; -checkconf lists all problems" if len(error.problems) > 1 else ""
        if self.environment.variable_of(error.problems[0].key):
            return ConfigError(f"cannot use the environment: {error}{more}", error.key)
        return ConfigError(f"cannot use the configuration from {self.name}: {error}{more}", error.key, error.place)


def _version(path: str) -> tuple[int, int, int] | None:
    """Return what changes whenever somebody writes to a file; None if it cannot be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _advice(error: OSError) -> str:
    """Return what an operator can do about a file that could not be replaced."""
    if isinstance(error, PermissionError):
        user = f"the node runs as user {os.geteuid()}"
        return f" ({user}, who must own the file, be in its group, and may write to its folder)"
    if error.errno == errno.EROFS:
        return (
            " (the node may not write there; under systemd that is ProtectSystem=: give the file a folder of its own,"
            " and name that folder in ReadWritePaths=; in a container mount the folder without :ro)"
        )
    if error.errno == errno.EBUSY:
        return " (the file is mounted by itself, as into a container: mount its folder instead)"
    return ""


def _copy_attributes(path: str, number: int) -> None:
    """Give an open file the access list, the label and the other attributes of ``path``, as far as that may be."""
    with suppress(OSError):
        for name in os.listxattr(path):
            with suppress(OSError):
                os.setxattr(number, name, os.getxattr(path, name))


def _replace(path: str, data: bytes) -> None:
    """Write ``data`` beside ``path`` and then put it in its place. Raises ``OSError``."""
    import tempfile  # nearly a megabyte with all it brings, and seldom needed

    folder, name = os.path.split(path)
    before = os.stat(path)
    number, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(number, "wb") as file:
            after = os.fstat(number)
            if (after.st_uid, after.st_gid) != (before.st_uid, before.st_gid):
                os.fchown(number, before.st_uid, before.st_gid)
            os.fchmod(number, stat.S_IMODE(before.st_mode))
            _copy_attributes(path, number)
            file.write(data)
            file.flush()
            os.fsync(number)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # the name is safe on disk a little later, then
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
