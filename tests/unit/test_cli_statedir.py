"""The state directory: one key for ever, made once, for its owner alone and for one node at a time."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from yggpy.cli.privileges import Identity
from yggpy.cli.statedir import KEY_FILE, StateDirectory, StateDirectoryError
from yggpy.config.pem import private_key_to_pem
from yggpy.keys import PrivateKey


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    first = StateDirectory(str(path))
    assert not path.exists()
    key = first.key().to_bytes()
    assert (first.used, first.is_new) == (True, True)
    assert [entry.name for entry in path.iterdir()] == [KEY_FILE]
    assert (path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o700
    again = StateDirectory(str(path))
    assert again.key().to_bytes() == key
    assert not again.is_new


def test_a_key_that_was_put_there_is_used(tmp_path: Path) -> None:
    key = PrivateKey.generate()
    (tmp_path / KEY_FILE).write_text(private_key_to_pem(key))
    (tmp_path / KEY_FILE).chmod(0o644)
    state = StateDirectory(str(tmp_path))
    assert state.key().to_bytes() == key.to_bytes()
    assert state.hold() == [f"Others may read the private key: do chmod 600 {tmp_path / KEY_FILE}"]
    state.release()


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_not_replaced(tmp_path: Path, data: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(data)
    with pytest.raises(StateDirectoryError, match=r"^state directory .*: key\.pem is damaged: .*; put the right key"):
        StateDirectory(str(tmp_path)).key()
    assert (tmp_path / KEY_FILE).read_bytes() == data


def test_one_node_at_a_time(tmp_path: Path) -> None:
    first, second = StateDirectory(str(tmp_path)), StateDirectory(str(tmp_path))
    assert first.key().to_bytes() == second.key().to_bytes()  # asking for the key needs no lock
    assert first.hold() == []
    with pytest.raises(StateDirectoryError, match="another node runs with it"):
        second.hold()
    first.release()
    assert second.hold() == []
    second.release()


def test_the_faster_of_two_first_starts_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faster = PrivateKey.generate()
    link = os.link

    def late(source: str, target: str) -> None:
        Path(target).write_text(private_key_to_pem(faster))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    state = StateDirectory(str(tmp_path))
    assert state.key().to_bytes() == faster.to_bytes()
    assert not state.is_new
    assert [entry.name for entry in tmp_path.iterdir()] == [KEY_FILE]


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    key = StateDirectory(str(tmp_path)).key()
    assert StateDirectory(str(tmp_path)).key().to_bytes() == key.to_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == [KEY_FILE]


def test_what_is_no_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateDirectoryError, match=r"^state directory .*: Not a directory$"):
            StateDirectory(str(path)).key()


def test_a_full_or_broken_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StateDirectoryError, match="No space left on device"):
        StateDirectory(str(tmp_path)).key()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_without_the_right_to_write() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which are closed to others
        os.chmod(folder, 0o755)
        assert outcome_for_a_stranger(folder) == 0


def outcome_for_a_stranger(folder: str) -> int:
    """Try to keep a key there as somebody else: 0 if the error says what to do, 1 if there is none, 2 otherwise."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            StateDirectory(folder).key()
        except StateDirectoryError as error:
            code = 0 if "Permission denied (the node runs as user 65534, who must" in str(error) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_the_key_belongs_to_whom_the_node_becomes(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for owner in (Identity("x", 65534, 1), Identity("y", 1234, 5678)):
        state = StateDirectory(str(path), owner)
        state.key()
        assert state.hold() == []
        found = (path / KEY_FILE).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (owner.uid, owner.gid, 0o600)
        state.release()
    assert path.stat().st_uid == 65534  # the folder is given away when it is made, not later


def test_openssl_reads_it(tmp_path: Path) -> None:
    StateDirectory(str(tmp_path)).key()
    try:
        done = subprocess.run(["openssl", "pkey", "-in", tmp_path / KEY_FILE, "-noout"], check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("no openssl")
    assert done.returncode == 0
