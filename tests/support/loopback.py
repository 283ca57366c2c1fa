"""The command line in a separate process that can reach only this machine: ``python loopback.py data fetch ...``."""

from __future__ import annotations

import socket
from typing import Any

from exchange_server import refuse_outside

from flagbt.__main__ import main

connect, lookup = socket.socket.connect, socket.getaddrinfo


def guarded_connect(self: socket.socket, address: Any) -> None:
    """Connect, if the address is this machine."""
    refuse_outside(address)
    connect(self, address)


def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Look up a name, if it is this machine."""
    refuse_outside(host)
    return lookup(host, *args, **kwargs)


if __name__ == "__main__":
    socket.socket.connect, socket.getaddrinfo = guarded_connect, guarded_lookup  # type: ignore[method-assign, assignment]
    main()
