"""Settings of the service, from the environment."""

import os
from dataclasses import dataclass, field

from inference.errors import ChurnRadarError
from inference.home import LOOPBACK
from inference.serving.keys import ApiKey, read_keys


@dataclass(frozen=True)
class ServeSettings:
    """Keys and limits of the service.

    Parameters
    ----------
    keys : list of ApiKey
        Clients; without any, everybody may call, which is allowed on loopback only.
    rate_limit : str
        Requests per client, such as ``1000/second``.
    max_body_bytes : int
        Largest request body.
    """

    keys: list[ApiKey] = field(default_factory=list)
    rate_limit: str = "1000/second"
    max_body_bytes: int = 1_000_000


def settings_from_environment(host: str) -> ServeSettings:
    """Read ``CHURN_API_KEYS`` and ``CHURN_RATE_LIMIT``.

    Parameters
    ----------
    host : str
        Address to listen on.

    Raises
    ------
    ChurnRadarError
        If there is no key and the address is not loopback.
    """
    keys = read_keys(os.environ.get("CHURN_API_KEYS", ""))
    if not keys and host not in LOOPBACK:
        raise ChurnRadarError(
            f"CHURN_API_KEYS is empty and --host is {host}; expected at least one key, or a loopback address: "
            f"everybody who reaches the port could read scores"
        )
    return ServeSettings(keys, os.environ.get("CHURN_RATE_LIMIT") or ServeSettings.rate_limit)
