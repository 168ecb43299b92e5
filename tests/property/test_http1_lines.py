"""The pattern for header lines that takes the place of h11's, and why."""

from __future__ import annotations

import re
import time

from h11._abnf import header_field
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.transport import http1

THEIRS = re.compile(header_field.encode("ascii"))
LINES = st.lists(st.sampled_from([b" ", b"\t", b":", b"a", b"\xff", b"\0", b"\r", b"x:"]), max_size=12).map(b"".join)


@given(LINES)
def test_it_matches_what_h11s_own_does(line: bytes) -> None:
    ours, theirs = http1._readers.header_field_re.fullmatch(line), THEIRS.fullmatch(line)
    assert (ours and ours.groups()) == (theirs and theirs.groups())


def test_a_line_of_blanks_takes_no_time() -> None:
    line = b"a:" + b" " * 60_000 + b"\0"
    began = time.thread_time()
    assert http1._readers.header_field_re.fullmatch(line) is None
    assert time.thread_time() - began < 0.01
