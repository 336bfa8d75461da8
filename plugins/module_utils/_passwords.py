# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Passwords in what a person is shown: commands, URLs, what programs say; and secrets by the names that they have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a variable, an option or an attribute is called whose value is a secret.
NAME_OF_SECRET = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|api.?key|access.?key|account.?key|private.?key|signing.?key|\bauth\b|_auth\b",
    re.IGNORECASE,
)
# With a slash or an @ in the password, which RFC 3986 does not allow and people write: up to the last @. A port, which is
# digits and then a slash, begins no password, and a digest has its own @.
_USERINFO = re.compile(
    r"\b([a-z][a-z0-9+.-]*)://(?:([^/?#\s'\"<>]*)|([^/@:\s'\"<>]*:(?!\d{1,5}/)[^\s'\"<>]*))@(?!sha\d+:)", re.IGNORECASE
)
_NO_URLS = ("docker-image", "oci-layout", "target")
# Users of Git's servers that say nothing: the token is the password.
_USUAL_USERS = ("git", "oauth2", "x-access-token", "x-token-auth", "user", "username")
_USUAL_PASSWORDS = ("x-oauth-basic",)
# `type=s3,secret_access_key=…` and `env.NAME=…`; a variable, a template and a path are none.
_ATTRIBUTE = re.compile(r"(?:^|[,\s;])(?:-{0,2})([\w.-]+)=([^,\s;'\"${</%][^,\s;'\"]*)")


def without_passwords(text: str) -> str:
    """Return a text with the passwords and tokens in its URLs, and what is set in `env.NAME=`, replaced."""
    text = _USERINFO.sub(_shown, text)
    return re.sub(r"(\benv\.\w+=)[^\s,'\"]+", r"\1…", text)


def _shown(match: re.Match[str]) -> str:
    scheme, userinfo = match[1], match[2] if match[2] is not None else match[3]
    if scheme.lower() in _NO_URLS:
        return match[0]
    user, colon, password = userinfo.partition(":")
    if not colon or password in _USUAL_PASSWORDS:
        hidden = scheme.lower() in ("http", "https") and user not in _USUAL_USERS
        return f"{scheme}://{'…' if hidden else user}@"
    return f"{scheme}://{user}:…@"


def secrets_in(text: str) -> Iterator[str]:
    """Return the secrets in a text: of its URLs, and what `name=value` sets where the name is one of a secret."""
    yield from url_secrets(text)
    if "=" in text:
        for match in _ATTRIBUTE.finditer(text):
            if match[1].startswith("env.") or NAME_OF_SECRET.search(match[1]):
                yield match[2]


def url_secrets(text: str) -> Iterator[str]:
    """Return the passwords and tokens of a text's URLs, as they are written and as they are meant."""
    from urllib.parse import unquote

    if "@" in text and "://" in text:
        for match in _USERINFO.finditer(text):
            if match[1].lower() in _NO_URLS:
                continue
            user, _colon, password = (match[2] if match[2] is not None else match[3]).partition(":")
            found = [password] if password and password not in _USUAL_PASSWORDS else []
            is_token = not found or (len(user) >= 16 and any(letter.isdigit() for letter in user))
            if user and is_token and match[1].lower() in ("http", "https") and user not in _USUAL_USERS:
                found.append(user)
            for secret in found:
                yield secret
                yield unquote(secret)
