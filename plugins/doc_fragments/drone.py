# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of every module that speaks to a Drone server; the argument spec is `_drone.OPTIONS`."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  drone_url:
    description:
      - The Drone server's address, as its web page has it, V(https://drone.example.com). A path before it (a proxy's) and
        a slash or C(/api) at its end do no harm.
      - If it is not set, the environment variable E(DRONE_SERVER) is used, as by the C(drone) command.
      - Proxies are taken from the environment (E(http_proxy), E(https_proxy), E(no_proxy)); C(~/.netrc) is not read.
      - The token is never sent anywhere else. A redirect to another host is an error that names it.
    type: str
    required: true
  drone_token:
    description:
      - The token of the account that changes things. A person finds it on the server's page C(/account); a machine
        account gets one from M(multiarch.drone.drone_user).
      - If it is not set, the environment variable E(DRONE_TOKEN) is used, as by the C(drone) command.
      - Keep it in an Ansible vault.
    type: str
    required: true
  validate_certs:
    description: Whether the server's TLS certificate must be trusted. Without it, whoever answers gets the token.
    type: bool
    default: true
  ca_path:
    description: A file of certificates (PEM) to trust instead of the system's.
    type: path
  timeout:
    description:
      - How many seconds each answer may take, from the connection to its last byte. All pages of a listing together may take ten
        times as long.
    type: int
    default: 30
  connections:
    description:
      - How many changes may be on their way at a time, each over a connection that is kept. Never two of the same
        repository, which Drone refuses.
    type: int
    default: 4
notes:
  - The module speaks to the server's API from where Ansible runs it. Usually that is the controller (C(hosts=localhost), or
    C(delegate_to=localhost) with C(run_once=true)).
  - Answers that tell of a passing trouble (429, 502 to 504, a cut connection, Drone's C(Optimistic Lock Error)) are waited out
    for a few seconds, or as long as the server says in C(Retry-After). A change is repeated only when it was looked up that
    the first attempt did not happen.
  - C(module_defaults) for C(group/multiarch.drone.drone) sets these options once for all modules.
"""
