"""The checksum of a row is that of its `repr`, also where that is never held whole."""

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurabe.models.files import sqlite_file

QUOTED = st.text(alphabet="'\"\\\n\x00\ud800é✓a", max_size=20)
VALUES = st.one_of(
    st.none(), st.integers(), st.floats(), QUOTED, QUOTED.map(lambda text: text.encode("utf-8", "replace"))
)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_large_rows_have_the_checksum_of_their_repr(values: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_file, "_CHUNK", 3)
        assert sqlite_file._checksum(*values) == zlib.crc32(repr(tuple(values)).encode("utf-8", "surrogatepass"))
