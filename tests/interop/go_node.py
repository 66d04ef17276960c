"""Obtains the real Go node, in the versions that ``go_node.pins`` lists, without installing anything on the machine.

It is Debian's ``yggdrasil`` package. apt fetches and checks it, with a private state directory under the project's
``.cache/``: the mirror is the one that the machine's own apt uses, the signature is checked against the Debian archive
keyring, and the file against the pinned SHA-256. ``dpkg -x`` unpacks it there. What is unpacked is kept, so the network
is needed once. ``python -m tests.interop.go_node`` fetches all pinned versions and prints where they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PINS_FILE", "GoNodeUnavailableError", "GoPrograms", "Pin", "obtain", "pins"]

PROJECT = Path(__file__).resolve().parents[2]
PINS_FILE = Path(__file__).with_name("go_node.pins")
CACHE = PROJECT / ".cache" / "go-node"
PACKAGE = "yggdrasil"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "YGGPY_DEBIAN_MIRROR"
"""Environment variable with the URI of a Debian mirror, for machines whose apt has none (Ubuntu)."""
DEBIAN_SUITES = frozenset(("bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"))
APT_TIMEOUT = 300
"""Seconds that one run of apt may take."""


class GoNodeUnavailableError(RuntimeError):
    """The Go node can't be had on this machine; the message tells why and what to do."""


@dataclass(frozen=True)
class Pin:
    """One line of ``go_node.pins``: which package file stands for an upstream version."""

    upstream: str
    package_version: str
    suite: str
    architecture: str
    sha256: str


@dataclass(frozen=True)
class GoPrograms:
    """The unpacked programs of one version of the Go node."""

    version: str
    """Upstream version, such as ``0.5.14``."""
    node: Path
    ctl: Path


def pins() -> list[Pin]:
    """Return the pinned package files, in the order of the file."""
    lines = (line.split("#", 1)[0].split() for line in PINS_FILE.read_text(encoding="utf-8").splitlines())
    return [Pin(*fields) for fields in lines if fields]


def obtain(upstream: str) -> GoPrograms:
    """Return the programs of upstream version ``upstream``, fetched first if they are not in the cache.

    Where the mirror has moved on, the newest 0.5.x that is not older stands in, with a warning. Raises
    :class:`GoNodeUnavailableError`.
    """
    wanted = [pin for pin in pins() if pin.upstream == upstream]
    if not wanted:
        raise GoNodeUnavailableError(f"{PINS_FILE.name} has no line for the Go node {upstream}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        place = CACHE / upstream
        if not (place / "version").exists():
            _fetch(wanted, place)
        version = (place / "version").read_text(encoding="utf-8").strip()
        if version != upstream:
            warnings.warn(
                f"the Go node {upstream} is gone from the mirror: {version} stands in for it (renew {PINS_FILE.name})",
                stacklevel=2,
            )
        return GoPrograms(version, _program(place, "yggdrasil"), _program(place, "yggdrasilctl"))


def _program(place: Path, name: str) -> Path:
    for folder in ("usr/bin", "usr/sbin"):
        if (program := place / folder / name).exists():
            return program
    raise GoNodeUnavailableError(f"the package in {place} has no program {name}: remove that folder and try again")


def _fetch(wanted: list[Pin], place: Path) -> None:
    for program in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(program) is None:
            raise GoNodeUnavailableError(f"the Go node comes as a Debian package, and this machine has no {program}")
    if not KEYRING.exists():
        raise GoNodeUnavailableError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    pin = next((pin for pin in wanted if pin.architecture == architecture), None)
    suite, upstream = wanted[0].suite, wanted[0].upstream
    apt = _PrivateApt(suite)
    offered = apt.versions()
    if pin is not None and pin.package_version in offered:
        version = pin.package_version
    else:
        version = _stand_in(offered, upstream, suite, exact=pin.package_version if pin else None)
    package = apt.download(version)
    if pin is not None and version == pin.package_version:
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        if digest != pin.sha256:
            raise GoNodeUnavailableError(f"{package.name} has SHA-256 {digest}, but {PINS_FILE.name} says {pin.sha256}")
    fresh = place.with_name(place.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    _run(["dpkg", "-x", str(package), str(fresh)])
    _run([str(_program(fresh, "yggdrasil")), "-version"], what="the Go node was fetched but doesn't run here")
    (fresh / "version").write_text(_upstream(version) + "\n", encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)
    apt.forget()


def _upstream(package_version: str) -> str:
    """Return the upstream part: ``0.5.12`` of Debian's ``0.5.12-1~bpo12+1``."""
    found = re.search(r"(?:^|:)([0-9.]+)", package_version)
    return found[1] if found else package_version


def _stand_in(offered: list[str], upstream: str, suite: str, exact: str | None) -> str:
    """Return the newest offered 0.5.x that is not older than ``upstream``."""

    def order(package_version: str) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", _upstream(package_version)))

    fitting = [v for v in offered if _upstream(v).startswith("0.5.") and order(v) >= order(upstream)]
    if not fitting:
        raise GoNodeUnavailableError(
            f"{suite} offers no {PACKAGE} {exact or upstream} nor a newer 0.5.x (only: {', '.join(offered) or 'none'})"
        )
    return max(fitting, key=order)


class _PrivateApt:
    """apt with one suite of the machine's Debian mirror and all of its state in a folder of ours."""

    def __init__(self, suite: str) -> None:
        state = CACHE / "apt" / suite
        for folder in ("lists/partial", "archives/partial", "etc"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        sources = state / "etc" / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {_debian_mirror()} {suite} main\n", encoding="utf-8")
        (state / "status").touch()
        settings = {
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": state,
            "Dir::State::Lists": state / "lists",
            "Dir::State::Status": state / "status",
            "Dir::Cache": state,
            "Dir::Cache::Archives": state / "archives",
            "Acquire::Languages": "none",
            "Acquire::Retries": 2,
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",  # the project's folder may be closed to _apt
            "APT::Update::Error-Mode": "any",
        }
        self._options = [text for name, value in settings.items() for text in ("-o", f"{name}={value}")]
        self._state = state
        self._folder = state / "archives"
        self._suite = suite
        _run(["apt-get", *self._options, "-qq", "update"], what=f"apt can't read {suite} of the Debian mirror")

    def versions(self) -> list[str]:
        """Return the versions of the package that the suite offers."""
        table = _run(["apt-cache", *self._options, "madison", PACKAGE])
        return [line.split("|")[1].strip() for line in table.splitlines() if "Packages" in line]

    def download(self, version: str) -> Path:
        """Fetch the package file, checked by apt against the signed index, and return where it is."""
        for old in self._folder.glob("*.deb"):
            old.unlink()
        _run(
            ["apt-get", *self._options, "-qq", "download", f"{PACKAGE}={version}"],
            folder=self._folder,
            what=f"apt can't fetch {PACKAGE} {version} from {self._suite}",
        )
        return next(self._folder.glob("*.deb"))

    def forget(self) -> None:
        """Remove the state directory with its package lists."""
        shutil.rmtree(self._state)


def _debian_mirror() -> str:
    """Return the URI of the Debian mirror that this machine's apt is set up with."""
    if uri := os.environ.get(MIRROR_VARIABLE):
        return uri
    # Without release information the answer is complete even where the package lists were removed (container images).
    listing = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE)"]
    lines = _run([*listing, "Created-By: Packages"])
    for line in lines.splitlines():
        uri, _, suite = line.partition(" ")
        if suite in DEBIAN_SUITES and not uri.startswith("cdrom:"):
            return uri
    raise GoNodeUnavailableError(
        "apt on this machine has no Debian mirror among its sources (on Ubuntu it has none by itself), "
        f"and the Go node comes from there: set {MIRROR_VARIABLE} to the URI of one"
    )


def _run(command: list[str], *, folder: Path | None = None, what: str = "") -> str:
    environment = os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=APT_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise GoNodeUnavailableError(f"{what or command[0]}: no end after {APT_TIMEOUT} s") from None
    if done.returncode != 0:
        reason = " / ".join(done.stderr.strip().splitlines()[-3:]) or f"exit code {done.returncode}"
        raise GoNodeUnavailableError(f"{what or ' '.join(command[:1])}: {reason}")
    return done.stdout


def main() -> int:
    """Fetch every pinned version and print its place."""
    try:
        for upstream in dict.fromkeys(pin.upstream for pin in pins()):
            programs = obtain(upstream)
            print(f"{upstream}: {programs.node} ({programs.version})")
    except GoNodeUnavailableError as error:
        print(f"go_node: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
