"""Configurations written by either node are read by the other, and both print the same about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.go_node import GoPrograms
from tests.interop.lab import GO_VERSIONS, OURS, SUBJECT_VARIABLE
from tests.interop.nodes import new_key

Programs = dict[str, GoPrograms]
NEW_KEYS: dict[str, tuple[str, ...]] = {"0.5.12": ("GroupPassword",), "0.5.14": ()}
QUESTIONS = (["-address"], ["-subnet"], ["-publickey"], ["-exportkey"], ["-normaliseconf", "-json"], ["-normaliseconf"])

HAND_WRITTEN = """
# a configuration as people write them
{
  // the key is filled in by the test
  PrivateKey: %s
  peers: [
    tls://192.0.2.1:443?key=%s&priority=3
    "tcp://[2001:db8::1]:9001"   # quoted, with a remark
    'quic://example.org:1'
  ]
  InterfacePeers: { "eth0": ["tls://192.0.2.2:1"], "wlan0": [] }
  /* several
     lines */
  LISTEN: ["tls://[::]:0", "tcp://0.0.0.0:1234",]
  AdminListen: none
  MulticastInterfaces: [
    { Regex: "en.*", Beacon: true, Listen: false, Port: 9001, Priority: 2, Password: "pass word" }
    { Regex: "lo" }
  ]
  AllowedPublicKeys: [ "%s" ]
  GroupPassword: "group"
  IfName: ygg0
  IfMTU: 1280
  LogLookups: true
  NodeInfoPrivacy: true
  NodeInfo: { name: "höhle", numbers: [1, 2.5, -3e2], nested: { "yes": true, nothing: null } }
}
"""


def _command(kind: str, programs: Programs) -> list[str | Path]:
    if kind == OURS:
        kind = os.environ.get(SUBJECT_VARIABLE) or OURS
    return [sys.executable, "-m", "yggpy"] if kind == OURS else [programs[kind].node]


def _run(
    kind: str, programs: Programs, *flags: str | Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*_command(kind, programs), *flags]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)


def _print(kind: str, programs: Programs, *flags: str | Path, stdin: str | None = None) -> str:
    done = _run(kind, programs, *flags, stdin=stdin)
    assert done.returncode == 0, f"{kind} {flags}: {done.stdout}{done.stderr}"
    return done.stdout


def _lines(text: str, go_version: str = "0.5.14") -> list[str]:
    """Return the lines without comments and without keys that this version of Go doesn't know yet."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line for line in lines if not any(key in line for key in NEW_KEYS[go_version])]


def _agree(programs: Programs, go_version: str, path: Path) -> None:
    """Both nodes print the same of the configuration in ``path``; comments in HJSON are each node's own."""
    for question in QUESTIONS:
        ours = _print(OURS, programs, "-useconffile", path, *question)
        theirs = _print(go_version, programs, "-useconffile", path, *question)
        assert _lines(ours, go_version) == _lines(theirs, go_version), question


@pytest.mark.parametrize("go_version", GO_VERSIONS)
@pytest.mark.parametrize("form", ["hjson", "json"])
def test_generated(go_programs: Programs, tmp_path: Path, go_version: str, form: str) -> None:
    """What one node's ``-genconf`` writes means the same to both."""
    flags = ["-genconf", "-json"] if form == "json" else ["-genconf"]
    for author in (OURS, go_version):
        path = tmp_path / "generated.conf"
        path.write_text(_print(author, go_programs, *flags), encoding="utf-8")
        _agree(go_programs, go_version, path)


def test_generated_forms_agree(go_programs: Programs) -> None:
    """``-genconf`` writes Go's keys with Go's values in Go's order; only the key pair differs."""
    ours = json.loads(_print(OURS, go_programs, "-genconf", "-json"))
    theirs = json.loads(_print("0.5.14", go_programs, "-genconf", "-json"))
    assert list(ours) == list(theirs)
    assert {**ours, "PrivateKey": ""} == {**theirs, "PrivateKey": ""}
    hjson = [_lines(_print(kind, go_programs, "-genconf")) for kind in (OURS, "0.5.14")]
    assert [line for line in hjson[0] if "PrivateKey" not in line] == [
        line for line in hjson[1] if "PrivateKey" not in line
    ]


@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_hand_written(go_programs: Programs, tmp_path: Path, go_version: str) -> None:
    private, public = new_key()
    path = tmp_path / "hand-written.conf"
    path.write_text(HAND_WRITTEN % (private, public.hex(), public.hex()), encoding="utf-8")
    _agree(go_programs, go_version, path)


def test_standard_input_and_key_file(go_programs: Programs, tmp_path: Path) -> None:
    """``-useconf`` reads standard input, and a PEM file that Go exported is taken as ``PrivateKeyPath``."""
    config = _print("0.5.14", go_programs, "-genconf", "-json")
    pem = tmp_path / "key.pem"
    pem.write_text(_print("0.5.14", go_programs, "-useconf", "-exportkey", stdin=config), encoding="ascii")
    assert _print(OURS, go_programs, "-useconf", "-exportkey", stdin=config) == pem.read_text(encoding="ascii")
    by_path = json.dumps({"PrivateKeyPath": str(pem)})
    for kind in (OURS, "0.5.14"):
        address = _print(kind, go_programs, "-useconf", "-address", stdin=by_path)
        assert address == _print("0.5.14", go_programs, "-useconf", "-address", stdin=config)


@pytest.mark.parametrize(
    "config",
    ["{", "[]", '{"PrivateKey": "ab"}', '{"Peers": "x", "IfMTU": []}', '{"PrivateKeyPath": "/nonexistent"}', "{]\0"],
)
def test_what_go_refuses_ours_refuses(go_programs: Programs, config: str) -> None:
    """A bad configuration is exit code 1 and one clear line; Go refuses the same ones, with a stack trace."""
    assert _run("0.5.14", go_programs, "-useconf", "-address", stdin=config).returncode != 0
    ours = _run(OURS, go_programs, "-useconf", "-address", stdin=config)
    if os.environ.get(SUBJECT_VARIABLE):
        return
    assert ours.returncode == 1
    assert ours.stdout == ""
    assert len(ours.stderr.splitlines()) == 1, ours.stderr
    assert "Traceback" not in ours.stderr
