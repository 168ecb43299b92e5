"""What a checker has to say."""

from __future__ import annotations


class Violation(BaseException):
    """A promise was broken. Not an Exception, so that no handler of the code under test takes it for one of its own."""
