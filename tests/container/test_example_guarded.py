"""``examples/guarded``: five guards, and for each an intruder that stays out; without the guards all of them get in."""

from __future__ import annotations

import re

from tests.container.lab import ContainerLab
from tests.container.readme import Readme

INTRUDERS = {"stranger", "guest", "neighbour", "member", "insider"}
_VERDICT = re.compile(r"^(ok|WRONG) +(\w+) +wants .*: +(in|out)\b", re.MULTILINE)


def verdicts(output: str) -> dict[str, tuple[str, str]]:
    """Return for each who tried whether that is as it should be, and whether it got in."""
    return {name: (mark, came) for mark, name, came in _VERDICT.findall(output)}


def test_guarded(docker: ContainerLab) -> None:
    readme = Readme(docker, "guarded")
    readme.run("./run.sh up")
    assert verdicts(readme.run("./run.sh try")) == {"client": ("ok", "in")} | dict.fromkeys(INTRUDERS, ("ok", "out"))
    log = readme.run("docker logs guarded-router")
    assert re.search(r"failed: .*AllowedPublicKeys", log)
    assert "password does not match" in log
    table = readme.run("docker exec guarded-server yggpy-ctl getFirewall")
    assert re.search(r"denied\W+[1-9]", table, re.IGNORECASE), table

    readme.run("GUARDS= ./run.sh up")
    tried = readme.run('GUARDS= ./run.sh try || echo "somebody got in"')
    assert verdicts(tried) == {"client": ("ok", "in")} | dict.fromkeys(INTRUDERS, ("WRONG", "in"))
    assert "somebody got in" in tried
    readme.run("./run.sh down")
    readme.require_nothing_left()
    readme.require_all_run()
