"""What DIFFEDIT_REDIS_URL says: one server, or the sentinels that know which server is the primary."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic_core import MultiHostUrl, ValidationError

SENTINEL_PORT = 26379
_SENTINEL_USER = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class Sentinels:
    """The sentinels, each as a URL of its own, and the name under which they watch the primary."""

    urls: tuple[str, ...] = field(repr=False)
    primary: str


@dataclass(frozen=True)
class RedisUrl:
    """Attributes:
    server: redis:// or rediss://, with user, password, database and TLS options. If there are sentinels, its host is
        the primary's name, and they know the address.
    """

    server: str = field(repr=False)
    sentinels: Sentinels | None = None

    @property
    def tls(self) -> bool:
        return self.server.startswith("rediss:")


def parse_redis_url(url: str) -> RedisUrl:
    """Return what the URL says.

    Raises:
        ValueError: it is malformed. The text quotes nothing of it.
    """
    scheme, plus, _ = url.partition("://")[0].partition("+sentinel")
    if not plus:
        return _of_server(url)
    try:
        return _of_sentinels(scheme, MultiHostUrl(url))
    except (ValidationError, LookupError):  # the first one quotes the URL
        raise ValueError(
            "must be redis+sentinel://[user:password@]host:26379,host:26379,.../NAME/db, with NAME as the sentinels "
            "call the primary, and special characters of the password as %XX"
        ) from None


def with_password(url: str, password: str) -> str:
    """Return a URL that `parse_redis_url` accepts with this password, unless it has one."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    if ":" in user and not user.endswith(":"):
        return url
    return parts._replace(netloc=f"{user.removesuffix(':')}:{quote(password, safe='')}@{hosts}").geturl()


def is_malformed(url: str, *schemes: str) -> bool:
    """Return whether a URL has another scheme, no host, or a port that is none."""
    try:
        parts = urlsplit(url)
        return parts.scheme not in schemes or not (parts.hostname or parts.path) or (parts.port or 1) < 1
    except ValueError:  # the port is not a number, or a bracket is not closed
        return True


def _of_server(url: str) -> RedisUrl:
    if is_malformed(url, "redis", "rediss"):
        raise ValueError("must be redis://[:password@]host:port/db, with special characters of the password as %XX")
    parts = urlsplit(url)
    _check_options(dict(parse_qsl(parts.query, keep_blank_values=True)))
    if not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError("must end with the number of the database, and only options like ?ssl_ca_certs=... may follow")
    return RedisUrl(url)


def _of_sentinels(scheme: str, parts: MultiHostUrl) -> RedisUrl:
    """Raises LookupError if a part is missing or one too many."""
    path = re.fullmatch(r"/(?P<primary>[A-Za-z0-9._-]+)(/(?P<database>\d*))?", parts.path or "")
    hosts: list[Any] = parts.hosts()
    if scheme not in ("redis", "rediss") or not path or not hosts or any(each["port"] == 0 for each in hosts):
        raise LookupError
    if any(host["username"] or host["password"] for host in hosts[1:]):
        raise LookupError
    options = dict(parts.query_params())
    sentinel_user = [options.pop(name, "") for name in _SENTINEL_USER]
    _check_options(options)
    tls = f"?{urlencode(options)}" if options else ""
    user = _user(*(unquote(hosts[0][name] or "") for name in ("username", "password")))
    addresses = [f"{host['host']}:{host['port'] or SENTINEL_PORT}" for host in hosts]
    urls = tuple(f"{scheme}://{_user(*sentinel_user)}{address}/{tls}" for address in addresses)
    server = f"{scheme}://{user}{path['primary']}/{path['database'] or 0}{tls}"
    return RedisUrl(server, Sentinels(urls, path["primary"]))


def _user(name: str, password: str) -> str:
    return f"{quote(name, safe='')}:{quote(password, safe='')}@" if name or password else ""


def _check_options(options: dict[str, str]) -> None:
    # redis-py and kombu do not understand the same set of other options.
    if any(not name.startswith("ssl_") for name in options):
        raise ValueError("must end with the number of the database, and only options like ?ssl_ca_certs=... may follow")
