# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The layers of a runner host, each as its own module declares it: the options, what is secret in them, and the work.

A layer's package is imported when that layer is asked for: Python compiles a module's files in each task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .._arguments import is_telling, secrets_of, suspects, texts, wrong_shape
from .._problem import Problem
from .._values import check_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._arguments import Module

# The options of the module, in the order in which the layers stand on each other.
LAYERS = ("engine", "qemu", "builders", "buildkitd", "runner")


class Layer(NamedTuple):
    """A layer as its own module has it."""

    spec: Mapping[str, Mapping[str, Any]]
    work: Callable[[Module], Mapping[str, Any]]
    secrets: Callable[[Mapping[str, Any]], Iterable[str]]  # in options that are free dictionaries
    required_if: Sequence[Any] = ()


def layer(name: str) -> Layer:
    """Return a layer by its option."""
    return {"engine": _engine, "qemu": _qemu, "builders": _builder, "buildkitd": _buildkitd, "runner": _runner}[name]()


def _engine() -> Layer:
    from .._docker import declare, wish

    return Layer(wish.ARGUMENTS, declare.work, lambda _given: ())


def _qemu() -> Layer:
    from .._binfmt import declare, wish

    return Layer(
        wish.ARGUMENTS,
        lambda module: declare.declare(module.params, check_mode=module.check_mode),
        lambda _given: (),
        wish.REQUIRED_IF,
    )


def _builder() -> Layer:
    from .._buildx import declare, wish

    # Whose it is; of the module of one builder it is whoever runs the task.
    return Layer(
        {**wish.ARGUMENTS, "user": {"type": "str"}},
        lambda module: declare.declare(module.params, check_mode=module.check_mode),
        declare.variables,
    )


def _buildkitd() -> Layer:
    from .._buildkitd import declare, wish

    return Layer(wish.ARGUMENTS, declare.work, wish.environments)


def _runner() -> Layer:
    from .._runner import declare, wish
    from .._runner.variables import secret_values

    return Layer(wish.ARGUMENTS, declare.work, secret_values)


def secrets(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what may not be shown of the layers' options, which are unchecked."""
    for name in LAYERS:
        wish = given.get(name)
        if not wish:
            continue
        found = layer(name)
        spec = {name: {"type": "list" if name == "builders" else "dict", "options": found.spec}}
        yield from secrets_of(spec, {name: wish})
        yield from suspects(spec, {name: wish})
        for entry in wish if isinstance(wish, list) else [wish]:
            if isinstance(entry, dict):
                try:
                    yield from found.secrets(entry)
                except (AttributeError, LookupError, TypeError, ValueError):  # an option of a wrong type
                    yield from filter(is_telling, texts(entry))
            elif isinstance(entry, str):
                yield from filter(is_telling, [entry])


def validated(found: Layer, given: Any) -> dict[str, Any]:
    """Return a layer's options as its own module would have them; raise a Problem where that one would refuse them."""
    given = _checked({"options": {"type": "dict", "required": True}}, {"options": given})["options"]
    wrong = wrong_shape(found.spec, given)
    if wrong:
        raise Problem(wrong)
    params = _checked(found.spec, given, found.required_if)
    check_values(found.spec, params)
    return params


def _checked(
    spec: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], required_if: Sequence[Any] = ()
) -> dict[str, Any]:
    try:
        read = ArgumentSpecValidator(dict(spec), required_if=list(required_if)).validate(dict(given))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Problem(f"an option has a value that Ansible cannot use: {error}") from error
    if read.error_messages:
        # Of an unknown option the validator leaves it to its caller to say that it is one.
        words = {"UnsupportedError": "Unsupported parameters: "}
        raise Problem("; ".join(words.get(type(error).__name__, "") + str(error.msg) for error in read.errors))
    return dict(read.validated_parameters)
