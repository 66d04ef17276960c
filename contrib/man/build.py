"""Makes the manual pages: ``NAME.1`` of ``NAME.1.in`` and the program's flags, with the texts that ``-help`` prints.

``python contrib/man/build.py`` writes them, with ``--check`` it only tells which are out of date. In a template
the line ``@FLAGS@`` stands for the list of flags.
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

MAN = Path(__file__).parent
PROJECT = MAN.parents[1]
FLAGS_LINE = "@FLAGS@"


def programs() -> dict[str, str]:
    """Return the modules of the installed programs by name."""
    scripts: dict[str, str] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    return {name: entry.partition(":")[0] for name, entry in scripts.items()}


def page(name: str, module: str) -> str:
    """Return the manual page of program ``name``, whose flags ``module`` has."""
    template = (MAN / f"{name}.1.in").read_text(encoding="utf-8")
    if f"\n{FLAGS_LINE}\n" not in template:
        raise ValueError(f"{name}.1.in has no line {FLAGS_LINE}")
    flags: Any = importlib.import_module(module)._flags()
    notice = f".\\\" Made by contrib/man/build.py of {name}.1.in and the program's flags; change those.\n"
    return notice + template.replace(f"\n{FLAGS_LINE}\n", "\n" + "".join(map(_item, flags.listed())))


def _item(flag: Any) -> str:
    argument = f" Ar {flag.argument}" if flag.argument else ""
    default = f"\n{_text(flag.default_note)}" if flag.default_note else ""
    description = _text(flag.description[:1].upper() + flag.description[1:])
    return f".It Fl {flag.name}{argument}\n{description}.{default}\n"


def _text(words: str) -> str:
    """Return running text so that troff takes it as it is."""
    escaped = " ".join(words.split()).replace("\\", "\\e").replace(" -", " \\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    sys.path.insert(0, str(PROJECT))
    outdated = []
    for name, module in programs().items():
        target, text = MAN / f"{name}.1", page(name, module)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            outdated.append(target.name)
            if "--check" not in arguments:
                target.write_text(text, encoding="utf-8")
    verb = "out of date" if "--check" in arguments else "written"
    print(f"{verb}: {', '.join(outdated)}" if outdated else "all manual pages are up to date")
    return 1 if outdated and "--check" in arguments else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
