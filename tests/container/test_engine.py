"""A Docker daemon of our own: started where none runs, shared, ended by its pid with the last who uses it."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.container.engine import DockerError, Engine
from tests.container.images import Images


@pytest.mark.usefixtures("engine")
def test_a_daemon_of_our_own(tmp_path: Path, images: Images) -> None:
    before = _shared_network()
    first, second, last = (Engine(tmp_path, own=True) for _ in range(3))
    with first:
        pid = first.pid
        assert first.is_own
        assert pid is not None
        with second:
            assert second.pid == pid
        assert first.pid == pid, "who came later has ended it"
        assert first.answers()
        # It runs containers, and has nothing of the other daemon's.
        assert first.docker("image", "ls", "--quiet") == ""
        with pytest.raises(DockerError, match="exit code"):
            first.docker("run", "--rm", "--network", "none", images.base, "true")
        # A container with the host's network makes it leave a mount behind.
        source = first.folder / "root"
        source.mkdir()
        first.docker("import", _tar_with_nothing(source), "nothing")
        with pytest.raises(DockerError, match="exec"):
            first.docker("run", "--rm", "--network", "host", "nothing", "/no-such-program")
        last.start()
    # Who ends it need not be who started it, and learns of its end though it is the child of another.
    assert last.pid == pid
    last.close()
    assert not first.answers()
    assert not list(Path("/run").glob(f"{first.run_folder.name}*"))
    assert _shared_network() == before, "the other daemon has lost something"


def _tar_with_nothing(folder: Path) -> Path:
    target = folder.with_suffix(".tar")
    with tarfile.open(target, "w") as archive:
        archive.add(folder, "etc")
    return target


def _shared_network() -> list[str]:
    """Return what two daemons could take from each other: bridges, and the chains of the packet filter."""
    commands = ("ip -brief address show docker0", "iptables -S DOCKER", "iptables -t nat -S PREROUTING")
    return [subprocess.run(line.split(), capture_output=True, text=True, check=False).stdout for line in commands]
