"""A browser on the storefront's page, over HTTP: a call of its script, and the stream of its answer."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
from fastapi.testclient import TestClient

BASE = "/shop/gradio_api"
DRAW, VOTE = 0, 1  # the page's functions


def call(
    client: httpx.Client | TestClient, data: Sequence[object], session: str, function: int = DRAW
) -> tuple[int, str]:
    """Call one of the page's functions; status and event."""
    body = {"data": data, "fn_index": function, "session_hash": session}
    answer = client.post(f"{BASE}/queue/join", json=body)
    return answer.status_code, str(answer.json().get("event_id", ""))


def click(client: httpx.Client | TestClient, prompt: str, session: str) -> tuple[int, str]:
    """Ask for one picture by the champion of the only model; status and event."""
    return call(client, ["", prompt, "", 1, "", None], session)


def wait_answer(client: httpx.Client | TestClient, session: str) -> dict[str, Any]:
    """What Gradio answers: `data`, or `error`."""
    with client.stream("GET", f"{BASE}/queue/data", params={"session_hash": session}) as answer:
        for line in answer.iter_lines():
            message = json.loads(line.removeprefix("data:") or "{}")
            if message.get("msg") == "process_completed":
                output: dict[str, Any] = message["output"]
                return output
    return {"error": "the stream ended"}


def visit(client: httpx.Client | TestClient, prompt: str) -> dict[str, Any]:
    """Ask for a picture and wait, as a new visitor: `pictures`, or a `problem` in words."""
    session = uuid4().hex
    status, _ = click(client, prompt, session)
    if status != 200:
        return {"problem": f"status {status}"}
    answer = wait_answer(client, session)
    found: dict[str, Any] = answer["data"][0] if answer.get("data") else {"problem": str(answer)}
    return found
