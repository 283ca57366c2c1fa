"""The command line in a process of its own that can reach this machine alone: ``python loopback.py data fetch ...``."""

from __future__ import annotations

import socket
from typing import Any

from exchange_server import refuse_outside

from flagbt.__main__ import main

connect, lookup = socket.socket.connect, socket.getaddrinfo


def guarded_connect(self: socket.socket, address: Any) -> None:
    """Connect, if that is here."""
    refuse_outside(address)
    connect(self, address)


def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Look a name up, if that is here."""
    refuse_outside(host)
    return lookup(host, *args, **kwargs)


if __name__ == "__main__":
    socket.socket.connect, socket.getaddrinfo = guarded_connect, guarded_lookup  # type: ignore[method-assign, assignment]
    main()
