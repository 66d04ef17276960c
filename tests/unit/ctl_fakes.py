"""Admin sockets that are none: each connection gets what a test has put down, whatever it asks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["LIMIT", "Script", "answering", "dropping", "running", "serving", "success", "talking"]

LIMIT = 20.0
"""Seconds after which a fake gives up on its client."""

Script = Callable[[socket.socket], None]
"""What is done with one connection; it is closed afterwards."""


def success(response: object) -> bytes:
    """Return a node's answer with this response."""
    return json.dumps({"status": "success", "request": {}, "response": response}).encode()


def answering(data: bytes) -> Script:
    """Read the question, send ``data``, close."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return script


def talking(*answers: bytes) -> Script:
    """Answer one question after the other on the same connection, in pieces of one byte."""

    def script(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(65536)
            for index in range(len(answer)):
                connection.sendall(answer[index : index + 1])
        connection.recv(65536)  # until the client closes

    return script


def dropping(connection: socket.socket) -> None:
    """Close without having read anything."""


@contextlib.contextmanager
def running(endpoint: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``yggpy-ctl`` in a process of its own, in UTC, which heeds signals whoever started the tests may ignore."""
    command = ["env", "--default-signal", sys.executable, "-m", "yggpy.ctl", f"-endpoint={endpoint}", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "TZ": "UTC"}) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def serving(where: Path | tuple[str, int], script: Script) -> Iterator[tuple[str, list[bytes]]]:
    """Listen at a unix path or a TCP address and run ``script`` for each connection, in a thread of its own.

    Yields the endpoint and the list of what each client had sent when its script began.
    """
    listener = socket.socket(socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET)
    listener.bind(str(where) if isinstance(where, Path) else where)
    listener.listen(8)
    questions: list[bytes] = []
    threads: list[threading.Thread] = []

    def run(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(LIMIT)
            with contextlib.suppress(OSError):
                if script is not dropping:
                    questions.append(connection.recv(65536, socket.MSG_PEEK))
                script(connection)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=run, args=(connection,), daemon=True))
            threads[-1].start()

    threads.append(threading.Thread(target=serve, daemon=True))
    threads[0].start()
    try:
        name = listener.getsockname()
        yield f"unix://{where}" if isinstance(where, Path) else f"tcp://{name[0]}:{name[1]}", questions
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in list(threads):
            thread.join(LIMIT)
