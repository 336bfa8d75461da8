# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Arguments that hold secrets, hidden from output even where they are wrong.

ansible-core collects what `no_log` hides in one pass over all arguments, and gives up at the first list entry that is
no dictionary (`_list_no_log_values`, ansible-core 2.18 to 2.21). Then it prints everything: `repos: [octocat/app1]` where
dictionaries are wanted is enough to show the token at -vvv.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ansible.module_utils.basic import AnsibleModule


class Module(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule that hides its secrets also where an argument has a wrong type."""

    def _load_params(self) -> None:
        # Before the validation, which replaces what is wrong by nothing and quotes it in its message.
        super()._load_params()
        self.no_log_values.update(secrets_of(self.argument_spec, self.params))


def secrets_of(spec: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Return every text that may not be shown; of an entry that is no dictionary, where a secret could be in it, all."""
    for name, option in spec.items():
        value, inner = given.get(name), option.get("options")
        if option.get("no_log"):
            yield from texts(value)
        elif inner and value is not None:
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, Mapping):
                    yield from secrets_of(inner, entry)
                elif any(option.get("no_log") for option in inner.values()):
                    yield from texts(entry)


def texts(value: object) -> Iterator[str]:
    """Return the texts in a value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from texts(part)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield str(value)
