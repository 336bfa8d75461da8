# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Arguments that hold secrets, hidden before anything is logged, and in whichever form they appear later.

ansible-core (2.18 to 2.21) leaves gaps. It logs `str(value)` of a list to the host's syslog, in which a secret with an
escape is another text than the one that it looks for. It gives up to collect secrets at the first list entry that is no
dictionary (`_list_no_log_values`), and then prints everything. It knows no secrets but those of options with `no_log`, and
not the one that stands in a URL, in a free dictionary or under a misspelt name. And it replaces secrets in no order, so that
the rest of a long one shows where a short one is its beginning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from . import _progress
from ._passwords import NAME_OF_SECRET, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Words that are in every output: who takes one for a secret has none, and to hide it would make the output unreadable.
_WORDS = frozenset(
    [
        "true",
        "false",
        "none",
        "null",
        "auto",
        "always",
        "never",
        "yes",
        "no",
        "on",
        "off",
        "present",
        "absent",
        "enabled",
        "disabled",
        "debug",
        "info",
        "warn",
        "error",
        "default",
        "latest",
        "localhost",
        "root",
        "http",
        "https",
        "main",
        "master",
    ]
)
# More digits than any number has here, or an exponent that stands for them.
_TOO_LARGE = re.compile(r"[\d_.]{30}|[eE][+-]?0*[\d_]{3}")
# Shorter texts are hidden only where an option is declared as a secret.
_SHORTEST = 4


class Module(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule that hides its secrets from all that is shown or logged, also where an argument has a wrong type.

    `find_secrets` returns further secrets of the arguments as they were given, unchecked.
    """

    # Options in which names of secrets stand for secrets, and which the module looks into itself.
    described: frozenset[str] = frozenset()
    params: dict[str, Any]

    def __init__(
        self, *args: Any, find_secrets: Callable[[Mapping[str, Any]], Iterable[str]] | None = None, **options: Any
    ) -> None:
        self._find_secrets = find_secrets
        try:
            super().__init__(*args, **options)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # ansible-core's own checks end in a traceback for some values, such as 1e400 for a number.
            self.fail_json(msg=f"an option has a value that Ansible cannot use: {error}")

    def _load_params(self) -> None:
        # Before the validation, which replaces what is wrong by nothing and quotes it in its message.
        super()._load_params()
        progress = self.params.pop(_progress.ARGUMENT, None)
        drop_nulls(self.argument_spec, self.params)
        split_texts(self.argument_spec, self.params)
        self.no_log_values: Secrets = Secrets()
        self.no_log_values.update(secrets_of(self.argument_spec, self.params))
        free = {name: value for name, value in self.params.items() if name not in self.described}
        self.no_log_values.update(suspects(self.argument_spec, free))
        if self._find_secrets is not None:
            try:
                self.no_log_values.update(filter(is_telling, self._find_secrets(self.params)))
            except (
                AttributeError,
                LookupError,
                TypeError,
                ValueError,
            ):  # an argument of a wrong type: hide all that may be one
                self.no_log_values.update(filter(is_telling, texts(self.params)))
        _progress.begin(progress, lambda text: hide(text, self.no_log_values))
        wrong = wrong_shape(self.argument_spec, self.params)
        if wrong:
            self.fail_json(msg=wrong)

    def _return_formatted(self, kwargs: dict[str, Any]) -> None:
        # The result has the arguments in it, and Python writes no number of thousands of digits.
        self.params = _bounded(self.params)
        super()._return_formatted(kwargs)

    def warn(self, warning: str, **options: Any) -> None:
        """Warn; ansible-core from 2.19 on does not look for secrets in warnings."""
        super().warn(hide(str(warning), self.no_log_values), **options)

    def _log_invocation(self) -> None:
        """Log which options were given; of lists and dictionaries, in which secrets may be, nothing but their size."""
        words = []
        for name, value in self.params.items():
            option = self.argument_spec.get(self.aliases.get(name, name), {})
            if value is None or value == option.get("default"):
                continue
            words.append(f"{name}={self._logged(option, value)}")
        self.log(" ".join(["Invoked", *(["with", *words] if words else [])]))

    def _logged(self, option: Mapping[str, Any], value: object) -> str:
        if option.get("no_log"):
            return "NOT_LOGGING_PARAMETER"
        if isinstance(value, (list, dict)):
            return f"<{len(value)}>"
        # Control characters would make lines of their own.
        return re.sub(r"[\x00-\x1f\x7f]", " ", hide(str(value), self.no_log_values))


class Secrets(set):  # type: ignore[type-arg]
    """The texts that ansible-core replaces in all that it shows: in each form that they take, and the longest first."""

    def __init__(self, given: Iterable[str] = ()) -> None:
        super().__init__()
        self.update(given)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), key=lambda text: (-len(text), text)))

    def add(self, text: str) -> None:
        """Add a secret in all its forms."""
        self.update([text])

    def update(self, *texts_of: Iterable[str]) -> None:
        """Add secrets in all their forms."""
        for several in texts_of:
            for text in several:
                if text not in self:
                    super().update(forms(str(text)))


def forms(secret: str) -> set[str]:
    """Return a secret as it is, and as JSON, Python, a shell, a URL and a file of several lines have it."""
    found = {secret, secret.strip() or secret}
    if re.fullmatch(r"[\w.-]*", secret, re.ASCII):
        return found
    import json
    import shlex
    from urllib.parse import quote

    found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    found |= {
        secret.replace("'", r"\'"),
        secret.replace('"', r"\""),
        secret.replace("'", "''"),
        secret.replace("$", "$$"),
    }
    found |= {shlex.quote(secret)[1:-1] or secret, secret.replace("\\", "\\\\"), ascii(secret)[1:-1]}
    found |= {quote(secret, safe="", errors="replace"), quote(secret, errors="replace")}
    # Up to three times, as in a message that quotes another one, which quotes a dictionary. Python escapes ' in a text that also has ".
    for _unused in range(2):
        for text in tuple(found):
            escaped = text.replace("\\", "\\\\")
            found |= {json.dumps(text)[1:-1], repr(text)[1:-1], escaped.replace("'", r"\'"), text.replace("'", "''")}
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(line) > _SHORTEST and not line.startswith("-----"):
                found |= forms(line)
    return {text for text in found if text.strip()} or {secret}


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return a text with all secrets replaced, as ansible-core does it."""
    for secret in secrets:
        text = text.replace(secret, "********")
    return text


def is_telling(text: str) -> bool:
    """Say whether a text that may be a secret is worth being hidden: neither a word of every output, nor very short."""
    return len(text) >= _SHORTEST and text.strip().lower() not in _WORDS


def drop_nulls(spec: Mapping[str, Any], given: dict[str, Any]) -> None:
    """Take an option whose value is null for one that is not given.

    For ansible-core it is given: it gets no default, and `required` and `required_one_of` are content with it.
    """
    for name, option in spec.items():
        for key in (name, *option.get("aliases", ())):
            if key not in given:
                continue
            value, inner = given[key], option.get("options")
            if value is None:
                del given[key]
            elif inner:
                for entry in value if isinstance(value, list) else [value]:
                    if isinstance(entry, dict):
                        drop_nulls(inner, entry)


def split_texts(spec: Mapping[str, Any], given: dict[str, Any]) -> None:
    """Take one text for the list that it stands for, as a survey or `-e name=a,b` gives it: items end at commas and lines.

    ansible-core splits at commas alone, keeps the blanks behind them, and makes an empty text an item.
    """
    for name, option in spec.items():
        if option.get("type") != "list" or option.get("elements") != "str":
            continue
        for key in (name, *option.get("aliases", ())):
            if isinstance(given.get(key), str):
                given[key] = [item.strip() for item in re.split(r"[,\n]", given[key]) if item.strip()]


def secrets_of(spec: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Return every text that may not be shown; of an entry that is no dictionary, where a secret could be in it, all."""
    for name, option in spec.items():
        inner = option.get("options")
        for key in (name, *option.get("aliases", ())):
            value = given.get(key)
            if option.get("no_log"):
                yield from texts(value)
            elif inner and value is not None:
                for entry in value if isinstance(value, list) else [value]:
                    if isinstance(entry, Mapping):
                        yield from secrets_of(inner, entry)
                    elif _has_secrets(inner):
                        yield from _torn(entry)


def suspects(spec: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Return what is hidden although no option is declared as a secret: passwords in URLs, values by their names, misspelt options."""
    known = {key for name, option in spec.items() for key in (name, *option.get("aliases", ()))}
    guarded = _has_secrets(spec)
    for name, value in given.items():
        if str(name).startswith("_ansible"):
            continue
        option: Mapping[str, Any] = spec.get(name) or next(
            (one for one in spec.values() if name in one.get("aliases", ())), {}
        )
        inner = option.get("options")
        if name not in known and guarded:
            # A misspelt `token` is one.
            yield from filter(is_telling, texts(value))
        elif inner:
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, Mapping):
                    yield from suspects(inner, entry)
                else:
                    yield from _within(entry)
        else:
            # The name of an option that is declared says nothing here: the declaration does.
            yield from _within(value)


def wrong_shape(spec: Mapping[str, Any], given: Mapping[str, Any], where: str = "") -> str:
    """Say where something else than a dictionary is given for one; ansible-core ends in a traceback where that is a number."""
    for name, option in spec.items():
        inner, value = option.get("options"), given.get(name)
        if option.get("type") in ("int", "float") and isinstance(value, str) and _TOO_LARGE.search(value):
            # ansible-core writes out all digits of 1e999999999, which takes the memory of the host.
            return f"{where}{name} is {value[:30]!r}, which is too large for a number"
        if option.get("type") in ("int", "float") and isinstance(value, (int, float)) and not abs(value) < 10**30:
            shown = value if isinstance(value, float) else "of more than 30 digits"
            return f"{where}{name} is {shown}, which is too large; write a number"
        if not inner or value is None or isinstance(value, str):
            continue
        is_list = option.get("type") == "list" and isinstance(value, list)
        for number, entry in enumerate(value if is_list else [value]):
            place = f"{where}{name}[{number}]" if is_list else f"{where}{name}"
            if isinstance(entry, Mapping):
                found = wrong_shape(inner, entry, f"{place}.")
                if found:
                    return found
            elif not isinstance(entry, str) and (is_list or option.get("type") != "list"):
                kind = {list: "a list", bool: "a boolean", type(None): "null"}.get(type(entry), "a number")
                return f"{place} is {kind}, and must be a dictionary"
    return ""


def _bounded(value: Any) -> Any:
    """Return a value without numbers that cannot be written."""
    if isinstance(value, Mapping):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    return float("inf") if isinstance(value, int) and abs(value) > 10**400 else value


def _has_secrets(spec: Mapping[str, Any]) -> bool:
    return any(option.get("no_log") or _has_secrets(option.get("options") or {}) for option in spec.values())


def _within(value: object, name: str = "") -> Iterator[str]:
    """Return the secrets in a free value, which `name` names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            # `from_secret: NAME` is the way to have no secret here.
            if not (isinstance(item, Mapping) and "from_secret" in item) and key != "from_secret":
                yield from _within(item, str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _within(item, name)
    elif isinstance(value, str):
        yield from filter(is_telling, secrets_in(value))
        if (name.startswith("env.") or NAME_OF_SECRET.search(name)) and is_telling(value):
            yield value


def _torn(value: object) -> Iterator[str]:
    """Return the texts in a value of a wrong type, and their parts: ansible-core makes lists and dictionaries of them."""
    for text in texts(value):
        yield text
        for part in re.split(r"[,\s]+", text):
            for word in (part, part.partition("=")[2]):
                word = word.strip("'\"{}[]: ")
                if is_telling(word):
                    yield word


def texts(value: object) -> Iterator[str]:
    """Return the texts in a value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from texts(part)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield str(value)
