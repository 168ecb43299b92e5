"""How much memory a member takes, by its metrics."""

from __future__ import annotations

import ssl
import urllib.request
from typing import TYPE_CHECKING, Final

from etcdpy import limits

if TYPE_CHECKING:
    from etcdpy.ctl.options import Options

_SAMPLE: Final = "process_resident_memory_bytes "
_SECONDS: Final = 10.0


def resident_bytes(options: Options, endpoint: str) -> float:
    """What the member at an endpoint says. Raises OSError, ValueError where it cannot be asked, or does not say."""
    url = endpoint if endpoint.startswith(("http://", "https://")) else f"http://{endpoint}"
    if url.startswith("http://") and options.uses_tls and "://" not in endpoint:
        url = f"https://{endpoint}"
    context = _context(options) if url.startswith("https://") else None
    with urllib.request.urlopen(f"{url}/metrics", timeout=_SECONDS, context=context) as answer:  # noqa: S310  # http alone
        text = answer.read(limits.METRICS_PAGE_BYTES).decode(errors="replace")
    for line in text.splitlines():
        if line.startswith(_SAMPLE):
            return float(line.removeprefix(_SAMPLE))
    raise ValueError(f"could not find: {_SAMPLE.strip()}")


def _context(options: Options) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.trusted_ca)
    if options.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.certificate is not None:
        context.load_cert_chain(options.certificate, options.key)
    return context
