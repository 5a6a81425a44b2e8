"""A browser on the storefront's page, over HTTP: a click, and the stream of its response."""

import json
from typing import Any
from uuid import uuid4

import httpx
from fastapi.testclient import TestClient

BASE = "/shop/gradio_api"


def click(client: httpx.Client | TestClient, text: str, session: str, function: int = 0) -> tuple[int, str]:
    """Send the text of a box to one of the page's functions (0 draws, 1 likes, 2 dislikes); status and event."""
    body = {"data": [text], "fn_index": function, "session_hash": session, "trigger_id": 3, "event_data": None}
    answer = client.post(f"{BASE}/queue/join", json=body)
    return answer.status_code, str(answer.json().get("event_id", ""))


def wait_answer(client: httpx.Client | TestClient, session: str) -> dict[str, Any]:
    """The page's response to a click: `data`, or `error`."""
    with client.stream("GET", f"{BASE}/queue/data", params={"session_hash": session}) as answer:
        for line in answer.iter_lines():
            message = json.loads(line.removeprefix("data:") or "{}")
            if message.get("msg") == "process_completed":
                output: dict[str, Any] = message["output"]
                return output
    return {"error": "the stream ended"}


def visit(client: httpx.Client, text: str) -> dict[str, Any]:
    """Click and wait, as a new visitor."""
    session = uuid4().hex
    status, _ = click(client, text, session)
    return wait_answer(client, session) if status == 200 else {"error": f"status {status}"}
