"""The client of vision servers: where a key may go, and servers that never end an answer."""

import socket
import threading
from contextlib import suppress

import pytest
from pydantic import SecretStr

from tasks.core.config.captioning import CaptioningSpec
from tasks.core.data.captioning import Captioner
from tasks.core.data.vision import Consumption, VisionClient, VisionServerUnusable
from tasks.core.errors import SettingError


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://vision.example.org/v1", "sk-1"),
        ("http://vllm:8000/v1", "sk-1"),
        ("http://93.184.216.34/v1", "sk-1"),
        ("http://[::ffff:93.184.216.34]/v1", "sk-1"),
        ("https://vision.example.org/v1", "two words"),
        ("https://vision.example.org/v1", "naïve"),
        ("https://vision.example.org/v1", "a\nb"),
    ],
)
def test_a_key_is_not_sent_where_others_can_read_it(url: str, key: str) -> None:
    with pytest.raises(SettingError) as caught:
        Captioner(CaptioningSpec(url=url, model="llava"), key=SecretStr(key))
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://vision.example.org/v1", "sk-1"),
        ("http://vllm:8000/v1", ""),
        ("http://localhost:8000/v1", "sk-1"),
        ("http://127.0.0.1:8000/v1", "sk-1"),
        ("http://[::1]:8000/v1", "sk-1"),
        ("http://10.1.2.3:8000/v1", "sk-1"),
    ],
)
def test_a_key_may_go_to_a_near_or_encrypted_server(url: str, key: str) -> None:
    client = VisionClient(CaptioningSpec(url=url, model="llava"), SecretStr(key))
    assert client.take_consumption() == Consumption()


def test_a_server_that_drips_its_headers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        spec = CaptioningSpec(
            url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", model="llava", timeout=1, attempts=1
        )
        given_up = threading.Event()
        dripping = threading.Thread(target=_drip, args=(server, given_up))
        dripping.start()
        with pytest.raises(VisionServerUnusable, match="takes too long"):
            VisionClient(spec, SecretStr("")).describe(b"jpeg", 60)
        given_up.set()
        dripping.join(60)
        assert not dripping.is_alive()


def _drip(server: socket.socket, given_up: threading.Event) -> None:
    """Answer with one header after another, each well within the timeout, until the client has given up."""
    connection, _ = server.accept()
    with connection, suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(600):
            connection.sendall(b"X-%d: x\r\n" % number)
            if given_up.wait(0.2):
                return
