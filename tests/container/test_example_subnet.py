"""``examples/subnet``: containers without a node, on two hosts, reach each other by addresses of their hosts' nodes."""

from __future__ import annotations

import json

from tests.container.hosts import Hosts
from tests.container.lab import ContainerLab, wait_for
from tests.container.readme import Readme


def test_subnet(hosts: Hosts, host_labs: tuple[ContainerLab, ContainerLab]) -> None:
    readme, elsewhere = (Readme(lab, "subnet", hosts.variables) for lab in host_labs)
    first, second = host_labs
    readme.run("./run.sh up")
    commands = readme.run("docker -H $HOST1 exec subnet-node yggpy-ctl subnet docker")
    subnet = first.adopt("node").ctl("subnet")
    network = first.engine.docker("network", "inspect", "--format", "{{json .IPAM.Config}}", f"{first.prefix}mesh")
    assert subnet["subnet"] in commands
    assert {"Subnet": subnet["subnet"], "Gateway": subnet["gateway"]} in json.loads(network)

    ping = next(command for command in readme.commands if " ping " in command)
    assert "3 received" in readme.run(ping)
    fetch = next(command for command in readme.commands if "urlopen" in command)
    assert readme.run(fetch) == "200\n"
    # Nothing is translated on the way.
    client = second.engine.inspect(f"{second.prefix}client")["NetworkSettings"]["Networks"][f"{second.prefix}mesh"]
    address = client["GlobalIPv6Address"]
    wait_for(
        "the server has logged the client's address",
        lambda: f"{address} - - " in readme.run("docker -H $HOST1 logs subnet-web"),
    )
    assert second.adopt("client").exec("ls", "/sys/class/net").split() == ["eth0", "lo"]

    # With its key the node keeps its subnet.
    first.engine.docker("restart", "--time", "5", f"{first.prefix}node")
    wait_for("the client reaches the server again", lambda: readme.run(fetch) == "200\n", pause=0.5)

    readme.run("./run.sh down")
    for page in (readme, elsewhere):
        page.require_nothing_left()
    readme.require_all_run()
