"""API keys with scopes; only their hashes are stored."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from inference.errors import ChurnRadarError
from inference.home import LOOPBACK

SCOPES = ("read", "write")
#: One entry of ``CHURN_API_KEYS``.
_ENTRY = re.compile(r"(?P<name>[\w.-]+):(?P<scopes>[a-z+]+):(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True)
class ApiKey:
    """A client of the service, and what it may do.

    ``digest`` is the SHA-256 of the secret in hexadecimal. The secret has 256 random bits, so no slow hash is needed.
    """

    name: str
    scopes: frozenset[str]
    digest: str

    def __str__(self) -> str:
        """Return the entry for ``CHURN_API_KEYS``."""
        return f"{self.name}:{'+'.join(sorted(self.scopes))}:{self.digest}"


def new_key(name: str, scopes: Collection[str]) -> tuple[str, ApiKey]:
    """Make a secret for a client, and the entry to store; an invalid name or scope is a ``ChurnRadarError``."""
    secret = secrets.token_urlsafe(32)
    entry = f"{name}:{'+'.join(scopes)}:{_digest(secret)}"
    return secret, read_keys(entry)[0]


def read_keys(entries: str) -> list[ApiKey]:
    """Read ``CHURN_API_KEYS``: entries ``name:scope+scope:sha256``, separated by spaces or commas.

    An entry that cannot be read is a ``ChurnRadarError``.
    """
    keys = []
    for number, entry in enumerate(re.split(r"[\s,]+", entries.strip()) if entries.strip() else (), 1):
        match = _ENTRY.fullmatch(entry)
        scopes = frozenset(match["scopes"].split("+")) if match else frozenset()
        if not match or scopes - set(SCOPES):
            # the hash is not repeated
            raise ChurnRadarError(
                f"CHURN_API_KEYS: entry {number} cannot be read; expected name:scopes:sha256 with scopes among "
                f"{', '.join(SCOPES)}, as churn-radar api-key prints it"
            )
        keys.append(ApiKey(match["name"], scopes, match["digest"]))
    return keys


def keys_from_environment(host: str) -> list[ApiKey]:
    """Read ``CHURN_API_KEYS`` for a service that listens on a host; without keys it must be loopback."""
    keys = read_keys(os.environ.get("CHURN_API_KEYS", ""))
    if not keys and host not in LOOPBACK:
        raise ChurnRadarError(
            f"CHURN_API_KEYS is empty and --host is {host}; expected at least one key, or a loopback address: "
            f"everybody who reaches the port could read scores"
        )
    return keys


def find_key(keys: Collection[ApiKey], secret: str) -> ApiKey | None:
    """Return the key of a secret, or None. All keys are compared in constant time, so that timing reveals nothing."""
    digest, match = _digest(secret), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            match = key
    return match


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
