"""What is shipped for service managers and as manual pages fits the program."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from yggpy.cli.node import _flags

PROJECT = Path(__file__).parents[2]
CONTRIB = PROJECT / "contrib"
UNITS = sorted(path.name for path in (CONTRIB / "systemd").glob("*.service"))
SHELL_SCRIPTS = ["openrc/yggpy", "s6/yggpy/run", "s6/yggpy/log/run"]
PROGRAMS: dict[str, str] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60)


# -- manual pages --------------------------------------------------------------------------------------------


def test_the_manual_pages_are_up_to_date() -> None:
    done = run(sys.executable, CONTRIB / "man" / "build.py", "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run python contrib/man/build.py"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_manual_page_has_every_flag_with_the_text_of_help(name: str) -> None:
    page = (CONTRIB / "man" / f"{name}.1").read_text(encoding="utf-8")
    assert f".Nm {name}\n" in page
    if name == "yggpy-node":
        listed = re.findall(r"(?m)^\.It Fl (\S+)(?: Ar (\S+))?$", page)
        assert listed == [(flag.name, flag.argument) for flag in _flags().listed()]
        assert len(listed) > 15


@pytest.mark.parametrize("name", PROGRAMS)
def test_manual_pages_please_the_formatters(name: str) -> None:
    page = CONTRIB / "man" / f"{name}.1"
    if shutil.which("mandoc"):
        done = run("mandoc", "-Tlint", "-W", "warning", page)
        assert (done.returncode, done.stdout) == (0, "")
    elif shutil.which("man") and shutil.which("groff"):
        done = run("man", "--warnings", "-E", "UTF-8", "-l", page)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{name} — " in done.stdout
    else:
        pytest.skip("neither mandoc nor man is here")


# -- systemd -------------------------------------------------------------------------------------------------


def unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(CONTRIB / "systemd" / name)
    return {section: dict(parser[section]) for section in parser.sections()}


def flags_in(command: str) -> list[str]:
    return re.findall(r"(?<=\s)-([a-z]+)", command.partition("yggpy-node")[2])


def test_the_service_is_what_the_daemon_speaks() -> None:
    service = unit("yggpy.service")["Service"]
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["WatchdogSec"]) >= 10
    assert int(service["TimeoutStopSec"]) > 5  # longer than the daemon gives itself
    assert service["DeviceAllow"] == "/dev/net/tun rw"
    assert "CAP_NET_ADMIN" in service["CapabilityBoundingSet"].split()
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} <= set(service["RestrictAddressFamilies"].split())
    assert "yggpy-default-config.service" in unit("yggpy.service")["Unit"]["After"]
    assert unit("yggpy-default-config.service")["Service"]["Type"] == "oneshot"


@pytest.mark.parametrize("name", UNITS)
def test_units_use_flags_that_exist(name: str) -> None:
    command = unit(name)["Service"]["ExecStart"]
    used = flags_in(command)
    assert used and set(used) <= {flag.name for flag in _flags().listed()}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for name in UNITS:  # the program is not installed where the unit looks
        text = (CONTRIB / "systemd" / name).read_text().replace("/usr/bin/yggpy-node", "/bin/true")
        (tmp_path / name).write_text(text)
    done = run("systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in UNITS))
    complaints = [line for line in done.stderr.splitlines() if "yggpy" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_the_default_configuration_is_made_whole_and_closed_to_others(tmp_path: Path) -> None:
    service = unit("yggpy-default-config.service")["Service"]
    command = service["ExecStart"].removeprefix("/bin/sh -ec '").removesuffix("'")
    command = command.replace("/usr/bin/yggpy-node", f"{sys.executable} -m yggpy").replace("/etc/", f"{tmp_path}/")
    environment_of_unit = f"umask {service['UMask']}; cd {PROJECT}; "
    assert run("/bin/sh", "-ec", environment_of_unit + command).returncode == 0
    [made] = list(tmp_path.iterdir())
    assert made.name == "yggdrasil.conf" and made.stat().st_mode & 0o777 == 0o640
    assert "PrivateKey:" in made.read_text()


# -- OpenRC and s6 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELL_SCRIPTS)
def test_scripts_are_shell_and_executable(name: str) -> None:
    script = CONTRIB / name
    assert script.stat().st_mode & 0o111
    assert run("sh", "-n", script).returncode == 0


def test_openrc_uses_flags_that_exist() -> None:
    script = (CONTRIB / "openrc/yggpy").read_text()
    used = re.findall(r'"\$\{command\}" -([a-z]+)', script) + re.findall(r'[ =]-([a-z]{2,}) (?:"?\$|syslog)', script)
    assert {"genconf", "checkconf", "useconffile", "logto"} <= set(used)
    assert set(used) <= {flag.name for flag in _flags().listed()}


def test_s6_is_told_on_the_descriptor_that_it_listens_to() -> None:
    number = int((CONTRIB / "s6/yggpy/notification-fd").read_text())
    script = (CONTRIB / "s6/yggpy/run").read_text()
    assert f"-notifyfd {number}\n" in script
    assert number > 2
