#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: binfmt_qemu_info
version_added: 0.1.0
short_description: Tell which platforms a host can execute, and with which QEMU
description:
  - Reads the kernel's handlers (binfmt_misc) and the files that bring them back at boot, executes a program of each platform, and
    says what is wrong.
extends_documentation_fragment:
  - multiarch.drone.attributes.info
options:
  platforms:
    description: The platforms to look at, as in M(multiarch.drone.binfmt_qemu).
    type: list
    elements: str
    default: [all]
  verify:
    description:
      - Execute a program of each platform, and look at which QEMU really runs it.
      - V(deep) executes a second program as well, which does what the triggers of packages do. The step that fails is one of
        RV(platforms[].problems), such as C(threads).
      - Otherwise it is a boolean.
    type: raw
    default: true
seealso:
  - module: multiarch.drone.binfmt_qemu
author:
  - The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: See what this host executes
  multiarch.drone.binfmt_qemu_info:
  register: emulation

- name: Name the platforms that it can build for
  ansible.builtin.debug:
    msg: "{{ emulation.platforms | selectattr('verified', 'true') | map(attribute='platform') }}"
"""

RETURN = r"""
binfmt_misc:
  description: How the kernel's part is, V(on), V(off), V(not mounted) or V(not loaded).
  returned: success
  type: str
  sample: "on"
platforms:
  description: Each platform, in the order of O(platforms).
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
"""

from ..module_utils._arguments import Module
from ..module_utils._binfmt.declare import describe
from ..module_utils._serve import serve


def main() -> None:
    module = Module(
        argument_spec={
            "platforms": {"type": "list", "elements": "str", "default": ["all"]},
            "verify": {"type": "raw", "default": True},
        },
        supports_check_mode=True,
    )
    serve(module, lambda module: describe(module.params))


if __name__ == "__main__":
    main()
