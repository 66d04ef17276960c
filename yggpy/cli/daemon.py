"""Runs a node until it is told to stop: start order, signals, stop order, ``-user`` (protocol section 14.1).

SIGHUP reads the configuration again, where Go's node ends.

The first SIGINT or SIGTERM stops the node cleanly, also while it is still starting; a second one, or ``STOP_TIMEOUT``,
ends the process at once (name look-ups in threads, for example, cannot be called off). What keeps a node from starting
is handed to the caller, who makes one line of it, before anything can hold up the end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from yggpy.cli.configfile import ConfigSource
from yggpy.cli.logs import NOTICE
from yggpy.cli.pid1 import is_first_process, reap_orphans
from yggpy.cli.privileges import Identity, shortcomings
from yggpy.cli.reloading import Reloader
from yggpy.cli.service import ServiceManager
from yggpy.config import Config
from yggpy.serving import ServingError
from yggpy.version import BUILD_NAME, build_version

if TYPE_CHECKING:
    from yggpy.reload import ReloadReport

__all__ = ["STOP_TIMEOUT", "AdminService", "DaemonOptions", "NodeService", "run_daemon"]

STOP_TIMEOUT = 5.0
"""Seconds that a clean stop may take before the process just ends."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class NodeService(Protocol):
    """What the daemon does with a :class:`yggpy.node.Node`."""

    config: Config

    @property
    def public_key(self) -> bytes: ...
    @property
    def address(self) -> object: ...
    @property
    def subnet(self) -> object: ...
    async def start_links(self) -> None: ...
    def start_multicast(self) -> None: ...
    def start_tun(self) -> None: ...
    async def apply_dns(self) -> list[str]: ...
    async def reload(self, config: Config) -> ReloadReport: ...
    async def close(self) -> None: ...


class AdminService(Protocol):
    """What the daemon does with a :class:`yggpy.admin.server.AdminServer`."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class MonitoringService(Protocol):
    """What the daemon does with a :class:`yggpy.monitoring.endpoint.MonitoringEndpoint`."""

    @property
    def address(self) -> str: ...
    async def listen(self, listen: str) -> bool: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """What the command line says of the process rather than of the node."""

    notify_fd: int = -1
    """If positive, it gets a newline and is closed when the node is ready."""
    user: Identity | None = None
    """Whom to become once the node has started."""
    source: ConfigSource | None = None
    """Where the configuration came from; None: from nowhere (``-autoconf``)."""
    notes: tuple[tuple[int, str], ...] = ()
    """Level and text of what the log is to say first: what became of the environment and the state directory."""


NodeFactory = Callable[[Config, logging.Logger], NodeService]
AdminFactory = Callable[[Any, str, logging.Logger, Reloader], AdminService]
MonitoringFactory = Callable[[Any, logging.Logger], MonitoringService]


def _make_node(config: Config, logger: logging.Logger) -> NodeService:
    from yggpy.node import Node

    return Node(config, logger=logger)


def _make_admin(node: Any, listen_uri: str, logger: logging.Logger, reloader: Reloader) -> AdminService:
    from yggpy.admin.server import AdminServer
    from yggpy.admin.upkeep import add_upkeep

    server = AdminServer(node, listen_uri, logger, BUILD_NAME, build_version())
    add_upkeep(server.commands, reloader)
    return server


def _make_monitoring(node: Any, logger: logging.Logger) -> MonitoringService:
    try:
        from yggpy.monitoring.endpoint import MonitoringEndpoint  # with libraries that only some users need
    except ImportError as error:
        raise ServingError(f"HTTPListen needs a library that is not there: {error}; install it with pip") from None
    return MonitoringEndpoint(node, logger)


def run_daemon(
    config: Config,
    logger: logging.Logger,
    on_failure: Callable[[Exception], None],
    options: DaemonOptions = DaemonOptions(),
    *,
    make_node: NodeFactory = _make_node,
    make_admin: AdminFactory = _make_admin,
    make_monitoring: MonitoringFactory = _make_monitoring,
) -> int:
    """Run a node until SIGINT or SIGTERM, and return the exit code.

    What keeps it from starting goes to ``on_failure``; the code is then 1.
    """
    daemon = _Daemon(config, logger, on_failure, options, make_node, make_admin, make_monitoring)
    try:
        asyncio.run(daemon.serve())
    finally:
        daemon.finished()
    return daemon.exit_code


class _Daemon:
    def __init__(
        self,
        config: Config,
        logger: logging.Logger,
        on_failure: Callable[[Exception], None],
        options: DaemonOptions,
        make_node: NodeFactory,
        make_admin: AdminFactory,
        make_monitoring: MonitoringFactory,
    ) -> None:
        self._config = config
        self._log = logger
        self._on_failure = on_failure
        self._options = options
        self._manager = ServiceManager(logger, options.notify_fd, os.environ)
        self._make_node = make_node
        self._make_admin = make_admin
        self._make_monitoring = make_monitoring
        self._node: NodeService | None = None
        self._admin: AdminService | None = None
        self._monitoring: MonitoringService | None = None
        self._reloader: Reloader | None = None
        self._started = False
        self._stop = asyncio.Event()
        self._stopped_cleanly = False
        self.exit_code = 0
        self._watchdog: threading.Timer | None = None

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        if is_first_process():
            reap_orphans(loop)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        except Exception as error:
            self.exit_code = 1
            self._on_failure(error)
        finally:
            stopping.cancel()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._close()

    async def _start(self) -> None:
        config, log = self._config, self._log
        log.info("Build name: %s", BUILD_NAME)
        log.info("Build version: %s", build_version())
        for level, note in self._options.notes:
            log.log(level, "%s", note)
        for unknown in config.unknown_keys:
            log.warning("Configuration, line %d: %s", unknown.line, unknown)
        config.check()
        node = self._node = self._make_node(config, log)
        await node.start_links()
        log.log(NOTICE, "Your public key is %s", node.public_key.hex())
        log.log(NOTICE, "Your IPv6 address is %s", node.address)
        log.log(NOTICE, "Your IPv6 subnet is %s", node.subnet)
        status = f"Running as {node.address}"
        self._reloader = Reloader(node, self._options.source, log, self._manager, status)
        self._admin = self._make_admin(node, config.admin_listen, log, self._reloader)
        await self._admin.start()
        node.start_multicast()
        node.start_tun()
        await node.apply_dns()
        self._reloader.follow_http = self._follow_http
        await self._follow_http(config.http_listen)  # not before: it may be to listen on the mesh address
        if self._options.user is not None:
            self._become(self._options.user)
        self._manager.ready(status)
        self._started = True

    async def _follow_http(self, listen: str) -> str:
        """Let the HTTP endpoint be where ``HTTPListen`` says; return what has changed. Raises ``ServingError``."""
        if self._monitoring is None:
            if listen in ("", "none"):
                return ""
            self._monitoring = self._make_monitoring(self._node, self._log)
        if not await self._monitoring.listen(listen):
            return ""
        address = self._monitoring.address
        return f"HTTP endpoint listens on {address} now" if address else "HTTP endpoint closed"

    def _become(self, user: Identity) -> None:
        """Give up root for good."""
        source = self._options.source
        user.assume(self._config.admin_listen, self._config.http_listen)
        self._log.info("Running as user %d, group %d from now on", user.uid, user.gid)
        if user.uid != 0:
            for line in shortcomings(self._config, None if source is None else source.path):
                self._log.warning("%s", line)

    async def _close(self) -> None:
        self._start_watchdog()
        self._manager.stopping()
        if self._stop.is_set():
            self._log.info("Stopping...")
        if self._reloader is not None:
            await self._reloader.close()
        if self._monitoring is not None:
            await self._monitoring.close()
        if self._admin is not None:
            await self._admin.close()
        if self._node is not None:
            await self._node.close()
        self._manager.close()
        self._stopped_cleanly = True
        if self._stop.is_set():
            self._log.info("Stopped")

    def _hung_up(self) -> None:
        """SIGHUP: read the configuration again."""
        if self._started and self._reloader is not None and not self._stop.is_set():
            self._reloader.by_signal()
        else:
            self._log.info("SIGHUP ignored: the node is still starting, or stopping already")

    def _signalled(self, number: int) -> None:
        if self._stopped_cleanly:
            _exit_now(self.exit_code)  # all is done: this end is no other than the one under way
        elif self._stop.is_set():
            self._log.warning("Second signal: ending at once")
            _exit_now(128 + number)
        self._stop.set()

    def _start_watchdog(self) -> None:
        self._watchdog = threading.Timer(STOP_TIMEOUT, self._give_up)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _give_up(self) -> None:
        """End a process that is held up, most likely by a thread that waits for a name server."""
        if not self._stopped_cleanly:
            self._log.error("The node did not stop in %d s; ending at once", STOP_TIMEOUT)
        _exit_now(self.exit_code if self._stopped_cleanly else 1)

    def finished(self) -> None:
        """The event loop has ended: nothing can be held up any more."""
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what no task expected; the node goes on."""
        error = context.get("exception")
        self._log.error("Internal error: %s", context.get("message", "unknown"), exc_info=error)


def _exit_now(code: int) -> None:
    logging.shutdown()
    os._exit(code)
