# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter multiarch.drone.pipeline: a pipeline's description to the text of its `.drone.yml`."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError


def pipeline(description: Any, allow_plaintext: bool = False) -> str:
    """Return the YAML of one pipeline, or of several in a list."""
    # Here, since for any filter of a collection Ansible loads all of them, in each process anew.
    from ..module_utils._pipeline.pipeline import Pipeline
    from ..module_utils._pipeline.strategies import documents
    from ..module_utils._pipeline.yaml_dump import dump_all, plain
    from ..module_utils._problem import Problem

    several = [description] if isinstance(description, Mapping) else description
    if not isinstance(several, (list, tuple)):
        raise AnsibleFilterError(f"{description!r} is not a pipeline; write {{repo: octocat/example}}")
    try:
        parsed = [Pipeline.parse(plain(one), allow_plaintext=allow_plaintext) for one in several]
        return dump_all(document for one in parsed for document in documents(one))
    except Problem as problem:
        raise AnsibleFilterError(str(problem)) from problem


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"pipeline": pipeline}
