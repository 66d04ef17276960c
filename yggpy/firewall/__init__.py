"""The packet filter at the TUN: who in the mesh may send what to this machine (docs/firewall.md).

What this machine sends passes and is remembered as a flow, so that what is answered passes, too. What else comes in
must match a rule, or is dropped. Transit through this node is not judged: it is none of this machine's business.

``rules`` reads what the configuration says, ``packet`` the headers of a packet, ``flows`` remembers what was sent, and
``filter`` judges. All is sans-I/O. ``native/src/firewall.c`` does in C what ``filter`` does here, on the rules in the
form that ``Ruleset.pack`` makes, and both pass the same tests.
"""

from yggpy.firewall.filter import Firewall, FirewallCounters
from yggpy.firewall.rules import Rule, Ruleset, compile_rules

__all__ = ["Firewall", "FirewallCounters", "Rule", "Ruleset", "compile_rules"]
