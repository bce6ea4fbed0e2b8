"""One shop with planted personal data: what is never read, what is left of a person who is erased, and pseudonyms.

The shop is built once; the tests stand in the order in which they change it.
"""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from arrivals import build
from shop import Shop
from test_leaks import shop_with_everything

AS_OF = "2023-10-20"
NO_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
#: Values of columns that are tagged pii; every customer has their own.
PLANTED = ("planted-mail", "Plantagenet", "+44 7700 900")
#: What only the leaver wrote.
THEIRS = (
    "The zebra-striped kettle hums oddly at night. Write to kettle-owner@post.example, says {customer}!",
    "Nobody else's samovar leaks “umbrella-blue” water. It's the second one.",
)


def with_long_ids(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {
        name: t.assign(customer_id="customer-" + t.customer_id.str.zfill(7)) if "customer_id" in t else t
        for name, t in tables.items()
    }


def plant(tables: dict[str, pd.DataFrame], leaver: str) -> dict[str, pd.DataFrame]:
    """Give everybody a name, an e-mail address and a phone number, and the leaver words of their own."""
    rows = tables["customers"]
    numbers = rows.index.astype(str)
    personal = {
        "email": "planted-mail" + numbers + "@people.example",
        "name": "Plantagenet " + numbers,
        "phone": "+44 7700 900" + numbers.str.zfill(3),
    }
    reviews = tables["reviews"]
    newest = reviews[reviews.reviewed_at < pd.Timestamp(AS_OF) - pd.Timedelta(days=10)].nlargest(2, "reviewed_at").index
    reviews.loc[newest, "customer_id"] = leaver
    reviews.loc[newest, "review_text"] = [text.format(customer=leaver) for text in THEIRS]
    return {**tables, "customers": rows.assign(**personal), "reviews": reviews}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Shop, str]:
    """The shop from raw tables to the online store, and who is going to leave it."""
    shop = Shop(tmp_path_factory.mktemp("privacy") / "home")
    tables = with_long_ids(shop_with_everything())
    recent = tables["orders"][tables["orders"].ordered_at < AS_OF].sort_values("ordered_at").customer_id.tail(60)
    leaver = recent.value_counts().idxmax()
    shop.write(**plant(tables, leaver))
    shutil.copytree(shop.raw, shop.home.parent / "export")
    shop.dbt("build", *NO_TESTS, churn__transformer=False, churn__as_of_date=AS_OF)
    shop.run("feast", "-c", "feature_repo", "apply")
    moment = f"{AS_OF}T00:00:00"
    shop.run("feast", "-c", "feature_repo", "materialize", moment, moment)
    return shop, leaver


def values(file: Path) -> str:
    """Every value of a Parquet, DuckDB or SQLite file as text; any other file as it is."""
    start = file.read_bytes()[:16]
    if start.startswith(b"PAR1"):
        return repr(pd.read_parquet(file).to_dict("list")) + repr(
            [list(c) for n, c in pd.read_parquet(file).items() if c.map(type).eq("ndarray").any()]
        )
    if start[8:12] == b"DUCK":
        with duckdb.connect(file, read_only=True) as connection:
            tables = connection.sql("select schema_name, table_name from duckdb_tables()").fetchall()
            return repr([connection.sql(f'from "{schema}"."{table}"').fetchall() for schema, table in tables])
    if start.startswith(b"SQLite"):
        with closing(sqlite3.connect(file)) as connection:
            tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
            return repr([connection.execute(f'select * from "{table}"').fetchall() for (table,) in tables])
    return file.read_bytes().decode(errors="replace")


def holding(folder: Path, *needles: str) -> set[str]:
    """Files with one of the strings in their bytes or values, by their path."""
    found = set()
    for file in (f for f in folder.rglob("*") if f.is_file()):
        content, raw = values(file), file.read_bytes()
        # repr escapes what is not ASCII in bytes, and quotes
        if any(n in content or n in content.replace("\\'", "'") or n.encode() in raw for n in needles):
            found.add(str(file.relative_to(folder)))
    return found


def traces(leaver: str) -> tuple[str, ...]:
    return leaver, "zebra-striped", "hums oddly", "kettle-owner", "umbrella-blue", "samovar"


def outside_raw(files: set[str]) -> set[str]:
    return {file for file in files if not file.startswith("raw/")}


def test_the_search_finds_what_is_there(built):
    shop, leaver = built
    found = holding(shop.home, leaver)
    validation = {file for file in found if file.endswith("validation.parquet")}
    assert {"churn_radar.duckdb", "feast/online.db", "raw/orders.parquet", "published/churn_scores.parquet"} <= found
    assert validation
    for words in THEIRS:
        assert {"churn_radar.duckdb", "feast/online.db", "raw/reviews.parquet"} <= holding(shop.home, words[10:30])


def test_personal_columns_reach_nothing(built):
    shop, _ = built
    assert outside_raw(holding(shop.home, *PLANTED)) == set()


def test_an_address_within_words_stays_where_words_are_read(built):
    # the transformer reads them as they were written; quotes are masked
    shop, _ = built
    assert outside_raw(holding(shop.home, "kettle-owner@post.example")) == {
        "churn_radar.duckdb",
        "features/sequence_features.parquet",
        "feast/online.db",
    }
    assert "kettle-owner" not in values(shop.home / "features" / "searchable_texts.parquet")


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"churn__customer_attributes": ["Email"]}, "customers.Email is tagged pii and is never read; leave it out"),
        (
            {"churn__customers_columns": {"signed_up_at": "coalesce(signed_up_at, email)"}},
            "churn__customers_columns.signed_up_at: customers.email is tagged pii and is never read; leave it out",
        ),
        ({"churn__pseudonymise": "yes please"}, "churn__pseudonymise is yes please; expected true or false"),
    ],
)
def test_asking_for_personal_columns_is_refused(built, variables, line):
    done = built[0].dbt("run", "--select", "stg_customers", check=False, **variables)
    assert done.returncode != 0
    assert len([said for said in done.stdout.splitlines() if line in said]) == 1
    assert outside_raw(holding(built[0].home, *PLANTED)) == set()


def test_nothing_is_found_of_who_was_erased(built):
    shop, leaver = built
    others = shop.table("churn_predictions").customer_id.nunique()
    unknown = shop.run("churn-radar", "erase", "--customer", "customer-9999999", check=False)
    assert unknown.returncode == 1
    assert len(unknown.stderr.splitlines()) == 1
    assert "customer customer-9999999 is not in" in unknown.stderr

    done = shop.run("churn-radar", "erase", "--customer", leaver)
    assert "Nothing found in " in done.stdout
    assert holding(shop.home, *traces(leaver)) == set()
    assert holding(shop.home.parent / "export", leaver)  # the same search, where nothing was erased
    receipt = json.loads(next((shop.home / "erasures").glob("*.json")).read_text())
    assert receipt["removed"]["feast/online.db"] > 50
    assert shop.table("churn_predictions").customer_id.nunique() == others - 1


def test_the_champion_still_loads_and_the_online_store_still_answers(built, monkeypatch):
    from inference import feature_store, registry

    shop, leaver = built
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    assert leaver not in set(registry.champion().model.validation.customer_id)
    stayed = shop.scores().customer_id.iloc[0]
    online = feature_store.online_features([stayed, leaver], feature_store.SCORES_SERVICE).set_index("customer_id")
    assert online.churn_probability.notna().to_dict() == {stayed: True, leaver: False}


def test_who_was_erased_does_not_come_back_with_the_shops_own_tables(built):
    shop, leaver = built
    shutil.copytree(shop.home.parent / "export", shop.raw, dirs_exist_ok=True)
    build(shop, AS_OF, tables=["churn_scores", "searchable_texts"], churn__transformer=False)
    assert outside_raw(holding(shop.home, *traces(leaver))) == set()
    assert len(shop.scores()) > 20
    again = shop.run("churn-radar", "erase", "--customer", leaver)
    assert "raw/orders.parquet" in again.stdout
    assert holding(shop.home, *traces(leaver)) == set()


def test_pseudonyms_replace_ids_in_all_tables_that_are_built(built):
    shop, _ = built
    tables = ["order_features", "sequence_features", "churn_predictions", "searchable_texts", "stg_rejected_rows"]
    build(shop, AS_OF, tables=tables, churn__transformer=False, churn__pseudonymise=True)
    with duckdb.connect(shop.home / "churn_radar.duckdb", read_only=True) as connection:
        query = (
            "select table_name from duckdb_columns() where column_name = 'customer_id' and table_name not like 'stg_%'"
        )
        names = {name for (name,) in connection.sql(query).fetchall()} & {
            t for (t,) in connection.sql("show tables").fetchall()
        }
        views = {name for (name,) in connection.sql("select view_name from duckdb_views()").fetchall()}
        kept = {"order_features", "churn_predictions", "review_embeddings", "int_customer_daily_activity"}
        assert kept <= names - views
        for name in kept | {"sequence_features", "searchable_texts", "engagement_features"}:
            ids = {i for (i,) in connection.sql(f"select distinct customer_id from {name}").fetchall()}
            assert ids, name
            assert all(re.fullmatch("p_[0-9a-f]{32}", i) for i in ids), name
    first = set(shop.table("churn_predictions").customer_id)
    build(shop, AS_OF, tables=["churn_predictions"], churn__transformer=False, churn__pseudonymise=True)
    assert set(shop.table("churn_predictions").customer_id) == first
    salt = (shop.home / "salt").read_text()
    assert holding(shop.home, salt) == {"salt"}


def test_who_has_a_pseudonym_is_erased_by_the_shops_own_id(built):
    shop, _ = built
    left = set(shop.table("churn_predictions").customer_id)
    orders = pd.read_parquet(shop.raw / "orders.parquet")
    customer = orders[orders.ordered_at < AS_OF].sort_values("ordered_at").customer_id.iloc[-1]
    shop.run("churn-radar", "erase", "--customer", customer)
    assert holding(shop.home, customer) == set()
    assert len(set(shop.table("churn_predictions").customer_id)) == len(left) - 1
