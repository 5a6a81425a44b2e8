"""HTTP with patience: a Prefect server on SQLite answers 503, or nothing at all, while its database is locked."""

import time

import httpx

TRIES = 7
FIRST_WAIT = 0.2  # seconds, doubled each time


class PatientTransport(httpx.HTTPTransport):
    """Repeats a request that was answered 503 or not at all; so each must be one that can be done twice."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the last answer, or the last error, stands."""
        for attempt in range(TRIES - 1):
            try:
                response = super().handle_request(request)
            except httpx.TransportError:
                pass
            else:
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return response
                response.close()
            time.sleep(FIRST_WAIT * 2**attempt)
        return super().handle_request(request)
