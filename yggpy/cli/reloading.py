"""Reads the configuration again while the node runs, for SIGHUP and for the admin socket's ``reload``, and keeps peers
in it for ``persist=true``.

One reload at a time; the node goes over to the new configuration by ``Node.reload``. Whatever comes of it stands in the
log, whoever asked; a configuration that cannot be used changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from yggpy.cli.configfile import ConfigSource
from yggpy.cli.service import ServiceManager
from yggpy.config import Config
from yggpy.errors import ConfigError, PeerUriError, YggpyError
from yggpy.monitoring import HTTP_ENDPOINT
from yggpy.serving import ServingError

if TYPE_CHECKING:
    from yggpy.reload import ReloadReport

__all__ = ["Reloader"]


class _Node(Protocol):
    config: Config

    async def reload(self, config: Config) -> ReloadReport: ...


class Reloader:
    """Reloads ``node`` from ``source``; ``manager`` is told."""

    def __init__(
        self,
        node: _Node,
        source: ConfigSource | None,
        log: logging.Logger,
        manager: ServiceManager,
        status: str,
    ) -> None:
        """``source``: None: there is nothing to read again. ``status`` is what ``manager`` hears when it is over."""
        self._node = node
        self._source = source
        self._log = log
        self._manager = manager
        self._status = status
        self._lock = asyncio.Lock()
        self._asked = False
        self._following: asyncio.Task[None] | None = None
        self.follow_http: Callable[[str], Awaitable[str]] | None = None
        """Lets the HTTP endpoint listen elsewhere; returns what has changed, if anything. Raises ``ServingError``."""

    def by_signal(self) -> None:
        """SIGHUP came. Of those that come during a reload, one is kept."""
        self._asked = True
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await self.reload()
            except YggpyError:
                pass  # the log has it
            except Exception as error:
                self._log.error("Internal error while reloading: %s", error, exc_info=error)

    async def reload(self) -> ReloadReport:
        """Read the file again and let the node follow. Raises ``YggpyError``; then nothing has changed."""
        async with self._lock:
            self._manager.reloading()
            try:
                config = await self._load()
                report = await self._with_http(await self._node.reload(config), config.http_listen)
            except ConfigError as error:
                explained = error if self._source is None else self._source.environment.explain(error)
                self._log.error("Nothing was reloaded: %s", explained)
                raise explained from None
            except YggpyError as error:
                self._log.error("Nothing was reloaded: %s", error)
                raise
            finally:
                self._manager.reloaded(self._status)
        for line in report.changes:
            self._log.info("Reload: %s", line)
        for line in report.warnings:
            self._log.warning("Reload: %s", line)
        self._log.info("Configuration reloaded%s", "" if report.changes else "; nothing has changed")
        return report

    async def _with_http(self, report: ReloadReport, listen: str) -> ReloadReport:
        if self.follow_http is None:
            return report
        try:
            change = await self.follow_http(listen)
        except ServingError as error:
            return replace(report, warnings=(*report.warnings, str(error)))
        return replace(report, changes=(*report.changes, change)) if change else report

    async def _load(self) -> Config:
        if self._source is None:
            raise ConfigError("there is no file to read again: the node runs with -autoconf")
        # In a thread: the file may be on a slow disk, and reading megabytes would hold the event loop up.
        config = await asyncio.to_thread(self._source.load_again, self._node.config)
        for unknown in config.unknown_keys:
            self._log.warning("Configuration, line %d: %s", unknown.line, unknown)
        try:
            HTTP_ENDPOINT.check_listen(config.http_listen)
        except ServingError as error:
            raise ConfigError(f"HTTPListen: {error}", "HTTPListen") from None
        return config

    async def keep_peer(self, uri: str, interface: str) -> bool:
        """Write a peer into the configuration file; False if it is there already. Raises ``ConfigError``."""
        from yggpy.config.editing import add_peer

        same = _same_as(uri)
        async with self._lock:
            source, running = self._file(), self._node.config
            there = await asyncio.to_thread(source.load_again, running, file_only=True)
            if any(map(same, _uris(there, interface))):
                return False
            await asyncio.to_thread(source.rewrite, lambda data: add_peer(data, uri, interface))
            variable = self._variable(source, interface)
            if not variable:
                # For the next reload: what the file does not have any more then is to go.
                _set_uris(self._node, interface, [*_uris(running, interface), uri])
        self._log.info("Peer %s kept in %s", _shown(uri), source.name)
        if variable:
            self._log.warning("After a restart %s counts instead of the file's list, without this peer", variable)
        return True

    async def drop_peer(self, uri: str, interface: str) -> bool:
        """Take a peer out of the configuration file; False if it is not there. Raises ``YggpyError``."""
        from yggpy.config.editing import remove_peers

        same = _same_as(uri)
        async with self._lock:
            source = self._file()
            if not await asyncio.to_thread(source.rewrite, lambda data: remove_peers(data, same, interface)):
                return False
            if not self._variable(source, interface):
                left = [other for other in _uris(self._node.config, interface) if not same(other)]
                _set_uris(self._node, interface, left)
        self._log.info("Peer %s removed from %s", _shown(uri), source.name)
        return True

    @staticmethod
    def _variable(source: ConfigSource, interface: str) -> str:
        """Return the variable that counts instead of the file's list of peers; empty: none does."""
        return source.environment.variable_of("InterfacePeers" if interface else "Peers")

    def _file(self) -> ConfigSource:
        if self._source is None:
            raise ConfigError("there is no file to write to: the node runs with -autoconf")
        return self._source

    async def close(self) -> None:
        """Call off a reload that SIGHUP began. Harmless when repeated."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)


def _same_as(uri: str) -> Callable[[str], bool]:
    """Return whether another URI is that of the same peering: without the query. Raises ``PeerUriError``."""
    from yggpy.links.uri import LinkUri

    wanted = str(LinkUri.parse(uri))

    def same(other: str) -> bool:
        try:
            return str(LinkUri.parse(other)) == wanted
        except PeerUriError:
            return False

    return same


def _shown(uri: str) -> str:
    from yggpy.links.uri import LinkUri
    from yggpy.links.url import without_secrets

    return without_secrets(str(LinkUri.parse(uri)))


def _uris(config: Config, interface: str) -> list[str]:
    return config.interface_peers.get(interface, []) if interface else config.peers


def _set_uris(node: _Node, interface: str, uris: list[str]) -> None:
    if interface:
        lists = {**node.config.interface_peers, interface: uris}
        node.config = replace(node.config, interface_peers=lists)
    else:
        node.config = replace(node.config, peers=uris)
