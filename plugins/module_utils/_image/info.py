# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which platforms images have in their registries, from a module's options to its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._platform import parse_all
from .._problem import Problem
from . import registry
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.basic import AnsibleModule


def read(module: AnsibleModule) -> Mapping[str, Any]:
    """Return the images that a module's options name; raise a Problem where one is unread or lacks a platform."""
    params = module.params
    texts = list(dict.fromkeys(params["images"]))
    if not texts:
        raise Problem("the list of images is empty", "name at least one, such as debian:trixie-slim")
    references = [Reference.parse(text) for text in texts]
    required = parse_all(params["require"]) if params["require"] else []
    access = registry.Access.of(
        timeout=params["timeout"], insecure_registries=params["insecure_registries"], ca_path=params["ca_path"]
    )
    answers = registry.read_all(references, access)
    images = {text: answer for text, answer in zip(texts, answers) if isinstance(answer, registry.Image)}
    problems = [answer for answer in answers if isinstance(answer, Problem)]
    if params["sizes"]:
        # An image whose sizes cannot be read is shown without them.
        sized = dict(zip(images, registry.with_sizes(list(images.values()), access)))
        problems += [answer for answer in sized.values() if isinstance(answer, Problem)]
        images.update({text: answer for text, answer in sized.items() if isinstance(answer, registry.Image)})
    facts = [image.facts(text) for text, image in images.items()]
    unread = list(dict.fromkeys(map(str, problems)))
    if unread:
        raise Problem("\n".join(unread), images=facts)
    lacking = {text: registry.missing(image, required) for text, image in images.items()}
    lacking = {text: platforms for text, platforms in lacking.items() if platforms}
    if lacking:
        what = ". ".join(f"{text} is not built for {', '.join(names)}" for text, names in lacking.items())
        raise Problem(what, "build and push it for these platforms, or require others", images=facts, missing=lacking)
    return {"changed": False, "images": facts}
