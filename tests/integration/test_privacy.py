"""One shop with planted personal data: columns that are never read, erasure of a customer, and pseudonyms.

The shop is built once, and the tests run in the order in which they change it.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from shop import Shop
from test_leaks import shop_with_everything

AS_OF = "2023-10-20"
NO_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
#: Parts of the values of columns tagged pii; each customer has different values.
PLANTED = ("planted-mail", "Plantagenet", "+44 7700 900")
#: Texts written only by the customer who is erased.
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
    """Give all customers a name, an e-mail address and a phone number, and the leaver unique texts."""
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
    """The shop from raw tables to the online store, and the customer who will be erased."""
    shop = Shop(tmp_path_factory.mktemp("privacy") / "the shop's home")  # an apostrophe, which SQL must not read
    leaver = build_online(shop)
    shutil.copytree(shop.raw, shop.home.parent / "export")
    return shop, leaver


def build_online(shop: Shop) -> str:
    """Build the shop and load its online store; return a customer who has everything."""
    tables = with_long_ids(shop_with_everything())
    recent = tables["orders"][tables["orders"].ordered_at < AS_OF].sort_values("ordered_at").customer_id.tail(60)
    leaver = recent.value_counts().idxmax()
    shop.write(**plant(tables, leaver))
    shop.dbt("build", *NO_TESTS, churn__transformer=False, churn__as_of_date=AS_OF)
    shop.run("feast", "-c", "feature_repo", "apply")
    moment = f"{AS_OF}T00:00:00"
    shop.run("feast", "-c", "feature_repo", "materialize", moment, moment)
    return leaver


def build(shop: Shop, **variables: object) -> None:
    """Build scores and searchable texts, in a process of its own, which closes the warehouse."""
    selected = ("--select", "+churn_scores", "+searchable_texts")
    shop.dbt("build", *NO_TESTS, *selected, churn__transformer=False, churn__as_of_date=AS_OF, **variables)


def values(file: Path) -> str:
    """All values of a Parquet, DuckDB or SQLite file as text; the content of any other file."""
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
    """Paths of files that contain one of the strings in their bytes or values."""
    files = set()
    for file in (f for f in folder.rglob("*") if f.is_file()):
        content, raw = values(file), file.read_bytes()
        # repr escapes quotes and, in bytes, non-ASCII characters
        if any(n in content or n in content.replace("\\'", "'") or n.encode() in raw for n in needles):
            files.add(str(file.relative_to(folder)))
    return files


def traces(leaver: str) -> tuple[str, ...]:
    return leaver, "zebra-striped", "hums oddly", "kettle-owner", "umbrella-blue", "samovar"


def outside_raw(files: set[str]) -> set[str]:
    return {file for file in files if not file.startswith("raw/")}


def test_the_file_search_finds_existing_data(built):
    shop, leaver = built
    files = holding(shop.home, leaver)
    validation = {file for file in files if file.endswith("validation.parquet")}
    assert not pd.read_parquet(shop.published.with_name("retention_recommendations.parquet")).empty
    assert {"churn_radar.duckdb", "feast/online.db", "raw/orders.parquet", "published/churn_scores.parquet"} <= files
    assert validation
    for words in THEIRS:
        assert {"churn_radar.duckdb", "feast/online.db", "raw/reviews.parquet"} <= holding(shop.home, words[10:30])


def test_personal_columns_are_in_no_file(built):
    shop, _ = built
    assert outside_raw(holding(shop.home, *PLANTED)) == set()


def test_an_address_within_a_text_is_only_where_texts_are_kept(built):
    # the transformer reads texts unchanged; quotes are masked
    shop, _ = built
    assert outside_raw(holding(shop.home, "kettle-owner@post.example")) == {
        "churn_radar.duckdb",
        "features/sequence_features.parquet",
        "features/online_histories.parquet",
        "feast/online.db",
    }
    assert "kettle-owner" not in values(shop.home / "features" / "searchable_texts.parquet")


def test_asking_for_personal_columns_is_refused(built):
    done = built[0].dbt(
        "run",
        "--select",
        "stg_customers",
        check=False,
        churn__customer_attributes=["Email"],
        churn__customers_columns={"signed_up_at": "coalesce(signed_up_at, phone)"},
        churn__pseudonymise="yes please",
    )
    assert done.returncode != 0
    for line in (
        "churn__customer_attributes: customers.Email is tagged pii and is never read; leave it out",
        "churn__customers_columns.signed_up_at: customers.phone is tagged pii and is never read; leave it out",
        "churn__pseudonymise is yes please; expected true or false",
    ):
        assert len([printed for printed in done.stdout.splitlines() if line in printed]) == 1
    assert outside_raw(holding(built[0].home, *PLANTED)) == set()


def test_an_erased_customer_is_removed_from_redis(built, redis):
    from redis import Redis

    shop, leaver = built
    shop = replace(shop, settings={"CHURN_REDIS": redis})
    moment = f"{AS_OF}T00:00:00"
    shop.run(
        "feast",
        "-c",
        "feature_repo",
        "materialize",
        moment,
        moment,
        "--views",
        "online_scores",
        "--views",
        "searchable_texts",
    )
    client = Redis.from_url(f"redis://{redis}")
    customer = next(c for c in shop.scores().customer_id if c != leaver)

    def stored(needle: str) -> list[bytes]:
        return [k for k in client.scan_iter() if needle.encode() in k or needle.encode() in b"".join(client.hvals(k))]

    n_keys, n_theirs = client.dbsize(), len(stored(customer))
    assert n_theirs > 0
    done = shop.run("churn-radar", "erase", "--customer", customer)
    assert f"{n_theirs:,} removed from redis" in done.stdout
    assert stored(customer) == []
    assert client.dbsize() == n_keys - n_theirs
    assert stored(leaver)
    assert holding(shop.home, customer) == set()


def test_an_erased_customer_is_in_no_file(built):
    shop, leaver = built
    others = shop.table("churn_predictions").customer_id.nunique()
    unknown = shop.run("churn-radar", "erase", "--customer", "customer-9999999", check=False)
    assert unknown.returncode == 1
    assert len(unknown.stderr.splitlines()) == 1
    assert "customer customer-9999999 is not in" in unknown.stderr

    done = shop.run("churn-radar", "erase", "--customer", leaver)
    assert "Nothing found in " in done.stdout
    assert holding(shop.home, *traces(leaver)) == set()
    assert holding(shop.home.parent / "export", leaver)  # the search finds the customer where nothing was erased
    receipt = json.loads(max((shop.home / "erasures").glob("*.json")).read_text())
    assert receipt["removed"]["feast/online.db"] > 20
    assert shop.table("churn_predictions").customer_id.nunique() == others - 1


def test_the_champion_still_loads_and_the_online_store_still_answers(built, monkeypatch):
    from inference.feature_store.client import online_scores
    from inference.registry import registry

    shop, leaver = built
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    assert leaver not in set(registry.champion().model.validation.customer_id)
    stayed = shop.scores().customer_id.iloc[0]
    assert online_scores([stayed, leaver]).customer_id.tolist() == [stayed]


def test_an_erased_customer_does_not_return_with_the_next_raw_tables(built):
    shop, leaver = built
    shutil.copytree(shop.home.parent / "export", shop.raw, dirs_exist_ok=True)
    build(shop)
    assert outside_raw(holding(shop.home, *traces(leaver))) == set()
    assert len(shop.scores()) > 20
    assert len(shop.table("order_features")) > 100
