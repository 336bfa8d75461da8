# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module that calls the Docker CLI takes."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  docker_cli:
    description:
      - The Docker CLI on the host, by name or path.
      - The user's own configuration is used (C(DOCKER_CONFIG), C(DOCKER_HOST), C(DOCKER_CONTEXT), C(BUILDX_CONFIG) and
        C(HOME) of the task's environment).
    type: str
    default: docker
requirements:
  - The Docker CLI with the buildx plugin, 0.13 or later.
"""
