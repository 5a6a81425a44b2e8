"""One body for every error: a problem of RFC 9457, with the `error` object inside that OpenAI's clients read."""

import math
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from tasks.core.access.errors import KeysUnread, LimitExceeded
from tasks.core.errors import DyeworksError

LONGEST_WAIT = 119  # seconds: OpenAI's clients ignore a longer Retry-After
KINDS = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 429: "requests"}


class ApiError(DyeworksError):
    """A request that fails: its status, and what OpenAI's clients read of it; `retry_after` is in seconds."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = ""

    challenge: str = ""

    def __init__(self, message: str, param: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.param, self.retry_after = param, retry_after


class Unauthorized(ApiError):
    """A request needs an API key, or has a wrong one; `challenge` is its WWW-Authenticate (RFC 6750)."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, problem: str, wrong: bool = False) -> None:
        super().__init__(f"{problem}; send a valid key as `Authorization: Bearer dyw_...`")
        self.challenge = 'Bearer realm="dyeworks"' + (', error="invalid_token"' if wrong else "")


class Forbidden(ApiError):
    """The API key of a request does not allow it; `challenge` is its WWW-Authenticate (RFC 6750)."""

    status = 403
    code = "insufficient_scope"

    def __init__(self, key: str, problem: str, scope: str) -> None:
        super().__init__(f"the API key {key!r} {problem}; ask the operator for one that may")
        self.challenge = f'Bearer realm="dyeworks", error="insufficient_scope", scope="{scope}"'


def problem(
    status: int,
    detail: str,
    *,
    param: str = "",
    code: str = "",
    retry_after: float | None = None,
    challenge: str = "",
) -> JSONResponse:
    """The response of an error."""
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    error = {
        "message": detail,
        "type": KINDS.get(status, fallback),
        "param": param or None,
        "code": code or None,
    }
    body = {"type": "about:blank", "title": _phrase(status), "status": status, "detail": detail, "error": error}
    headers = {} if retry_after is None else {"Retry-After": str(wait_seconds(retry_after))}
    if challenge:
        headers["WWW-Authenticate"] = challenge
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def wait_seconds(seconds: float) -> int:
    """A Retry-After that clients obey."""
    return min(max(math.ceil(seconds), 1), LONGEST_WAIT)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an application in this form."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(LimitExceeded, _limit_exceeded)
    app.add_exception_handler(KeysUnread, _keys_unread)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http_error)


def of_error(error: ApiError) -> JSONResponse:
    """The response of an error of the API."""
    return problem(
        error.status,
        str(error),
        param=error.param,
        code=error.code,
        retry_after=error.retry_after,
        challenge=error.challenge,
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499: the client closed its request
        return "Client Closed Request"


def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return of_error(error)


def _limit_exceeded(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LimitExceeded)
    return problem(429, str(error), code="rate_limit_exceeded", retry_after=error.retry_after)


def _keys_unread(_: Request, error: Exception) -> JSONResponse:
    return problem(503, str(error), code="unavailable", retry_after=5)


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException | StarletteHTTPException)
    response = problem(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})  # such as Allow
    return response


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    param, text = first_fault(error.errors())
    return problem(400, f"{param}: {text}" if param else text, param=param, code="invalid_value")


def first_fault(errors: Any) -> tuple[str, str]:
    """The field and the text of the first validation error, without the value, which may not be encodable."""
    first = dict(errors[0])
    place = ".".join(str(part)[:100] for part in first["loc"] if part != "body")
    text = str(first["msg"]).removeprefix("Value error, ")
    return ("", "the body is not JSON") if first["type"] == "json_invalid" else (_printable(place), text)


def _printable(text: str) -> str:
    """A client's own name of a field: lone surrogates can't be encoded."""
    return text.encode("utf-8", "replace").decode()
