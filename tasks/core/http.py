"""HTTP with patience: a Prefect server on SQLite answers 503 while its database is locked."""

import time

import httpx

TRIES = 7
FIRST_WAIT = 0.2  # seconds, doubled each time


class PatientTransport(httpx.HTTPTransport):
    """Repeats a request that was answered 503, and a connection that was refused."""

    def __init__(self) -> None:
        super().__init__(retries=3)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the last answer stands."""
        response = super().handle_request(request)
        for attempt in range(TRIES - 1):
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            response.close()
            time.sleep(FIRST_WAIT * 2**attempt)
            response = super().handle_request(request)
        return response
