"""Features come out of a packed row as they went in."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from inference.features.packing import OTHERS, TABLES, pack, pack_tables, unpack
from inference.features.time_features import TIME_FEATURES, count_time

KEY = ["customer_id", "as_of_date"]
TIMES = {
    "campaign_features": ["days_since_last_redemption", "days_since_last_contact"],
    "engagement_features": ["days_since_last_visit"],
    "order_features": [
        "days_since_last_order",
        "days_since_first_order",
        "months_since_first_order",
        "gap_mean_days",
        "overdue_ratio",
    ],
    "review_features": ["days_since_last_review", "days_since_last_review_complaint"],
    "support_features": ["days_since_last_ticket"],
    "forecast_features": ["expected_orders"],
    "text_features": ["texts_60d"],
}


def snapshots() -> pd.DataFrame:
    dates = pd.to_datetime(["2024-03-01", "2024-03-01", "2024-03-08"])
    return pd.DataFrame({"customer_id": ["a", "b", "a"], "as_of_date": dates})


def tables() -> dict[str, pd.DataFrame]:
    """Feature tables of the snapshots in another order, each number another."""
    rows = snapshots().iloc[::-1]
    made = {
        name: rows.assign(**{c: np.arange(3.0) + 10 * i + 1 for i, c in enumerate(columns)})
        for name, columns in TIMES.items()
    }
    vectors = [None, np.arange(4, dtype=np.float32), None]
    made["text_features"] = made["text_features"].assign(text_embedding=vectors, encoder_revision=[None, "r1", None])
    # customers of March have bought since January, every two weeks
    orders = made["order_features"]
    orders["days_since_first_order"] = [67.0, 60.0, 60.0]
    orders["months_since_first_order"] = [2.0, 2.0, 2.0]
    orders["gap_mean_days"] = 14.0
    orders["overdue_ratio"] = orders.days_since_last_order / 14
    made["customer_features"] = rows.assign(attributes=[np.array(["gold"], object), None, ["new", None]])
    return made


def numbers_of(made: dict[str, pd.DataFrame]) -> list[str]:
    columns = [name for table in TABLES for name in made[table].select_dtypes("number")]
    return [name for name in columns if name not in TIME_FEATURES]


def test_tables_come_back_by_customer_and_snapshot() -> None:
    made = tables()
    packed = pack_tables(snapshots(), made)
    assert packed.column("customer_id").to_pylist() == ["a", "b", "a"]
    moments = [pd.Timestamp(day).to_pydatetime() for day in packed.column("as_of_date").to_pylist()]
    unpacked = unpack(count_time(packed.column("packed").to_pylist(), moments), numbers_of(made))
    for name, table in made.items():
        wanted = snapshots().merge(table, on=KEY)
        for column in wanted.columns.drop(KEY):
            for ours, theirs in zip(unpacked[column], wanted[column], strict=True):
                same = ours is None if theirs is None else np.array_equal(ours, theirs)
                assert same, f"{name}.{column}: {ours}, not {theirs}"
    assert unpacked.text_embedding[1].dtype == np.float32


def test_a_snapshot_that_a_table_lacks_is_unknown() -> None:
    made = tables()
    made["campaign_features"] = made["campaign_features"][:0]
    packed = pack_tables(snapshots(), made).column("packed").to_pylist()
    unpacked = unpack(count_time(packed, [datetime(2024, 3, 8, tzinfo=UTC)] * 3), numbers_of(made))
    assert unpacked.days_since_last_contact.isna().all()
    assert unpacked.days_since_last_order.notna().all()


def test_nobody_is_null_everywhere() -> None:
    unpacked = unpack([None], ["orders_30d"])
    assert list(unpacked.columns) == [*TIME_FEATURES, "orders_30d", "text_embedding", *OTHERS]
    assert unpacked.isna().all(axis=None)


def test_no_snapshot_is_an_empty_table() -> None:
    made = {name: table[:0] for name, table in tables().items()}
    assert pack_tables(snapshots()[:0], made).num_rows == 0


@given(
    value=st.floats(allow_nan=True, width=64),
    vector=st.none() | st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=400),
    words=st.none() | st.lists(st.none() | st.text()),
)
def test_any_value_survives(value: float, vector: list[float] | None, words: list[str | None] | None) -> None:
    names = [*TIME_FEATURES, "gap_mean_days", "value"]
    numbers = np.array([[5.0] * 8 + [0.0, 2.0, 2.5, value]])
    others = {"attributes": words, "encoder_revision": "r", "another": 1}
    vectors = [None if vector is None else np.array(vector, np.float32)]
    (row,) = pack(numbers, names, np.array([19_000]), vectors, [others])
    unpacked = unpack(count_time([row], [datetime(2022, 1, 8, tzinfo=UTC)]), ["gap_mean_days", "value"]).iloc[0]
    np.testing.assert_array_equal(unpacked["value"], value)
    assert unpacked.days_since_last_order == 5
    assert unpacked.overdue_ratio == 2
    assert unpacked.attributes == words
    assert unpacked.encoder_revision == "r"
    assert (
        unpacked.text_embedding is None if vector is None else unpacked.text_embedding.tolist() == vectors[0].tolist()
    )
