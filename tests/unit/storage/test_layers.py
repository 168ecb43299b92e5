"""Layers of what is not written yet: the newest word for a key counts, in whatever order keys lie in the layers."""

from __future__ import annotations

from random import Random

import pytest

from etcdpy.storage.layers import MISSING, Layers, Overlay


def merged(overlays: list[Overlay]) -> Overlay:
    """Newest first, like the layers."""
    found: Overlay = {}
    for overlay in reversed(overlays):
        found.update(overlay)
    return found


def drawn(random: Random, *, growing: bool) -> list[Overlay]:
    """Some overlays, newest first; where they are growing each has greater keys than those before it."""
    oldest_first: list[Overlay] = []
    for number in range(random.randrange(1, 7)):
        low = 100 * number if growing else 0
        keys = random.sample(range(low, low + 100), random.randrange(60))
        oldest_first.append({b"r%03d" % key: None if random.random() < 0.3 else b"%d" % number for key in keys})
    return oldest_first[::-1]


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_as_if_they_were_one(seed: int, growing: bool) -> None:
    random = Random(f"{seed}/{growing}")
    overlays = drawn(random, growing=growing)
    layers = Layers([(sorted(overlay), overlay) for overlay in overlays])
    expected = merged(overlays)
    for key in (b"r%03d" % number for number in range(700)):
        assert layers.get(key) == expected.get(key, MISSING)
    for start, end in ((b"", b"z"), (b"r020", b"r350"), (b"r05", b"r06"), (b"s", b"t")):
        pairs = [(key, expected[key]) for key in sorted(expected) if start <= key < end]
        assert list(layers.pairs(start, end)) == pairs
        assert list(layers.pairs(start, end, reverse=True)) == pairs[::-1]


def test_nothing() -> None:
    assert Layers([]).get(b"a") is MISSING
    assert list(Layers([([], {})]).pairs(b"", b"z")) == []
