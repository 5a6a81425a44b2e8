"""A real HTTP server that speaks OpenAI's chat protocol, with a vision model that knows a picture's colour."""

import base64
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Condition, Event
from typing import Any

import numpy as np
from PIL import Image

from tests.local_server import LocalServer
from tests.odd_pictures import encoded, noise

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 60, 200),
    "yellow": (220, 210, 40),
    "white": (245, 245, 245),
}
LONGEST_WAIT = 20.0  # seconds that a request waits for others


@dataclass
class Scripted:
    """An answer in place of the model's; `hangs`: none before the server stops."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False


@dataclass(frozen=True)
class Asked:
    """A received question; `begun` on the monotonic clock."""

    path: str
    headers: dict[str, str]
    body: Any
    begun: float

    @property
    def jpeg(self) -> bytes:
        """The file that was sent."""
        url: str = self.body["messages"][0]["content"][1]["image_url"]["url"]
        return base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True)

    @property
    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.jpeg))

    @property
    def colour(self) -> str:
        """The name of the picture's mean colour."""
        mean = np.asarray(self.picture.convert("RGB")).mean(axis=(0, 1))
        return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


class CaptionServer(LocalServer):
    """`script` holds the next answers, `by_colour` those about pictures of a colour, `say` makes the model's words.

    With `together` a question is answered once as many are there at the same time, or all that will come.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: list[Scripted] = []
        self.by_colour: dict[str, Scripted] = {}
        self.say: Callable[[str], str] = lambda colour: f"A {colour} cloth with fine dots."
        self.usage: object = {"prompt_tokens": 900, "completion_tokens": 12, "total_tokens": 912}
        self.together, self.running, self.most_running = 1, 0, 0
        self.hold_after = 0  # questions; 0: never
        self.changed, self.stopping = Condition(), Event()
        super().__init__(_handler(self))
        self.url = f"{self.address}/v1"

    def stop(self) -> None:
        self.stopping.set()
        super().stop()

    def colours(self) -> list[str]:
        """The colours of all pictures that it was asked about."""
        return [asked.colour for asked in self.asked]

    def answer(self, asked: Asked) -> Scripted:
        with self.changed:
            self.asked.append(asked)
            count = len(self.asked)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most_running >= self.together, LONGEST_WAIT)
            scripted = self.script.pop(0) if self.script else self.by_colour.get(asked.colour)
        try:
            if (scripted and scripted.hangs) or 0 < self.hold_after < count:
                self.stopping.wait()
            return scripted or Scripted(body=json.dumps(self.completion(self.say(asked.colour))).encode())
        finally:
            with self.changed:
                self.running -= 1

    def completion(self, text: object, finish: str = "stop") -> dict[str, object]:
        """A chat completion."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        usage = {} if self.usage is None else {"usage": self.usage}
        return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "llava", "choices": [choice], **usage}


def tinted(colour: str, seed: int = 0, side: int = 48) -> Image.Image:
    """A picture that is mostly of a colour."""
    plain = Image.new("RGB", (side, side), COLOURS[colour])
    return Image.blend(plain, noise(seed, side, side), 0.2)


def tinted_file(colour: str, seed: int = 0) -> bytes:
    """The same as a PNG file."""
    return encoded(tinted(colour, seed))


def _handler(server: CaptionServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            begun, data = time.monotonic(), self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.answer(Asked(self.path, headers, json.loads(data), begun))
            if reply.hangs:
                return
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
