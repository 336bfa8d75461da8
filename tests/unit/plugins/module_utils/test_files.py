# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import getpass

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._files import File, put_all, read_file

ME = getpass.getuser()


def test_files_are_written_all_or_none(tmp_path):
    def there():
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    put_all({first: File("old", owner=ME), second: File("old", 0o600, ME)})
    assert read_file(second) == File("old", 0o600, ME)
    new = File("new", owner=ME)
    with pytest.raises(OSError, match="No such file"):
        put_all({first: new, second: None, str(tmp_path / "nowhere/third"): new})
    assert there() == {"first": "old", "second": "old"}
    put_all({first: new, second: None})
    assert there() == {"first": "new"}
