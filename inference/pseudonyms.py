"""The salt of the shop, and what is hashed with it: pseudonyms of customers, and who was erased."""

import hashlib
import os
import secrets
from pathlib import Path

import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
from inference.home import home

#: A shorter salt could be guessed, and with it every customer id.
LEAST_CHARACTERS = 16
#: Pseudonyms look like this; macros/privacy.sql makes the same ones.
PSEUDONYM = r"p_[0-9a-f]{32}"
#: File in the home folder with the salted hashes of erased customers, whom staging leaves out.
ERASED_CUSTOMERS = "erased_customers.parquet"


def salt(folder: Path | None = None) -> str:
    """Return ``CHURN_SALT``, or what the file ``salt`` in the home folder holds; the file is made once.

    Parameters
    ----------
    folder : Path, optional
        Another home folder.

    Raises
    ------
    ChurnRadarError
        If ``CHURN_SALT`` is too short, or the file holds none.
    """
    if given := os.environ.get("CHURN_SALT"):
        return _long_enough(given, "CHURN_SALT")
    file = (folder or home()) / "salt"
    if not file.exists():
        _make(file)
    return _long_enough(file.read_text().strip(), str(file))


def salted_hash(purpose: str, secret: str) -> str:
    """Hash what must not be guessed, such as a customer id; hashes made for two purposes cannot be compared."""
    return hashlib.sha256(f"{salt()}{purpose}:{secret}".encode()).hexdigest()


def pseudonym(customer_id: str) -> str:
    """Return what stands for a customer where ``churn__pseudonymise`` is true."""
    return f"p_{salted_hash('pseudonym', customer_id)[:32]}"


def erased_customers() -> set[str]:
    """Return the salted hashes of everybody who was erased from the home folder."""
    file = home() / ERASED_CUSTOMERS
    return set(pq.read_table(file)["customer_hash"].to_pylist()) if file.exists() else set()


def set_salt(secret: str) -> str:
    """Return the SQL that gives a DuckDB session the salt, for the views of staging."""
    return "set variable churn_salt = '" + secret.replace("'", "''") + "'"


def set_postgres_salt(secret: str) -> str:
    """Return the SQL that gives a session of PostgreSQL the salt, for the views of staging."""
    return "set churn.salt = '" + secret.replace("'", "''") + "'"


def _make(file: Path) -> None:
    # written beside and linked: whole or not there, and of two processes that make it one wins
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"salt.{secrets.token_hex(4)}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(secrets.token_hex(32))
    try:
        os.link(beside, file)
    except FileExistsError:
        pass
    finally:
        beside.unlink()


def _long_enough(found: str, where: str) -> str:
    if len(found) < LEAST_CHARACTERS:
        raise ChurnRadarError(
            f"{where} has {len(found)} characters; expected at least {LEAST_CHARACTERS} that nobody can guess"
        )
    return found
