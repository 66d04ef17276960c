"""Hundreds of routers in one process on a virtual clock, to see how trees form and heal.

    simulation = Simulation(mesh(200, 4, seed=1), seed=1)
    simulation.run_until_quiet()
    simulation.send(3, 77, b"hello")
    simulation.run_for(5.0)

Everything random comes from seeds: the same program sees the same network each time.
"""

from yggpy.sim.clock import VirtualScheduler
from yggpy.sim.link import SimulatedLink
from yggpy.sim.node import SimulatedNode
from yggpy.sim.simulation import NotQuiet, Simulation
from yggpy.sim.topology import Topology, line, mesh, ring, star, tree

__all__ = [
    "NotQuiet",
    "SimulatedLink",
    "SimulatedNode",
    "Simulation",
    "Topology",
    "VirtualScheduler",
    "line",
    "mesh",
    "ring",
    "star",
    "tree",
]
