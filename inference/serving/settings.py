"""Settings of the service, from the environment."""

import os
from dataclasses import dataclass, field

from inference.errors import ChurnRadarError
from inference.serving.keys import ApiKey, read_keys

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeSettings:
    """Who may call the service, and how much.

    Parameters
    ----------
    keys : list of ApiKey
        Clients; none where everybody may call, which is allowed on loopback alone.
    rate_limit : str
        Requests per client, such as ``1000/second``.
    most_body_bytes : int
        Largest request body.
    """

    keys: list[ApiKey] = field(default_factory=list)
    rate_limit: str = "1000/second"
    most_body_bytes: int = 1_000_000


def settings_from_environment(host: str) -> ServeSettings:
    """Read ``CHURN_API_KEYS`` and ``CHURN_RATE_LIMIT``.

    Parameters
    ----------
    host : str
        Where the service is to listen.

    Raises
    ------
    ChurnRadarError
        If it would listen beyond loopback with no key.
    """
    keys = read_keys(os.environ.get("CHURN_API_KEYS", ""))
    if not keys and host not in LOOPBACK:
        raise ChurnRadarError(
            f"CHURN_API_KEYS is empty and --host is {host}; expected at least one key, or a loopback address: "
            f"everybody who reaches the port could read scores"
        )
    return ServeSettings(keys, os.environ.get("CHURN_RATE_LIMIT") or ServeSettings.rate_limit)
