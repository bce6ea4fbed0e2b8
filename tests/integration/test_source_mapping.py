"""Mapped sources: other table and column names, times in seconds, amounts in cents."""

import pandas as pd
from shop import small_shop_orders
from test_bad_input import check_refused

ORDERS = small_shop_orders()
#: The same orders in the format of another shop.
PURCHASES = pd.DataFrame(
    {
        "id": ORDERS.order_id.str.removeprefix("o").astype("int64"),
        "buyer": ORDERS.customer_id,
        "created": (ORDERS.ordered_at - pd.Timestamp(0)) // pd.Timedelta(seconds=1),
        "cents": (ORDERS.amount * 100).round().astype("int64"),
    }
)
COLUMNS = {
    "order_id": "id",
    "customer_id": "buyer",
    "ordered_at": "make_timestamp(created * 1000000)",
    "amount": "cents / 100.0",
}


def test_tables_and_columns_can_have_other_names(shop):
    shop.write(purchases=PURCHASES)
    shop.dbt(
        *("run", "--select", "+stg_orders"),
        churn__orders_source=f"'{shop.raw / 'purchases.parquet'}'",
        churn__orders_columns=COLUMNS,
    )
    staged = shop.table("stg_orders").sort_values("order_id", key=lambda ids: ids.astype(int), ignore_index=True)
    expected = ORDERS.assign(
        order_id=ORDERS.order_id.str.removeprefix("o"), ordered_at=ORDERS.ordered_at.astype("datetime64[us]")
    )
    pd.testing.assert_frame_equal(staged[list(expected)], expected)
    assert (staged.status == "completed").all()


def test_a_mapped_column_that_the_table_lacks_is_named(shop):
    source = f"'{shop.raw / 'purchases.parquet'}'"
    check_refused(
        shop.write(purchases=PURCHASES),
        f"churn__orders_columns.customer_id: {source} has no column bayer; it has id, buyer, created, cents",
        churn__orders_source=source,
        churn__orders_columns=COLUMNS | {"customer_id": "bayer"},
    )


def test_unknown_vars_and_columns_are_refused_with_the_nearest_name(shop):
    check_refused(
        shop.write(orders=ORDERS),
        "churn__horizn_days: no such var; did you mean churn__horizon_days?",
        "churn__orders_columns.buyer: orders has no such column; expected one of order_id, customer_id, ordered_at",
        "churn__reviews_columns is text; expected a mapping such as {review_id: id}",
        churn__horizn_days=30,
        churn__orders_columns={"buyer": "customer_id"},
        churn__reviews_columns="text",
    )
