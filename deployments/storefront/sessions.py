"""Which session a request counts for, so that no address counts as many visitors.

An address (of IPv6 the network of 64 bits, since whoever has one address there has them all) has at most `SESSIONS`
sessions a day. Whoever names none gets one of the address, and another one after half an hour of silence; both kinds
count. What is beyond that number is one more session. Addresses that are trusted name as many sessions as they like.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from tasks.core import clock
from tasks.core.errors import SettingError

SESSIONS = 5  # of an address that count in a day
DAY = timedelta(days=1)
IDLE = timedelta(minutes=30)  # after which a client without a session begins another one
REMEMBERED = 10_000  # addresses that were seen last


@dataclass
class Client:
    """What an address has done since its day began."""

    since: datetime
    last: datetime
    unnamed: str = ""  # the session of its requests that name none
    sessions: set[str] = field(default_factory=set)


class Sessions:
    """Gives each request its session. Not safe for threads."""

    def __init__(self, trusted: str = "", now: Callable[[], datetime] = clock.now) -> None:
        self.networks, self.now = _networks(trusted), now
        self.clients: OrderedDict[str, Client] = OrderedDict()

    def trusts(self, host: str) -> bool:
        """Whether the sessions that an address names are all believed."""
        address = _address(host)
        return address is not None and any(address in network for network in self.networks)

    def session_of(self, host: str, named: str) -> str:
        """The session that a request counts for: the one it names, one of its address, or the address's last one."""
        if named and self.trusts(host):
            return named
        client, key = self._client(host), client_key(host)
        session = named or client.unnamed
        if session not in client.sessions and len(client.sessions) >= SESSIONS:
            return f"address {key}"
        client.sessions.add(session)
        return session

    def _client(self, host: str) -> Client:
        """What is known of an address, the newest at the end; the oldest is forgotten where there are too many."""
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


def client_key(host: str) -> str:
    """What one client has at most one of: an IPv4 address, an IPv6 network of 64 bits, else the name as it is."""
    address = _address(host)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address or host)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _networks(listed: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(part.strip(), strict=False) for part in listed.split(",") if part.strip()]
    except ValueError as error:
        raise SettingError("DYEWORKS_TRUSTED_ADDRESSES", f"{error}; list addresses or networks by commas") from error
