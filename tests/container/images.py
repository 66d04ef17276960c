"""The images of the tests: a base from debootstrap, ours made by the project's ``Dockerfile``, the Go node's beside it.

There is no registry. The base is the machine's own Debian or Ubuntu (``system.py``). An image's tag has a digest of all
that it is made of: what exists already is taken, and test runs of different trees do not take each other's. The base is
kept as an archive in the project's ``.cache/container/``, too, for daemons that are new.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tests.container.engine import CACHE, PROJECT, Engine
from tests.container.system import System
from tests.interop.go_node import GoPrograms

__all__ = ["Images"]

NAME = "yggpy-test"
BUILD_TIMEOUT = 900.0
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CONTEXT = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "native/CMakeLists.txt",
    "native/src",
    "yggpy",
)
"""What our image is made of, in the project's folder."""
GO_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY yggdrasil yggdrasilctl /usr/local/bin/
RUN mkdir -p /var/run/yggdrasil
ENTRYPOINT ["yggdrasil"]
CMD ["-autoconf"]
"""


class Images:
    """Makes the images that are asked for, each once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: dict[str, str] = {}

    @property
    def base(self) -> str:
        """A plain system with Python, ``ping`` and the machine's CA certificates."""
        return self._once("base", self._make_base)

    @property
    def node(self) -> str:
        """Our image, from the project's ``Dockerfile``."""
        return self._once("node", self._make_node)

    def go(self, programs: GoPrograms) -> str:
        """Return the image with a Go node, on the same base."""
        files = {"yggdrasil": programs.node, "yggdrasilctl": programs.ctl}
        return self.build(f"{NAME}-go", GO_DOCKERFILE, files)

    def build(self, name: str, dockerfile: str, files: Mapping[str, Path] | None = None) -> str:
        """Build an image from the text of a Dockerfile (``ARG BASE`` is :attr:`base`) and ``files`` beside it.

        It is built once for each text and contents; returns its name with the tag.
        """
        files = files or {}
        parts = [self.base.encode(), dockerfile.encode()]
        for target, source in files.items():
            parts += [target.encode(), source.read_bytes()]
        tag = f"{name}:{_digest(parts)}"
        with self._engine.building():
            if not self._exists(tag):
                with tempfile.TemporaryDirectory(prefix="yggpy-image-") as folder:
                    for target, source in files.items():
                        shutil.copy2(source, Path(folder, target))
                    Path(folder, "Dockerfile").write_text(dockerfile, encoding="utf-8")
                    self._build(tag, Path(folder))
        return tag

    def size(self, image: str) -> int:
        """Return the size of an image in bytes, the base included."""
        return int(self._engine.docker("image", "inspect", "--format", "{{.Size}}", image))

    # ---- each of them ----

    def _make_node(self) -> str:
        parts = [self.base.encode()]
        for path in _files(PROJECT / name for name in CONTEXT):
            parts += [str(path.relative_to(PROJECT)).encode(), path.read_bytes()]
        tag = f"{NAME}-node:{_digest(parts)}"
        with self._engine.building():
            if not self._exists(tag):
                self._build(tag, PROJECT)
                self._forget_old()
        return tag

    def _make_base(self) -> str:
        system = System.of_this_machine()
        tag = f"{NAME}-base:{system.digest}"
        with self._engine.building():
            if not self._exists(tag):
                archive = CACHE / f"base-{system.digest}.tar"
                if not archive.exists():
                    for old in CACHE.glob("base-*.tar"):
                        old.unlink()
                    system.archive(archive)
                self._engine.docker("import", "--change", 'CMD ["sh"]', archive, tag, timeout=BUILD_TIMEOUT)
        return tag

    def _once(self, name: str, make: Callable[[], str]) -> str:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _exists(self, tag: str) -> bool:
        return bool(self._engine.docker("image", "ls", "--quiet", tag).strip())

    def _build(self, tag: str, context: Path) -> None:
        # The host's network: the daemon need not have a bridge, and names are found as they are here.
        arguments = ["--network", "host", "--build-arg", f"BASE={self.base}"]
        arguments += [word for name in PROXIES if name in os.environ for word in ("--build-arg", name)]
        self._engine.docker("build", "--force-rm", *arguments, "--tag", tag, context, timeout=BUILD_TIMEOUT)

    def _forget_old(self) -> None:
        listed = self._engine.docker("image", "ls", "--format", "{{.Tag}} {{.CreatedSince}}", f"{NAME}-node")
        for line in listed.splitlines():
            tag, _, age = line.partition(" ")
            if re.search(r"\b(day|week|month|year)s?\b", age):
                self._engine.docker("image", "rm", f"{NAME}-node:{tag}", check=False)  # fails if somebody uses it


def _files(places: Iterable[Path]) -> Iterator[Path]:
    """Return what an image is made of: all files below these, without what Python and compilers leave."""
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
                yield path


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:12]
