"""Raw tables that are no Parquet files: a SQLite database that dbt attaches, a Delta table that DuckDB reads."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from shop import PROJECT, Shop, small_shop_orders

pytest.importorskip("duckdb_extension_sqlite_scanner")
pytest.importorskip("duckdb_extension_delta")

ORDERS = small_shop_orders(n_customers=20, days=60)
#: The same orders as Chinook, a sample database of SQLite, keeps its invoices.
INVOICES = pd.DataFrame(
    {
        "InvoiceId": ORDERS.order_id.str.removeprefix("o").astype("int64"),
        "CustomerId": ORDERS.customer_id,
        "InvoiceDate": ORDERS.ordered_at.dt.strftime("%Y-%m-%d %H:%M:%S"),
        "Total": ORDERS.amount,
    }
)
INVOICE_COLUMNS = {"order_id": "InvoiceId", "customer_id": "CustomerId", "ordered_at": "InvoiceDate", "amount": "Total"}


def write_profile(folder: Path, *attachments: dict) -> dict[str, str]:
    """Write the project's profile with databases attached to DuckDB; the result is the variable that names it."""
    profile = yaml.safe_load((PROJECT / "profiles.yml").read_text())
    profile["churn_radar"]["outputs"]["duckdb"]["attach"] = list(attachments)
    (folder / "profiles.yml").write_text(yaml.dump(profile))
    return {"DBT_PROFILES_DIR": str(folder)}


def check_orders(shop: Shop) -> None:
    """A table of the build holds the orders."""
    columns = ["customer_id", "ordered_at", "amount"]
    built, expected = (table[columns].sort_values(columns) for table in (shop.table("int_customer_orders"), ORDERS))
    assert built.customer_id.to_list() == expected.customer_id.to_list()
    assert built.ordered_at.to_list() == expected.ordered_at.to_list()
    assert built.amount.to_list() == pytest.approx(expected.amount.to_list())


def test_a_sqlite_database_is_attached(shop, tmp_path):
    file = tmp_path / "chinook.sqlite"
    with closing(sqlite3.connect(file)) as database:
        columns = "InvoiceId integer, CustomerId text, InvoiceDate datetime, Total numeric(10, 2)"
        database.execute(f"create table Invoice ({columns})")
        # not to_sql, with which pandas changes how this process reads times from SQLite, Feast's online store included
        database.executemany("insert into Invoice values (?, ?, ?, ?)", INVOICES.values.tolist())
        database.commit()
    shop.settings = write_profile(
        tmp_path, {"path": str(file), "type": "sqlite", "alias": "chinook", "read_only": True}
    )
    variables = {"churn__orders_source": "chinook.Invoice", "churn__orders_columns": INVOICE_COLUMNS}
    shop.dbt("run", "--select", "+int_customer_orders", **variables)
    check_orders(shop)


def test_a_delta_table_is_read(shop, tmp_path):
    table = write_delta_table(tmp_path / "orders")
    shop.dbt("run", "--select", "+int_customer_orders", churn__orders_source=f"delta_scan('{table}')")
    check_orders(shop)


def write_delta_table(folder: Path) -> Path:
    """Write the orders as version 0 of a Delta table: a Parquet file, and the log that names it."""
    (folder / "_delta_log").mkdir(parents=True)
    file = folder / "part-0.parquet"
    ordered_at = ORDERS.ordered_at.dt.tz_localize("UTC").dt.as_unit("us")
    ORDERS.assign(ordered_at=ordered_at).to_parquet(file, index=False)
    types = {"order_id": "string", "customer_id": "string", "ordered_at": "timestamp", "amount": "double"}
    assert pq.read_schema(file).names == list(types)
    fields = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in types.items()]
    actions = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "0",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": [],
                "configuration": {},
                "createdTime": 0,
            }
        },
        {
            "add": {
                "path": file.name,
                "partitionValues": {},
                "size": file.stat().st_size,
                "modificationTime": 0,
                "dataChange": True,
            }
        },
    ]
    log = folder / "_delta_log" / "00000000000000000000.json"
    log.write_text("\n".join(json.dumps(action) for action in actions))
    return folder
