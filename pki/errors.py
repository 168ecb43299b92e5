"""The one error of the tools: a line for the person who typed the command."""

from __future__ import annotations


class PkiError(Exception):
    """What was asked for cannot be done. One line that names the file, name or option at fault; never key material."""
