# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write a value as YAML as a person would, so that Drone's Go reads the same: block style, nothing folded, order kept."""

from __future__ import annotations

import re
from typing import Any, Iterable

from .._problem import Problem
from .yaml_scalar import value_of

# Plain, these are strings to PyYAML (YAML 1.1) and numbers to Go: 1e3 becomes 1000, 0o17 becomes 15, 1_000 becomes 1000.
_NUMBER_TO_GO = re.compile(r"[-+]?[.\d][\da-fA-FxXoObB_.:eE+-]*|[-+]?\.?(inf|nan)", re.IGNORECASE)
# What YAML 1.1 takes for the end of a line, or for no part of a text: only as an escape do they stay what they are.
_OTHER_BREAKS = re.compile(r"[\x85\u2028\u2029\ufeff\r]")

_DUMPERS: dict[bool, Any] = {}


def library() -> Any:
    """Return PyYAML, which Ansible's controller has; raise a Problem where the module runs without it."""
    try:
        import yaml
    except ImportError as error:
        raise Problem(
            "PyYAML is not there", "install python3-yaml, or run the task on the controller (delegate_to: localhost)"
        ) from error
    return yaml


def dump(value: object, *, flow: bool = False) -> str:
    """Return the YAML of a value, with a newline at its end in block style, on one line and without it in flow style."""
    yaml = library()
    text: str = yaml.dump(
        plain(value),
        Dumper=_dumper(flow),
        default_flow_style=flow,
        sort_keys=False,
        width=1 << 30,
        allow_unicode=True,
    )
    return text.rstrip("\n") if flow else text


def dump_all(documents: Iterable[object]) -> str:
    """Return the text of a file of several documents, each behind its `---`."""
    return "".join(f"---\n{dump(document)}" for document in documents)


def plain(value: Any) -> Any:
    """Return a value in the types that YAML knows: Ansible's tagged strings and lazy containers become ordinary ones."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str.__str__(value) if isinstance(value, str) else str(value)


def _dumper(flow: bool) -> Any:
    """Return the dumper class, made once PyYAML is known to be there."""
    if flow in _DUMPERS:
        return _DUMPERS[flow]
    yaml = library()

    class Dumper(yaml.SafeDumper):  # type: ignore[misc, name-defined]
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            # Entries of a list stand below their key and two columns in, as the article writes them.
            return super().increase_indent(flow, False)

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        style = None
        # Drone puts its variables in before it reads YAML: only in a block does a branch named `x` or {x stay what it is.
        if _OTHER_BREAKS.search(data):
            style = '"'
        elif ("\n" in data or "${" in data) and not flow:
            style = "|"
        elif _NUMBER_TO_GO.fullmatch(data) or value_of(data) != data:
            style = "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    _DUMPERS[flow] = Dumper
    return Dumper
