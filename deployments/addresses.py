"""Addresses of clients."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from tasks.core.errors import SettingError

Network = IPv4Network | IPv6Network


def parsed(host: str) -> IPv4Address | IPv6Address | None:
    """The address, of IPv4 also where it is mapped into IPv6; None for a host name, or the path of a socket."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine itself."""
    address = parsed(host)
    return host == "localhost" if address is None else address.is_loopback


def client_key(host: str) -> str:
    """The key of a client: its IPv4 address, its IPv6 /64 network, or the host name unchanged."""
    address = parsed(host)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address or host)


def networks(setting: str, listed: str) -> list[Network]:
    """The addresses and networks of a setting; raises SettingError."""
    try:
        return [ip_network(part.strip(), strict=False) for part in listed.split(",") if part.strip()]
    except ValueError as error:
        raise SettingError(setting, f"{error}; separate them by commas") from error


def is_among(host: str, listed: Sequence[Network]) -> bool:
    """Whether it is an address of one of the networks."""
    address = parsed(host)
    return address is not None and any(address in network for network in listed)
