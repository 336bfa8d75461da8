# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules `binfmt_qemu` and `binfmt_qemu_info`: from options to a result, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._change import carry_out
from .._platform import ARCHITECTURES, all_platforms, parse_all
from .._problem import Problem
from . import known, qemu
from .kernel import Handler
from .plan import ANOTHER_QEMU, as_diff, as_result, boot_faults, boot_faults_as_found, deep_words, faults, plan
from .wish import Wish, depth
from .world import World, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._change import Plan
    from .._platform import Architecture, Platform
    from .qemu_image import Image


def declare(options: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do the work of `binfmt_qemu`."""
    platforms = chosen(options["platforms"])
    depth(options["verify"])
    if options["exclusive"] and options["state"] == "absent":
        raise Problem("exclusive: true with state: absent means nothing", "leave one of them out")
    programs = qemu.Programs()
    image = None
    if options["source"] == "image" and options["state"] == "present":
        from .qemu_image import Image  # Docker's CLI concerns nobody else

        image = Image(options["image"])
    try:
        result, wish, world = _carry_out(options, platforms, programs, image, check_mode)
        breakages = _known(wish, programs)
        if image is not None and not check_mode:
            image.keep_note()
    finally:
        if image is not None:
            image.close()
    if not check_mode:
        programs.save()
    boot = boot_faults(wish, world)
    reports = [as_result(platform, wish, world, programs, boot) for platform in platforms]
    return {
        **result,
        "platforms": reports,
        "warnings": list(dict.fromkeys([*(fault for faults in boot.values() for fault in faults), *breakages])),
    }


def _known(wish: Wish, programs: qemu.Programs) -> list[str]:
    """Return what is known to break with the QEMU that the wish has."""
    found = []
    for oci, handler in wish.handlers.items():
        image = wish.image
        file = image.current(ARCHITECTURES[oci]) if image else handler.interpreter
        found.append(known.warning(oci, programs.version(file) if file else None))
    return list(filter(None, found))


def _carry_out(
    options: Mapping[str, Any],
    platforms: Sequence[Platform],
    programs: qemu.Programs,
    image: Image | None,
    check_mode: bool,
) -> tuple[dict[str, Any], Wish, World]:
    present = options["state"] == "present"
    verify, deep = (present and wished for wished in depth(options["verify"]))
    architectures = tuple(dict.fromkeys(platform.arch for platform in platforms))

    def look() -> tuple[Wish, World, Plan]:
        world = read(architectures, programs, verify=verify, deep=deep)
        foreign = [architecture for architecture in architectures if present and architecture.oci not in world.native]
        # What the parent user namespace lends is good as it is, and a handler of our own would hide all of it.
        lent = present and world.inherits(foreign, alone=options["exclusive"])
        foreign = [] if lent else foreign
        obsolete = {} if present else _obsolete(architectures)
        world = world._replace(kept=frozenset(obsolete))
        if image is not None:
            image.prepare(foreign, pull=None if check_mode else options["pull"])
        wish = Wish(
            architectures,
            present,
            options["exclusive"] and not lent,
            options["persistent"] and not lent,
            verify,
            deep,
            _wanted(foreign, options, programs, image),
            image,
            obsolete,
        )
        if deep:
            _demand_sound(wish, world, platforms, programs)
        return wish, world, plan(wish, world, programs)

    wish, world, way = look()
    if check_mode or not way.steps:
        return carry_out(way, check_mode=True), wish, world
    from .kernel_write import exclusive_lock

    with exclusive_lock(may_mount=bool(wish.handlers) or not world.kernel.inherited):
        wish, world, way = look()  # another host of this kernel may have done it meanwhile
        after = [world]

        def reread() -> dict[str, Any]:
            # What the deep program met, each step has shown.
            found = read(architectures, programs, verify=verify)
            after.append(found._replace(kept=frozenset(path for path in wish.obsolete if os.path.exists(path))))
            return as_diff(wish, after[-1])

        result = carry_out(way, check_mode=False, reread=reread)
    return result, wish, after[-1]


def _wanted(
    architectures: Sequence[Architecture], options: Mapping[str, Any], programs: qemu.Programs, image: Image | None
) -> dict[str, Handler]:
    """Return the handler that each architecture is to have; raise one Problem for all that lack a QEMU."""
    wanted, missing = {}, []
    for architecture in architectures:
        try:
            if image is not None:
                interpreter, file = image.path(architecture), image.current(architecture)
            else:
                interpreter = qemu.find(architecture, options["path"] if options["source"] == "path" else None)
                file = interpreter
        except Problem as problem:
            missing.append(problem)
            continue
        # An image that check mode does not pull has a QEMU that knows P, as each of the last years does.
        version = programs.version(file) if file else ".".join(map(str, qemu.QEMU_HEARS_P))
        flags = qemu.flags(interpreter, version, options["credentials"])
        wanted[architecture.oci] = Handler.for_architecture(architecture, interpreter, flags)
    if missing:
        raise Problem("; ".join(problem.what for problem in missing), missing[0].hint)
    return wanted


def _demand_sound(wish: Wish, world: World, platforms: Sequence[Platform], programs: qemu.Programs) -> None:
    """Raise a Problem where QEMU, as the wish has it, breaks what packages do: before anything is changed.

    What a handler that stays runs has been tried out; what a new one will run is tried out without it.
    """
    from . import deep

    if world.unproven:
        return
    broken, unproven = [], world.unproven_deep
    for platform in platforms:
        wanted = wish.handlers.get(platform.architecture)
        found, version = world.deep.get(platform.architecture, ""), world.version(platform.arch)
        if wanted is not None and faults(platform.arch, wanted, world):
            file = wish.image.current(platform.arch) if wish.image else wanted.interpreter
            found, version = "", programs.version(file) if file else None
            if file and not unproven:
                found = deep.trouble(platform.arch, file)
                unproven = deep.unproven() if found else ""
        if found and not unproven:
            broken.append(f"{platform}: {found}: {deep_words(platform, version)}")
    if unproven:
        raise Problem(unproven, "mend what limits it, or set verify: true")
    if broken:
        raise Problem(
            f"{'; '.join(broken)}; nothing was changed",
            f"{ANOTHER_QEMU}, remove it from platforms, or set verify: true to take it as it is",
        )


def _obsolete(architectures: Sequence[Architecture]) -> dict[str, Any]:
    """Return the programs that were taken out of images, and the steps that remove them."""
    from .qemu_image import forget, kept

    return {path: forget(path) for architecture in architectures for path in kept(architecture)}


def describe(options: Mapping[str, Any]) -> dict[str, Any]:
    """Do the work of `binfmt_qemu_info`: judge each handler by what its own interpreter needs."""
    platforms = chosen(options["platforms"])
    programs = qemu.Programs()
    architectures = tuple(dict.fromkeys(platform.arch for platform in platforms))
    verify, deep = depth(options["verify"])
    world = read(architectures, programs, verify=verify, deep=deep)
    wanted = {
        architecture.oci: _as_its_interpreter_needs(architecture, world, programs)
        for architecture in architectures
        if architecture.oci not in world.native and architecture.oci not in world.inherited
    }
    wish = Wish(architectures, verify=verify, deep=deep, handlers=wanted)
    boot = boot_faults_as_found(wish, world)
    reports = [as_result(platform, wish, world, programs, boot) for platform in platforms]
    return {
        "binfmt_misc": world.kernel.state,
        "platforms": reports,
        # Of what really runs, where that was seen.
        "warnings": list(filter(None, (known.warning(a.oci, _runs(a, world, programs)) for a in architectures))),
    }


def _runs(architecture: Architecture, world: World, programs: qemu.Programs) -> str | None:
    """Return the version of the QEMU that gets an architecture's programs."""
    handler = None if architecture.oci in world.native else world.handler(architecture)
    return world.version(architecture) or (programs.version(handler.interpreter) if handler else None)


def _as_its_interpreter_needs(architecture: Architecture, world: World, programs: qemu.Programs) -> Handler:
    handler = world.handler(architecture)
    interpreter = handler.interpreter if handler else ""
    flags = qemu.flags(interpreter, programs.version(interpreter), not handler or "C" in handler.flags)
    wanted = Handler.for_architecture(architecture, interpreter, flags)
    return wanted._replace(name=handler.name) if handler else wanted


def chosen(texts: Sequence[str]) -> list[Platform]:
    """Return the platforms that a list names; `all` names each that we know."""
    if any(text.strip().lower() == "all" for entry in texts for text in str(entry).split(",")):
        return all_platforms()
    return parse_all(texts)
