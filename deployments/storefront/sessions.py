"""Assigns requests to sessions, so that no address counts as many visitors.

An address (for IPv6 the /64 network, which usually belongs to one client) has at most `SESSIONS` sessions a day. A
request without a session gets one of its address, and a new one after half an hour without requests; both kinds count.
All sessions beyond that number count as one more. Trusted addresses may name any number of sessions.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from deployments.addresses import client_key, is_among, networks
from tasks.core import clock

SESSIONS = 5  # of an address in a day
DAY = timedelta(days=1)
IDLE = timedelta(minutes=30)  # after which a client without a named session gets a new one
REMEMBERED = 10_000  # most recently seen addresses


@dataclass
class Client:
    """The sessions of an address in its current day."""

    since: datetime
    last: datetime
    unnamed: str = ""  # the session of its requests without one
    sessions: set[str] = field(default_factory=set)


class Sessions:
    """Assigns each request its session. Not thread-safe."""

    def __init__(self, trusted: str = "", now: Callable[[], datetime] = clock.now) -> None:
        self.networks, self.now = networks("DYEWORKS_TRUSTED_ADDRESSES", trusted), now
        self.clients: OrderedDict[str, Client] = OrderedDict()

    def trusts(self, host: str) -> bool:
        """Whether an address is trusted to name any number of sessions."""
        return is_among(host, self.networks)

    def session_of(self, host: str, named: str) -> str:
        """The session that a request counts for: the one it names, that of its address, or the overflow session."""
        if named and self.trusts(host):
            return named
        client, key = self._client(host), client_key(host)
        session = named or client.unnamed
        if session not in client.sessions and len(client.sessions) >= SESSIONS:
            return f"address {key}"
        client.sessions.add(session)
        return session

    def _client(self, host: str) -> Client:
        """The state of an address, moved to the end; the least recent is evicted when there are too many."""
        now, key = self.now(), client_key(host)
        client = self.clients.pop(key, None)
        if client is None or now - client.since >= DAY:
            client = Client(now, now)
        if not client.unnamed or now - client.last >= IDLE:
            client.unnamed = f"address {key} {now.isoformat()}"
        client.last = now
        self.clients[key] = client
        if len(self.clients) > REMEMBERED:
            self.clients.popitem(last=False)
        return client
