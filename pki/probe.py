"""What a member serves and whom it lets in, found out at its port by a handshake: no flag or log has to be believed."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from pki import files, keys
from pki.errors import PkiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from pki.authority import Issued

SECONDS_MAX: Final = 5.0
_REQUEST: Final = b"GET /health HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a member met us. `server_fault` is why its certificate is not under the trusted ones, empty if it is;
    `refusal` is why it did not let us in, empty if it did."""

    server_fault: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """Whom to trust, and what to show (nothing: no certificate)."""

    trusted: Sequence[x509.Certificate]
    shown: Issued | None = field(default=None, repr=False)


def address_of(url: str) -> tuple[str, int]:
    """(host, port) of `https://10.0.0.1:2379` or `10.0.0.1:2379`. Raises PkiError."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or ("://" in url and parts.scheme != "https"):
        raise PkiError(f'"{url}" names no member; write https://HOST:PORT')
    return host, port


def ask(url: str, question: Question) -> Answer:
    """Shake hands and send one request. Raises PkiError if nobody answers there, or not by TLS."""
    address = address_of(url)
    context = _context(question)
    try:
        with socket.create_connection(address, SECONDS_MAX) as plain, context.wrap_socket(plain) as connection:
            return _exchange(connection, url)
    except ssl.SSLCertVerificationError as error:
        return Answer(server_fault=error.verify_message)
    except ssl.SSLError as error:
        return Answer(refusal=_reason(error))
    except OSError as error:
        raise PkiError(f"{url}: {(error.strerror or str(error)).lower()}") from None


def _exchange(connection: ssl.SSLSocket, url: str) -> Answer:
    """Under TLS 1.3 a client learns only from the first answer whether its certificate was taken."""
    try:
        connection.sendall(_REQUEST)
        first = connection.recv(1)
    except ssl.SSLError as error:
        return Answer(refusal=_reason(error))
    except (ConnectionResetError, BrokenPipeError):
        return Answer(refusal="it ended the connection")
    except TimeoutError:
        raise PkiError(f"{url}: no answer within {SECONDS_MAX:.0f} seconds") from None
    return Answer() if first else Answer(refusal="it ended the connection")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


def _context(question: Question) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Which authority stands behind it is all that is asked here; `verify` compares names with URLs.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=b"".join(each.public_bytes(Encoding.DER) for each in question.trusted))
    if question.shown is not None:
        pem = files.to_pem([question.shown.certificate]) + keys.to_pem(question.shown.key)
        # OpenSSL reads files alone; one in memory leaves no key behind.
        with open(os.memfd_create("pki-probe", os.MFD_CLOEXEC), "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=lambda: b"")
    return context
