"""Ports of servers on loopback: what is free, and what surely refuses."""

import contextlib
import random
import socket


def free_port():
    """A port that nobody listens on, above those of Ray's workers and below those of outgoing connections."""
    for port in random.sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.socket() as server:
            server.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextlib.contextmanager
def closed_port():
    """A port that refuses connections, and that nobody else can take before the block ends."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]
