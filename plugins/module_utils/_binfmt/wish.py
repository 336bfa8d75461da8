# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a user declares of the platforms that a host executes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from ansible.module_utils.basic import boolean

from .._problem import Problem

if TYPE_CHECKING:
    from .._change import Step
    from .._platform import Architecture
    from .kernel import Handler
    from .qemu_image import Image

# The platforms of a host as a person declares them, as an argument spec.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "platforms": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "exclusive": {"type": "bool", "default": False},
    "source": {"type": "str", "choices": ["package", "path", "image"], "default": "package"},
    "path": {"type": "path"},
    "image": {"type": "str"},
    "pull": {"type": "str", "choices": ["missing", "always"], "default": "missing"},
    "credentials": {"type": "bool", "default": True},
    "persistent": {"type": "bool", "default": True},
    "verify": {"type": "raw", "default": True},
}
REQUIRED_IF = [("source", "path", ["path"]), ("source", "image", ["image"])]
DEEP = "deep"


def depth(verify: object, name: str = "verify") -> tuple[bool, bool]:
    """Return whether a program of each platform is executed, and whether that is one that does what packages do."""
    if isinstance(verify, str) and verify.strip().lower() == DEEP:
        return True, True
    try:
        return bool(boolean(verify)), False
    except (TypeError, ValueError):
        raise Problem(f"{verify!r} is not a value of {name}", "write true, false or deep") from None


class Wish(NamedTuple):
    """What the user declares."""

    architectures: tuple[Architecture, ...]
    present: bool = True
    exclusive: bool = False
    persistent: bool = True
    verify: bool = True
    deep: bool = False  # by a program that does what packages do, as well
    handlers: Mapping[str, Handler] = {}  # wanted, by OCI name; none for native ones
    image: Image | None = None  # where QEMU has to be taken out of first
    obsolete: Mapping[str, Step] = {}  # paths of QEMU that nothing needs any more, and how they go
