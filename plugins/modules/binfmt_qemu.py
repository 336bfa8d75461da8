#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: binfmt_qemu
version_added: 0.1.0
short_description: Declare which foreign platforms a host can execute
description:
  - Registers QEMU as the interpreter of foreign programs with the kernel (binfmt_misc), in a way that works in containers,
    survives reboots and upgrades, and is proven by executing a program of each platform.
  - It needs neither Docker nor a privileged container, only Python and the kernel's files.
  - It sees and mends what goes wrong with such handlers, which are missing, disabled, without flag C(F), with a wrong mask, of a
    kind that swallows an argument, pinned to a QEMU that an upgrade has replaced, overridden by another handler, or lost since
    binfmt_misc is off or not mounted.
  - While a handler is replaced another one stands in for it, so that no running build meets a moment without an emulator.
extends_documentation_fragment:
  - multiarch.drone.attributes
options:
  platforms:
    description:
      - The platforms, by OCI names such as V(linux/arm64) and V(linux/arm/v7), or what people type, such as V(aarch64), V(armhf),
        V(riscv64) and V(386); V(all) means each that is known. One string may hold several, separated by commas.
      - What the CPU runs itself is reported as native and never registered.
    type: list
    elements: str
    required: true
  state:
    description: Whether the host executes programs of these platforms with QEMU.
    type: str
    choices: [present, absent]
    default: present
  exclusive:
    description:
      - Remove the QEMU handlers of every platform that is not listed. Handlers of other things, such as Python, LLVM, Wine or Java,
        are never touched.
      - Only with O(state=present).
    type: bool
    default: false
  source:
    description:
      - Where QEMU comes from.
      - V(package) is the static QEMU that the distribution has installed, wherever it puts it (Debian and Ubuntu name the package
        C(qemu-user-static)).
      - V(path) is the directory O(path).
      - V(image) takes it out of the container image O(image) and keeps it below C(/var/lib/multiarch.drone/qemu); only this needs
        the Docker CLI, and nothing is run in Docker.
    type: str
    choices: [package, path, image]
    default: package
  path:
    description: A directory with static programs named C(qemu-ARCH-static) or C(qemu-ARCH), where ARCH is QEMU's name, such as C(aarch64).
    type: path
  image:
    description: An image with such programs in C(/usr/bin), such as C(tonistiigi/binfmt:qemu-v10.0.4), by tag or by digest.
    type: str
  pull:
    description:
      - Whether O(image) is pulled when the host has it already.
      - Check mode pulls nothing, and judges by what the host has.
    type: str
    choices: [missing, always]
    default: missing
  credentials:
    description:
      - Let programs keep the rights that their set-user-ID bit gives them (flag C(C)). Without it C(sudo), C(su) and C(ping) fail in
        emulated builds ("effective uid is not 0").
      - It means that the kernel starts QEMU itself with those rights. Who can bring a set-user-ID program of a foreign platform onto
        the host, or into one of its containers, runs the whole of QEMU with that owner's rights, and QEMU obeys environment
        variables such as E(QEMU_LOG_FILENAME). Set it to V(false) on hosts whose local users you do not trust.
    type: bool
    default: true
  persistent:
    description:
      - Keep the handlers after reboots, restarts of C(systemd-binfmt) and packages' triggers, with one file each in
        C(/etc/binfmt.d), named as the package's file in C(/usr/lib/binfmt.d) so that it wins over that.
      - With O(state=absent) the rules are removed, and a package's file that would bring the handler back is hidden by a link to
        C(/dev/null), or by a copy without the rule. Other rules in the same file are kept as they are. What binfmt-support has
        recorded in C(/var/lib/binfmts) for the handler is removed too.
      - Where a restart would still undo the wish, since a later file of somebody else takes the programs, or since systemd-binfmt is
        masked, missing or kept off by a condition (as on WSL and in many containers), this is a warning and one of
        RV(platforms[].problems), in check mode too.
      - With V(false) no file is touched.
    type: bool
    default: true
  verify:
    description:
      - Execute a program of each platform, which the module makes itself, and look at which QEMU really runs it. Only this shows
        that the kernel still runs the QEMU that was there before an upgrade. It changes nothing, and is done in check mode too.
      - It costs less than 20 milliseconds for each platform.
      - V(deep) executes a second program as well, which does what the triggers of packages do (threads, memory, signals, processes,
        files over 4 GiB) and takes less than a second for each platform. QEMU that breaks is refused before anything is changed, in
        check mode too, with the step that failed, such as C(threads). Some versions of QEMU run a tiny program and
        crash in C(ldconfig).
      - Otherwise it is a boolean.
    type: raw
    default: true
notes:
  - In a user namespace that inherits its parent's handlers (an unprivileged container, Linux 6.7 and later), nothing is changed where
    these run all the platforms. Otherwise binfmt_misc is mounted there, which hides every inherited handler. This is refused where a
    platform that is not listed would be lost, unless O(exclusive=true). To look, nothing is ever mounted there.
  - Containers share the handlers of the machine that they run on. Hosts in containers that declare different QEMU take them from
    each other; those that declare the same, as to its content, do not.
  - On a converged host nothing is written but a cache of QEMU's versions in C(/run/multiarch.drone).
  - Versions of QEMU that others have seen break real programs are a warning, with the source. The list is in
    U(https://github.com/multiarch-drone/multiarch.drone/blob/main/docs/qemu-versions.md).
seealso:
  - module: multiarch.drone.binfmt_qemu_info
author:
  - The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Build for ARM and s390x on this host
  multiarch.drone.binfmt_qemu:
    platforms: [linux/arm64, linux/arm/v7, linux/s390x]

- name: Have these, and no other QEMU
  multiarch.drone.binfmt_qemu:
    platforms: arm64,arm
    exclusive: true

- name: Pin one QEMU for the whole fleet
  multiarch.drone.binfmt_qemu:
    platforms: [linux/arm64]
    source: image
    image: tonistiigi/binfmt:qemu-v10.0.4
    verify: deep

- name: Use QEMU built by ourselves, without rights for set-user-ID programs
  multiarch.drone.binfmt_qemu:
    platforms: [linux/riscv64]
    source: path
    path: /opt/qemu/bin
    credentials: false

- name: Execute nothing foreign any more
  multiarch.drone.binfmt_qemu:
    platforms: all
    state: absent
"""

RETURN = r"""
platforms:
  description: Each platform, in the order of O(platforms); in check mode as it was found.
  returned: success
  type: list
  elements: dict
  contains:
    platform:
      description: The normalised OCI name.
      type: str
      returned: always
      sample: linux/arm64
    native:
      description:
        - Whether the CPU runs its programs itself. V(false) also for a variant that the CPU lacks, such as V(linux/amd64/v4)
          without AVX-512, which no handler can help; RV(platforms[].problems) says what is missing.
      type: bool
      returned: always
    inherited:
      description:
        - Whether a handler of the parent user namespace runs its programs, as in an unprivileged container. Such handlers cannot be
          listed from inside, so this is what executing a program showed, and RV(platforms[].interpreter) is what really ran.
      type: bool
      returned: always
    name:
      description: The name of the handler that gets its programs, or V(null) where there is none.
      type: str
      returned: always
      sample: qemu-aarch64
    interpreter:
      description: The path of QEMU, as the kernel has it.
      type: str
      returned: always
      sample: /usr/libexec/qemu-binfmt/aarch64-binfmt-P
    flags:
      description: The handler's flags, as the kernel prints them.
      type: str
      returned: always
      sample: POCF
    credentials:
      description: Whether set-user-ID programs keep their rights, and QEMU runs with them.
      type: bool
      returned: always
    enabled:
      description: Whether the kernel uses the handler.
      type: bool
      returned: always
    version:
      description: The version of QEMU on disk.
      type: str
      returned: always
      sample: 10.0.13
    kernel_version:
      description: The version of QEMU that the kernel runs, which differs after an upgrade; V(null) with O(verify=false).
      type: str
      returned: always
      sample: 10.0.13
    persistent:
      description:
        - Whether the same handler is there after a restart, by what systemd-binfmt (or OpenRC's service binfmt) and after it
          binfmt-support will register. V(false) where neither applies files, since it is masked or kept off by a condition of its unit.
      type: bool
      returned: always
    verified:
      description: Whether a program of this platform ran well with the QEMU on disk; V(null) where none was executed.
      type: bool
      returned: always
    problems:
      description: What is wrong with it, in words.
      type: list
      elements: str
      returned: always
steps:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: ["register qemu-aarch64"]
"""

from ..module_utils._arguments import Module
from ..module_utils._binfmt.declare import declare
from ..module_utils._binfmt.wish import ARGUMENTS, REQUIRED_IF
from ..module_utils._serve import serve


def main() -> None:
    module = Module(
        argument_spec=dict(ARGUMENTS),
        required_if=REQUIRED_IF,
        supports_check_mode=True,
    )
    serve(module, lambda module: declare(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
