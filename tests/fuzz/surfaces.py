"""Every door that hostile bytes come in by. Another door is one line more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.fuzz import answers, files, gateway, http1, http2, peer, requests

if TYPE_CHECKING:
    from tests.fuzz.harness import Surface

SURFACES: Final[tuple[tuple[Surface, int], ...]] = (
    (http2.Http2(), 4800),
    (requests.Requests(), 20),
    (http1.ClientHttp(), 16),
    (http1.GatewayHttp(), 12),
    (http1.PeerHttp(), 16),
    (gateway.Json(), 300),
    (peer.Streams(), 3000),
    (peer.RaftMessages(), 700),
    (files.SnapshotFiles(), 1000),
    (files.DataDirs(), 500),
    (files.Configuration(), 400),
    (files.Certificates(), 60),
    (files.Handshakes(), 40),
    (answers.PeerAnswers(), 1500),
    (answers.DiscoveryAnswers(), 700),
    (answers.Chunks(), 700),
)
"""Each with the seeds that `make test` plays: 20,000 inputs, the more the cheaper they are."""

BY_NAME: Final = {surface.name: surface for surface, _ in SURFACES}
