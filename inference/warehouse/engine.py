"""What reads texts and scores customers: this process, or Spark."""

import os

from inference.errors import ChurnRadarError
from inference.feature_store.contracts import warehouse
from inference.home import default_manifest_path

ENGINES = ("local", "spark")


def engine() -> str:
    """Return ``CHURN_ENGINE``: ``local``, which is this process, or ``spark``, the default where dbt builds there.

    Raises
    ------
    ChurnRadarError
        If it names another.
    """
    named = os.environ.get("CHURN_ENGINE") or ("spark" if warehouse(default_manifest_path()) == "spark" else "local")
    if named not in ENGINES:
        raise ChurnRadarError(f"CHURN_ENGINE is {named}; expected {' or '.join(ENGINES)}")
    return named
