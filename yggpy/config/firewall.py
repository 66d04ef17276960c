"""The ``Firewall`` section of a configuration (docs/firewall.md): read from HJSON values, and written back.

It is an addition of ours: Go ignores it, and without it a configuration is written as Go writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yggpy.config.hjson import HjsonValue
from yggpy.errors import ConfigError
from yggpy.firewall.rules import Rule, Ruleset, compile_rules

__all__ = ["FirewallConfig", "firewall_tree", "read_firewall"]

_RULE_KEYS = {"name": "Name", "from": "From", "protocol": "Protocol", "ports": "Ports"}


@dataclass(frozen=True, slots=True)
class FirewallConfig:
    """The section. With ``enable`` False it is as if it were not there."""

    rules: tuple[Rule, ...] = ()
    enable: bool = True

    def ruleset(self) -> Ruleset | None:
        """Return the rules compiled; None when the filter is off. Raises ``ConfigError``."""
        compiled = compile_rules(self.rules)
        return compiled if self.enable else None


def read_firewall(key: str, value: HjsonValue) -> FirewallConfig:
    """Read the section. Raises ``ConfigError``, also for names that are unknown.

    Unknown names are an error here, unlike elsewhere: a rule whose ``Ports`` are misspelt would let in too much.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object with Enable and Rules")
    enable = True
    rules: tuple[Rule, ...] = ()
    for given, member in value.items():
        name = given.lower()
        if name == "enable":
            if not isinstance(member, bool):
                raise ConfigError(f"{key}.Enable must be true or false")
            enable = member
        elif name == "rules":
            if member is not None and not isinstance(member, list):
                raise ConfigError(f"{key}.Rules must be a list of objects")
            rules = tuple(_rule(f"{key}.Rules[{index}]", element) for index, element in enumerate(member or []))
        else:
            raise ConfigError(f'{key} has no "{given}"; it can have Enable and Rules')
    return FirewallConfig(rules, enable)


def _rule(key: str, value: HjsonValue) -> Rule:
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object with {', '.join(_RULE_KEYS.values())}")
    texts: dict[str, tuple[str, ...]] = {}
    for given, member in value.items():
        name = _RULE_KEYS.get(given.lower())
        if name is None:
            raise ConfigError(f'{key} has no "{given}"; it can have {", ".join(_RULE_KEYS.values())}')
        texts[name] = _texts(f"{key}.{name}", member)
    name = ", ".join(texts.get("Name", ()))
    return Rule(name, texts.get("From", ()), texts.get("Protocol", ()), texts.get("Ports", ()))


def _texts(key: str, value: HjsonValue) -> tuple[str, ...]:
    """Return one string or number, or a list of them, as texts. An empty list would read as "any": it is an error."""
    elements = value if isinstance(value, list) else [value]
    texts = tuple(str(element).strip() for element in elements if isinstance(element, str))
    if len(texts) != len(elements) or not all(texts):
        raise ConfigError(f"{key} must be a string, a number, or a list of these")
    if not texts:
        raise ConfigError(f"{key} is empty; name something, or leave {key.rpartition('.')[2]} out to mean any")
    return texts


def firewall_tree(config: FirewallConfig) -> dict[str, Any]:
    """Return the section as the writers print it."""
    rules = []
    for rule in config.rules:
        tree: dict[str, Any] = {}
        if rule.name:
            tree["Name"] = rule.name
        for name, texts in (("From", rule.senders), ("Protocol", rule.protocols), ("Ports", rule.ports)):
            if texts:
                tree[name] = list(texts)
        rules.append(tree)
    return {"Enable": config.enable, "Rules": rules}
