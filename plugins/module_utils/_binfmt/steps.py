# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps that change which foreign platforms a host executes, each with its way back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._change import Step
from .._problem import Problem
from . import kernel_write as binfmt
from .kernel import ROOT, TEMPORARY
from .world import try_out

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._platform import Architecture
    from . import qemu
    from .kernel import Handler, Kernel


def enable_steps(kernel: Kernel) -> Iterable[Step]:
    """Give the steps that bring binfmt_misc up."""
    if kernel.state == "not loaded":
        if os.geteuid() == 0:  # others are told that first
            binfmt.load(dry=True)
        yield Step("load the kernel module binfmt_misc", binfmt.load)
    if kernel.state in ("not loaded", "not mounted"):
        yield Step(f"mount {ROOT}", binfmt.mount, binfmt.unmount)
    if kernel.state == "off":
        yield Step("switch binfmt_misc on", lambda: binfmt.switch(True), lambda: binfmt.switch(False))


def removal(handler: Handler) -> Step:
    """Return the step after which the kernel has a handler no more."""
    return Step(f"remove {handler.name}", lambda: binfmt.remove(handler.name), lambda: _put_back(handler))


def registration(
    architecture: Architecture,
    wanted: Handler,
    old: Handler | None,
    troubles: list[str],
    programs: qemu.Programs | None,
    *,
    deep: bool = False,
) -> Step:
    """Return the step that makes `wanted` the handler of its name; where it does not work, the old one stays.

    While one is replaced, a second entry takes the programs, so that no build meets a moment without an emulator. And
    the old one goes only when the new one is known to work: registered again it might not, F pinned a file that may be
    gone.
    """

    def register(handler: Handler) -> None:
        binfmt.register(handler)
        verdict = try_out(architecture, wanted.interpreter, programs) if programs is not None else None
        trouble = verdict.trouble if verdict is not None else ""
        if deep and not trouble:
            trouble = _deep_trouble(architecture)
        if trouble:
            binfmt.remove(handler.name)
            raise Problem(f"{wanted.interpreter} with flags {wanted.flags}: {trouble}")

    def substitute(old: Handler) -> None:
        stand_in = wanted._replace(name=wanted.name + TEMPORARY)
        binfmt.remove(stand_in.name)  # of a run that was killed
        register(stand_in)
        try:
            binfmt.remove(old.name)
            try:
                binfmt.register(wanted)
            except Problem:
                _put_back(old)
                raise
        finally:
            binfmt.remove(stand_in.name)

    def appear() -> None:
        register(wanted)
        binfmt.remove(wanted.name + TEMPORARY)  # of a run that was killed

    def restore() -> None:
        binfmt.remove(wanted.name)
        if old is not None:
            _put_back(old)

    if old is None:
        return Step(f"register {wanted.name}", appear, restore)
    return Step(f"register {wanted.name} again: {'; '.join(troubles)}", lambda: substitute(old), restore)


def _deep_trouble(architecture: Architecture) -> str:
    from . import deep

    found = deep.trouble(architecture)
    return found if found and not deep.unproven() else ""


def _put_back(handler: Handler) -> None:
    binfmt.register(handler)
    if not handler.enabled:
        binfmt.enable(handler.name, False)
