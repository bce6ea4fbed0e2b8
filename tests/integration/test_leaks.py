"""No row from on or after an as-of date changes features at that date."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from shop import PROJECT, Shop, small_shop_orders

#: Everything but labels, scores, what reads them, and copies of the features.
SCORES = ("churn_labels+", "newcomer_predictions+", "packed_features+")
BUILD = ("build", "--exclude", *SCORES, "resource_type:test", "resource_type:unit_test")
#: Input of recommendations, which has only the newest as-of date.
PURCHASES = "int_product_purchases"
CUT = pd.Timestamp("2023-08-07")
TEXTS = ["Came weeks late", "Lovely, fits perfectly", "Broke at once", "Nobody answers", "Good value", "Fine", ""]


def shop_with_everything(seed: int = 1) -> dict[str, pd.DataFrame]:
    """All seven raw tables, with rows before, on and after the cut, some of which arrive late."""
    rng = np.random.default_rng(seed)

    def times(size: int) -> pd.DatetimeIndex:
        return pd.Timestamp("2023-01-02") + pd.to_timedelta(rng.uniform(0, 300 * 86400, size), "s").floor("s")

    newcomers = pd.DataFrame({"customer_id": [f"n{i}" for i in range(150)], "signed_up_at": times(150)})
    newcomers["tier"] = ["gold", "basic"] * 75
    first_orders = newcomers[["customer_id"]].assign(order_id=newcomers.customer_id, amount=20.0)
    first_orders["ordered_at"] = newcomers.signed_up_at + pd.to_timedelta(rng.uniform(0, 60, 150), "D").floor("s")
    orders = pd.concat([small_shop_orders(60, 300, seed), first_orders[rng.random(150) < 0.6]], ignore_index=True)
    n = len(orders)
    late = rng.random(n) < 0.2
    orders["loaded_at"] = orders.ordered_at + pd.to_timedelta(np.where(late, rng.integers(1, 9, n), 0), "D")
    orders["status"] = rng.choice(["completed", "returned", "cancelled", "refund"], n, p=[0.87, 0.05, 0.05, 0.03])
    orders["amount"] *= np.where(rng.random(n) < 0.03, -1, 1)
    orders["coupon_code"] = np.where(rng.random(n) < 0.3, "TEN", None)
    orders["discount_amount"] = rng.gamma(1, 3, n).round(2)
    customers = sorted(orders.customer_id.unique())

    def ids(size: int) -> np.ndarray:
        return rng.choice(customers, size)

    items = orders[["order_id"]].loc[orders.index.repeat(2)].reset_index(drop=True)
    items["product_id"] = [f"p{i % 2}{rng.integers(9)}" for i in range(len(items))]
    items["quantity"], items["unit_price"] = (
        rng.integers(1, 4, len(items)),
        rng.gamma(3, 4, len(items)).round(2),
    )
    items["category"] = items.product_id.str[-1]
    types = ["view", "search", "cart_add", "cart_remove", "wishlist", "login", "share"]
    events = pd.DataFrame(
        {
            "customer_id": ids(4000),
            "event_type": rng.choice(types, 4000),
            "occurred_at": times(4000),
        }
    )
    events["event_id"], events["session_id"] = (
        [f"e{i}" for i in range(4000)],
        rng.integers(0, 900, 4000).astype(str),
    )
    reviews = pd.DataFrame({"customer_id": ids(300), "reviewed_at": times(300), "rating": rng.integers(1, 6, 300)})
    reviews["review_id"], reviews["review_text"] = [f"r{i}" for i in range(300)], rng.choice(TEXTS, 300)
    reviews["loaded_at"] = reviews.reviewed_at + pd.to_timedelta(rng.integers(0, 5, 300), "D")
    tickets = pd.DataFrame({"customer_id": ids(200), "opened_at": times(200), "satisfaction": rng.integers(1, 6, 200)})
    tickets["ticket_id"], tickets["ticket_text"] = [f"t{i}" for i in range(200)], rng.choice(TEXTS, 200)
    tickets["closed_at"] = tickets.opened_at + pd.to_timedelta(rng.uniform(1, 20, 200), "D").floor("s")
    touches = pd.DataFrame({"customer_id": ids(400), "touched_at": times(400), "action": "mail", "campaign_id": "x"})
    touches["touch_id"] = [f"x{i}" for i in range(400)]
    redeemed = pd.to_timedelta(rng.uniform(0, 20, 400), "D").floor("s")
    touches["redeemed_at"] = (touches.touched_at + redeemed).where(rng.random(400) < 0.4)
    return {
        "orders": orders,
        "customers": newcomers,
        "order_items": items,
        "events": events,
        "reviews": reviews,
        "support_tickets": tickets,
        "campaign_touches": touches,
    }


def known_before(tables: dict[str, pd.DataFrame], cut: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """Leave out rows that happened or arrived at or after the cut, and set later timestamps to null."""
    orders = tables["orders"]
    known = orders[(orders.ordered_at < cut) & (orders.loaded_at < cut)]
    reviews, tickets, touches = tables["reviews"], tables["support_tickets"], tables["campaign_touches"]
    tickets = tickets[tickets.opened_at < cut]
    touches = touches[touches.touched_at < cut]
    customers = tables["customers"]
    return {
        "orders": known,
        "customers": customers[customers.signed_up_at < cut],
        "order_items": tables["order_items"][tables["order_items"].order_id.isin(known.order_id)],
        "events": tables["events"][tables["events"].occurred_at < cut],
        "reviews": reviews[(reviews.reviewed_at < cut) & (reviews.loaded_at < cut)],
        "support_tickets": tickets.assign(
            satisfaction=tickets.satisfaction.where(tickets.closed_at < cut),
            closed_at=tickets.closed_at.where(tickets.closed_at < cut),
        ),
        "campaign_touches": touches.assign(redeemed_at=touches.redeemed_at.where(touches.redeemed_at < cut)),
    }


def numbers(value: object) -> np.ndarray:
    """A value or vector as numbers: strings and dates by their hash, null as NaN."""
    values = np.atleast_1d(np.asarray(value))
    if values.dtype.kind in "OUM":
        values = [np.nan if v is None or v is pd.NA or v is pd.NaT else hash(v) for v in values.tolist()]
    return np.asarray(values, dtype=float)


def feature_tables(shop: Shop) -> list[str]:
    """Names of the tables that were built and have one row per customer and date, by the tests of their keys."""
    target, key = shop.home / "target", ["customer_id", "as_of_date"]
    nodes = json.loads((target / "manifest.json").read_text())["nodes"]
    keyed = {
        node["attached_node"]
        for node in nodes.values()
        if node["resource_type"] == "test" and node["test_metadata"]["kwargs"].get("columns") == key
    }
    built = {result["unique_id"] for result in json.loads((target / "run_results.json").read_text())["results"]}
    return sorted(nodes[unique_id]["name"] for unique_id in built & keyed)


def leaking_features(project: Path, folder: Path) -> set[str]:
    """Build with and without rows after the cut; return ``table.column`` of every feature that differs."""
    tables = shop_with_everything()
    past = known_before(tables, CUT)
    built = []
    for name, raw in {"whole": tables, "past": past}.items():
        shop = Shop(folder / name, project).write(**raw)
        shop.dbt(*BUILD, churn__as_of_date=str(CUT.date()), churn__customer_attributes=["tier"])
        features = feature_tables(shop)
        tables_of = {f: shop.table(f).set_index(["customer_id", "as_of_date"]).sort_index() for f in features}
        built.append(tables_of | {PURCHASES: shop.table(PURCHASES)})
    whole, past = built
    assert {file.stem for file in project.glob("models/features/*.sql")} < whole.keys() == past.keys()
    different = set() if whole[PURCHASES].equals(past[PURCHASES]) else {f"{PURCHASES}.rows"}
    assert whole[PURCHASES].is_returned.value_counts().min() > 10
    for feature_table in features:
        assert len(whole[feature_table]) > 100
        if not whole[feature_table].index.equals(past[feature_table].index):
            different.add(f"{feature_table}.rows")
            continue
        for column in whole[feature_table].columns:
            a, b = (table[feature_table][column].map(numbers) for table in (whole, past))
            same = [x.shape == y.shape and np.allclose(x, y, 1e-6, 1e-6, True) for x, y in zip(a, b, strict=True)]
            if not all(same):
                different.add(f"{feature_table}.{column}")
    return different


#: Mistakes in the project: file, correct SQL, wrong SQL, and a feature that then uses one day too many.
MISTAKES = [
    (
        "models/features/order_features.sql",
        "{{ churn_radar.known_at('orders', 'snapshots.as_of_date') }}",
        "snapshots.as_of_date >= orders.activity_date",
        "order_features.orders_7d",
    ),
    (
        "models/features/review_features.sql",
        "{{ churn_radar.known_at_midnight('reviews', 'reviewed_at', 'snapshots.as_of_date') }}",
        "cast(snapshots.as_of_date as timestamp) + interval '1' day > reviews.reviewed_at",
        "review_features.reviews_total",
    ),
    (
        "models/intermediate/int_newcomers.sql",
        "sampled.as_of_date > daily_events.activity_date",
        "sampled.as_of_date >= daily_events.activity_date",
        "int_newcomers.visit_days_30d",
    ),
    (
        "models/intermediate/int_product_purchases.sql",
        "{{ churn_radar.known_at('orders', 'newest.as_of_date') }}",
        "newest.as_of_date >= orders.activity_date",
        "int_product_purchases.rows",
    ),
]
#: A new feature table that counts all orders there are.
NEW_TABLE = {
    "sql": "select s.customer_id, s.as_of_date, count(*) as orders_ever from {{ ref('int_customer_snapshots') }} as s "
    "join {{ ref('stg_orders') }} as orders on s.customer_id = orders.customer_id group by s.customer_id, s.as_of_date",
    "yml": """
models:
  - name: new_features
    data_tests: [primary_key: {arguments: {columns: [customer_id, as_of_date]}}]
    columns:
      - {name: customer_id, data_type: varchar}
      - {name: as_of_date, data_type: date}
      - {name: orders_ever, data_type: bigint}
""",
}


def project_with_mistakes(folder: Path) -> Path:
    """Copy the dbt project with all mistakes, none of which affects the table of another, and a table of its own."""
    project = folder / "project"
    for name in ("models", "python_models", "macros", "seeds"):
        shutil.copytree(PROJECT / name, project / name)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(PROJECT / name, project / name)
    for file, right, wrong, _ in MISTAKES:
        path = project / file
        assert right in path.read_text()
        path.write_text(path.read_text().replace(right, wrong))
    for kind, text in NEW_TABLE.items():
        (project / "models" / "features" / f"new_features.{kind}").write_text(text)
    return project


def test_no_feature_depends_on_later_rows(tmp_path):
    assert leaking_features(PROJECT, tmp_path) == set()


def test_features_that_use_one_day_too_many_are_detected(tmp_path):
    caught = {feature for *_, feature in MISTAKES} | {"new_features.orders_ever"}
    leaking = leaking_features(project_with_mistakes(tmp_path), tmp_path)
    assert leaking >= caught
    assert {name.split(".")[0] for name in leaking} == {name.split(".")[0] for name in caught}
