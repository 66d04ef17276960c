"""The base system of the test images: the machine's own Debian or Ubuntu, made by debootstrap, with its settings.

apt and pip are to work while an image is built. So the system gets the machine's package sources and keys, what its apt
says of proxies and certificates, its CA bundle, and pip's index.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.container.engine import CACHE, DockerError

__all__ = ["System"]

RECIPE = "2"
"""To be raised when the way in which a system is made changes."""
PACKAGES = ("ca-certificates", "iputils-ping", "python3")
TIMEOUT = 600.0
"""Seconds that debootstrap may take."""
OLDEST_PYTHON = {"debian": 12, "ubuntu": 24}
"""The first releases with Python 3.11 or newer."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
APT_FOLDERS = ("sources.list.d", "auth.conf.d", "keyrings", "trusted.gpg.d", "preferences.d")
APT_FILES = ("sources.list", "auth.conf", "trusted.gpg")
APT_SETTING = re.compile(r'^Acquire::(?:https?::\S+|Check-\S+|Retries|ForceIPv[46]|Languages\S*) "[^"]*";$')
PIP_SETTINGS = frozenset(
    ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "client-cert", "timeout", "retries")
)
SHED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")
"""What nobody reads in a container."""


@dataclass(frozen=True)
class System:
    """A base system, not yet made."""

    suite: str
    mirror: str
    settings: dict[str, bytes]
    """Files of the machine by the path that they get in the system."""

    @classmethod
    def of_this_machine(cls) -> System:
        """Return the system that fits this machine. Raises :class:`DockerError`."""
        release = platform.freedesktop_os_release()
        name, suite = release["ID"], release.get("VERSION_CODENAME", "")
        number = int(release.get("VERSION_ID", "0").split(".")[0] or 0)
        if name not in OLDEST_PYTHON or number < OLDEST_PYTHON[name]:
            raise DockerError(f"the base image is made of Debian 12, Ubuntu 24.04 or newer; this is {name} {number}")
        return cls(suite, _mirror(suite), _apt_files() | _pip_files() | _certificates())

    @property
    def digest(self) -> str:
        """Names all that the system is made of."""
        inputs = (RECIPE, PACKAGES, self.suite, self.mirror, sorted(self.settings.items()))
        return hashlib.sha256(repr(inputs).encode()).hexdigest()[:12]

    def archive(self, target: Path) -> None:
        """Make the system and put it into a tar file. Raises :class:`DockerError`."""
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="base-", dir=CACHE) as folder:
            root = Path(folder, "root")
            self._bootstrap(root)
            for place in SHED:
                shutil.rmtree(root / place, ignore_errors=True)
            for place in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log"):
                (root / place).mkdir(parents=True)
            for path in (root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")):
                path.unlink(missing_ok=True)
            for name, data in self.settings.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            fresh = target.with_suffix(".new")
            _run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(fresh), "."])
            fresh.rename(target)

    def _bootstrap(self, root: Path) -> None:
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        command += [self.suite, str(root), self.mirror]
        environment = dict(os.environ)
        for line in _run(["apt-config", "dump", "Acquire::http::Proxy"]).splitlines():
            if (found := re.match(r'Acquire::http::Proxy "(\S+)";', line)) and found[1] != "DIRECT":
                environment.setdefault("http_proxy", found[1])
        _run(command, environment)


def _mirror(suite: str) -> str:
    """Return the URI that this machine's apt has the suite's packages from. Raises :class:`DockerError`."""
    listing = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    for line in _run([*listing, "Created-By: Packages"]).splitlines():
        uri, release, component = line.split()
        if (release, component) == (suite, "main") and not uri.startswith("cdrom:"):
            return uri
    raise DockerError(f"apt on this machine has no source for main of {suite}, which the base image is made of")


def _apt_files() -> dict[str, bytes]:
    apt = Path("/etc/apt")
    found: list[Path] = [apt / name for name in APT_FILES]
    for folder in APT_FOLDERS:
        found += sorted((apt / folder).glob("*"))
    found += sorted(Path("/usr/share/keyrings").glob("*.gpg"))
    files: dict[str, bytes] = {str(path)[1:]: path.read_bytes() for path in found if path.is_file()}
    lines = [line for line in _run(["apt-config", "dump", "Acquire"]).splitlines() if APT_SETTING.match(line)]
    for line in lines:
        files |= _file_named_in(line)
    return files | {"etc/apt/apt.conf.d/90machine": "".join(f"{line}\n" for line in lines).encode()}


def _pip_files() -> dict[str, bytes]:
    """Return a configuration of pip with this machine's index, from its files and variables alike."""
    values: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for line in _run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        found = re.fullmatch(r"(?:global|:env:)\.([a-z-]+)='(.*)'", line)
        if not found or found[1] not in PIP_SETTINGS:
            continue
        # Folders of this machine are not there: only what is fetched from elsewhere counts.
        value = " ".join(word for word in found[2].replace("\\n", " ").split() if not word.startswith("file:"))
        if value:
            values.setdefault(found[1], value)  # variables are listed first, and count first
            files |= _file_named_in(value)
    text = "".join(f"{name} = {value}\n" for name, value in values.items())
    return files | {"etc/pip.conf": f"[global]\n{text}".encode()}


def _certificates() -> dict[str, bytes]:
    return {str(CERTIFICATES)[1:]: CERTIFICATES.read_bytes()} if CERTIFICATES.exists() else {}


def _file_named_in(setting: str) -> dict[str, bytes]:
    """Return the file whose path is in a setting, such as a certificate."""
    found = re.search(r"(?:^|\")(/[^\s\"]+)", setting)
    path = Path(found[1]) if found else None
    return {str(path)[1:]: path.read_bytes()} if path is not None and path.is_file() else {}


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockerError(f"the base image cannot be made: {error}") from None
    if done.returncode != 0:
        tail = f"{done.stdout}\n{done.stderr}".strip()[-1500:]
        raise DockerError(f"the base image cannot be made: {' '.join(command)}: exit code {done.returncode}: {tail}")
    return done.stdout
