"""Heads that come a byte at a time: they end in time, or the connection does."""

from __future__ import annotations

import time

import pytest

from shipworthy.serve.http2 import wire


@pytest.mark.parametrize("slow", ["greeting", "headers", "continuation", "data"])
def test_a_head_that_drips_is_cut_and_a_body_that_drips_is_not(new_peer, tools, slow):
    peer = new_peer(greeted=slow != "greeting", head_seconds=0.05, stall_seconds=0.5)
    dripping = {
        "greeting": lambda: wire.PREFACE,
        "headers": lambda: peer.call(1),
        "continuation": lambda: wire.frame(wire.CONTINUATION, 0, 1, bytes(200)),
        "data": lambda: tools.data(1, b"\0\0\0\0\xc8" + bytes(200), 0),
    }[slow]
    if slow == "continuation":
        peer.send(wire.frame(wire.HEADERS, 0, 1, b""))
    if slow == "data":
        peer.send(peer.begin(1))
    left = dripping()
    for at in range(min(15, len(left) - 1)):
        if not peer.transport.aborted:
            peer.send(left[at : at + 1])
            peer.run(lambda: time.sleep(0.02))
    assert peer.transport.aborted == (slow != "data")
