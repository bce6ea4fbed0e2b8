"""Pseudonyms instead of ids (make prove; make test builds one shop of integration_tests with them)."""

import duckdb
import pandas as pd
import test_privacy
from test_privacy import build, holding

from inference.pseudonyms import pseudonym

built = test_privacy.built

#: Tables that ``build`` extends or rebuilds.
BUILT = (
    "int_customer_orders",
    "int_customer_snapshots",
    "order_features",
    "sequence_features",
    "purchase_forecasts",
    "review_embeddings",
    "text_pools",
    "searchable_texts",
    "churn_labels",
    "churn_predictions",
    "churn_scores",
)


def test_pseudonyms_replace_ids_in_all_tables_that_are_built(built, monkeypatch):
    shop, leaver = built
    monkeypatch.setenv("CHURN_HOME", str(shop.home))
    known = {pseudonym(customer) for customer in pd.read_parquet(shop.raw / "orders.parquet").customer_id}
    shop.run("churn-radar", "erase", "--customer", leaver)
    build(shop, churn__pseudonymise=True)
    for name in BUILT:
        ids = set(shop.table(name).customer_id)
        assert ids, name
        assert ids <= known, name
        assert pseudonym(leaver) not in ids
    assert set(shop.scores().customer_id) <= known
    with duckdb.connect(shop.home / "churn_radar.duckdb", read_only=True) as connection:
        # temporary tables of Python models, which contain the former ids, are dropped
        tables = [name for (name,) in connection.sql("select table_name from duckdb_tables()").fetchall()]
        assert [name for name in tables if "__dbt_tmp" in name] == []
    # the salt is in no compiled SQL and no log
    assert holding(shop.home, (shop.home / "salt").read_text()) == {"salt"}


def test_a_customer_with_a_pseudonym_is_erased_by_the_shops_own_id(built, monkeypatch):
    shop, _ = built
    monkeypatch.setenv("CHURN_HOME", str(shop.home))
    left = set(shop.table("churn_predictions").customer_id)
    orders = pd.read_parquet(shop.raw / "orders.parquet")
    customer = next(c for c in orders.customer_id if pseudonym(c) in left)
    shop.run("churn-radar", "erase", "--customer", customer)
    assert holding(shop.home, customer, pseudonym(customer)) == set()
    assert set(shop.table("churn_predictions").customer_id) == left - {pseudonym(customer)}
