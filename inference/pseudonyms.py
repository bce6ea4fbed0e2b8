"""Salted hashes: the shop's salt, pseudonyms of customers, and hashes of erased customers."""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
from inference.home import home, sql_literal

#: Shortest salt accepted: a shorter one can be guessed, and with it the customer ids behind pseudonyms.
MIN_CHARACTERS = 16
#: Pattern of a pseudonym; macros/privacy.sql makes the same ones.
PSEUDONYM = r"p_[0-9a-f]{32}"
#: File in the home folder with the salted hashes of erased customers, which staging leaves out.
ERASED_CUSTOMERS = "erased_customers.parquet"


def salt(folder: Path | None = None) -> str:
    """Return ``CHURN_SALT`` or the content of the file ``salt`` in the home folder, which is created if missing.

    A salt shorter than ``MIN_CHARACTERS`` is refused.
    """
    secret, source = os.environ.get("CHURN_SALT"), "CHURN_SALT"
    if not secret:
        file = (folder or home()) / "salt"
        if not file.exists():
            _create(file)
        secret, source = file.read_text(errors="replace").strip(), str(file)
    if len(secret) < MIN_CHARACTERS:
        raise ChurnRadarError(
            f"{source} has {len(secret)} characters; expected at least {MIN_CHARACTERS} that nobody can guess"
        )
    return secret


def salted_hash(purpose: str, secret: str) -> str:
    """Hash a value that must not be guessed, such as a customer id; hashes for two purposes cannot be compared."""
    return hashlib.sha256(f"{salt()}{purpose}:{secret}".encode()).hexdigest()


def pseudonym(customer_id: str) -> str:
    """Return the pseudonym that replaces a customer id if ``churn__pseudonymise`` is true."""
    return f"p_{salted_hash('pseudonym', customer_id)[:32]}"


def erased_customers() -> set[str]:
    """Return the salted hashes of all customers who were erased from the home folder."""
    file = home() / ERASED_CUSTOMERS
    try:
        return set(pq.read_table(file)["customer_hash"].to_pylist()) if file.exists() else set()
    except (pa.ArrowInvalid, KeyError):
        raise ChurnRadarError(
            f"{file}: cannot be read; expected the list of erased customers, without which they would return: restore "
            "it from a backup"
        ) from None


def duckdb_salt_sql(secret: str) -> str:
    """SQL that sets the salt in a DuckDB session, where the staging views read it."""
    return f"set variable churn_salt = {sql_literal(secret)}"


def _create(file: Path) -> None:
    """Write a random salt that only its owner can read; if two processes do so at once, the first file stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"salt.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(secrets.token_hex(32))
    try:
        with suppress(FileExistsError):
            os.link(partial, file)  # unlike a rename, fails if another process was first
    finally:
        partial.unlink()
