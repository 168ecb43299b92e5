"""The header that opens every answer, encoded by hand because every answer has one."""

from __future__ import annotations

from etcdpy.wire import varint


class HeaderSource:
    """Makes response headers of this member.

    The ids never change and the term seldom does, so what surrounds the revision is kept encoded.
    """

    __slots__ = ("_lengths", "_prefix", "_suffix", "cluster_id", "member_id", "term")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self.cluster_id = cluster_id
        self.member_id = member_id
        self._prefix = b"\x08" + varint(cluster_id) + b"\x10" + varint(member_id)
        self.set_term(0)

    def set_term(self, term: int) -> None:
        """The Raft term that headers show from now on."""
        self.term = term
        self._suffix = b"\x20" + varint(term) if term else b""
        fixed = len(self._prefix) + len(self._suffix)
        # An embedded header is field 1: its tag and length, by how many bytes the revision takes; ids, tags, a
        # revision and a term stay far below 128 bytes, so the length is always one byte.
        self._lengths = [b"\x0a" + bytes((fixed + (size + 1 if size else 0),)) + self._prefix for size in range(11)]

    def embed(self, revision: int) -> bytes:
        """The header as the first field of a response: tag, length and content. Revision 0 is left out."""
        if not revision:
            return self._lengths[0] + self._suffix
        encoded = varint(revision)
        return self._lengths[len(encoded)] + b"\x18" + encoded + self._suffix
