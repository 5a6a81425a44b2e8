"""A small Amazon SNS: signs messages by a key of its own, and serves the certificate over real TLS.

It is a proxy that answers for every host itself, with a certificate of its own authority for SNS' host.
"""

import base64
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509.oid import NameOID

from tests.local_server import LocalServer

HOST = "sns.eu-west-1.amazonaws.com"
FIELDS = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class Signer:
    """A key with its certificate, which is its own authority."""

    def __init__(self, name: str, days: int = 1) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path) -> Path:
        """Write key and certificate into one file."""
        plain = serialization.NoEncryption()
        key = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        path = folder / "server.pem"
        path.write_bytes(key + self.pem)
        return path

    def signed(self, message: Mapping[str, object], **changed: object) -> dict[str, object]:
        """The message as SNS signs it; a field that is None is left out."""
        fields = {name: value for name, value in {**message, **changed}.items() if value is not None}
        notification = fields.get("Type") == "Notification"
        left = {"SubscribeURL", "Token"} if notification else {"Subject"}
        names = [name for name in FIELDS if name in fields and name not in left]
        text = "".join(f"{name}\n{fields[name]}\n" for name in names).encode()
        algorithm = SHA1() if fields["SignatureVersion"] == "1" else SHA256()
        signature = self.key.sign(text, padding.PKCS1v15(), algorithm)
        return fields | {"Signature": base64.b64encode(signature).decode()}


class SnsServer(LocalServer):
    """Serves `answers` by path, a certificate by default, and notes what was asked for by which host."""

    def __init__(self, folder: Path) -> None:
        self.signer, door = Signer("sns.amazonaws.com"), Signer(HOST)
        self.pem = door.write(folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.pem)
        self.asked: list[str] = []
        self.status, self.body, self.headers = 200, self.signer.pem, dict[str, str]()
        super().__init__(_proxy(self))


def _proxy(server: SnsServer) -> type[BaseHTTPRequestHandler]:
    class Inside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(f"{self.headers['Host']}{self.path}")
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            with server.tls.wrap_socket(_socket(self.connection), server_side=True) as inside:
                Inside(inside, self.client_address, self.server)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Proxy


def _socket(connection: object) -> socket.socket:
    assert isinstance(connection, socket.socket)
    return connection
