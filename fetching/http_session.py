"""HTTP with limits: a response of limited size that must be complete within a limited time."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, ProtocolError, ReadTimeoutError

MOST_BYTES = 200_000_000  # Binance's list of all symbols has 15 MB, its largest monthly archive 60 MB
MOST_SECONDS = 120.0
PIECE_BYTES = 65_536


class BoundedAdapter(HTTPAdapter):
    """Read each response whole, or stop at a limit; keep the last response's status and headers.

    Parameters
    ----------
    most_bytes : int
        Of a response's body, unpacked.
    most_seconds : float
        From the response's first byte to its last. TRAP: the time-out of ``requests`` applies to each read, so a server that
        sends one byte every few seconds would never reach it.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_seconds: float = MOST_SECONDS) -> None:
        super().__init__()
        self.most_bytes, self.most_seconds = most_bytes, most_seconds
        self.requests = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, and read its response to the end.

        Raises
        ------
        requests.RequestException
            When the response is cut off, is too large or takes too long.
        """
        self.status, self.headers = None, {}
        self.requests += 1
        kwargs["stream"] = True
        response = super().send(request, *args, **kwargs)
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        started, size, pieces = monotonic(), 0, []
        try:
            while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > self.most_bytes:
                    raise requests.ConnectionError(f"the response has more than {self.most_bytes:,} bytes")
                if monotonic() - started > self.most_seconds:
                    raise requests.ReadTimeout(f"the response was not complete after {self.most_seconds:g} seconds")
        except (ProtocolError, ReadTimeoutError, DecodeError) as error:
            response.close()
            raise requests.ConnectionError(f"Connection broken: {error}") from error
        except requests.RequestException:
            response.close()
            raise
        response._content = b"".join(pieces)  # as requests does for responses that are not streamed
        return response

    def retry_after(self) -> float | None:
        """Return the wait in seconds that the last response requests, or None."""
        text = self.headers.get("retry-after", "").strip()
        return float(text) if text.isdigit() and len(text) < 9 else None

    def date_ms(self) -> int | None:
        """Return the server's clock, from the last response's Date, in milliseconds, or None."""
        try:
            return int(parsedate_to_datetime(self.headers["date"]).timestamp() * 1000)
        except (KeyError, ValueError, TypeError):
            return None


def session(adapter: BoundedAdapter) -> requests.Session:
    """Return a session that reads through ``adapter``, and follows HTTPS_PROXY and similar variables."""
    result = requests.Session()
    result.mount("http://", adapter)
    result.mount("https://", adapter)
    return result
