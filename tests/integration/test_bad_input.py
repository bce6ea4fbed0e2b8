"""Bad input gives one error line and a non-zero exit code, and published scores stay unchanged."""

import json

import pandas as pd
import pytest
from shop import Shop, small_shop_orders

GOOD = small_shop_orders()
#: Skips the data tests, for errors that a model raises.
WITHOUT_TESTS = ("--exclude-resource-type", "test")


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> Shop:
    """One home for builds that are refused before any table is made, so that dbt parses the project once."""
    return Shop(tmp_path_factory.mktemp("refused") / "home")


def check_refused(shop: Shop, *expected: str, options: tuple[str, ...] = (), **variables) -> None:
    """Build, and check that it fails with these lines and publishes nothing new."""
    shop.published.parent.mkdir(parents=True, exist_ok=True)
    shop.published.write_bytes(b"what was published before")
    done = shop.dbt("build", "--exclude-resource-type", "unit_test", *options, check=False, **variables)
    assert done.returncode != 0
    for line in expected:
        assert line in done.stdout
    assert "Traceback" not in done.stdout
    assert done.stderr == ""
    assert shop.published.read_bytes() == b"what was published before"


def test_missing_orders(refused):
    check_refused(refused, f"orders: no such table; expected the file '{refused.raw}/orders.parquet', or a relation in")


def test_columns_that_violate_the_contract_are_all_named(refused):
    dates = pd.Series(["2023-01-02 10:00:00 GMT+8", "yesterday", *GOOD.ordered_at.astype(str)[2:]])
    check_refused(
        refused.write(orders=GOOD.drop(columns="order_id").assign(amount=True, ordered_at=dates)),
        "orders.order_id: the column is missing; expected varchar",
        "orders.amount: the type is BOOLEAN; expected double",
        "orders.ordered_at: 2 values cannot be read as timestamp, for example '2023-01-02 10:00:00 GMT+8'",
        "customers.tier: named in churn__customer_attributes, but the column is missing",
        churn__customer_attributes=["tier"],
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (GOOD.head(0), "orders: the table is empty; expected at least one completed order"),
        (
            GOOD.assign(status="shipped"),
            "orders.status: found 'shipped'; expected completed, cancelled, returned or refund",
        ),
        (
            GOOD.assign(amount=-1.0),
            f"orders: none of {len(GOOD)} rows is a possible completed order; expected at least one",
        ),
    ],
    ids=["empty", "unknown status", "all rejected"],
)
def test_orders_that_violate_the_contract(refused, table, expected):
    check_refused(refused.write(orders=table), expected)


def test_one_message_names_every_problem(refused):
    check_refused(
        refused.write(orders=GOOD),
        "churn__horizon_days is 0; expected a whole number from 1 to 365",
        "churn__train is sometimes; expected if_missing, auto, always or never",
        "churn__drift_limit is 0; expected a number above 0 and at most 20",
        "churn__auroc_drop_limit is much; expected a number above 0 and at most 1",
        "churn__alert_band is low; expected medium, high or critical",
        "churn__stale_days is -1; expected a whole number from 0 to 365",
        "churn__min_group is 1; expected a whole number from 2 to 1000000",
        "churn__customer_attributes is country; expected a list of columns of customers, such as [country]",
        "churn__transformer_settings is lora; expected a mapping such as {fine_tuning: lora}",
        churn__horizon_days=0,
        churn__train="sometimes",
        churn__drift_limit=0,
        churn__auroc_drop_limit="much",
        churn__alert_band="low",
        churn__stale_days=-1,
        churn__min_group=1,
        churn__customer_attributes="country",
        churn__transformer_settings="lora",
    )


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2023-02-30", "2023-02-30; expected a date such as 2017-12-01"),
        ("2020-01-01", "2020-01-01, but the first completed order is of 2023-01-02; expected a later date"),
        (
            "2071-01-01",
            f"2071-01-01; expected at most {GOOD.ordered_at.max() + pd.Timedelta(days=90):%Y-%m-%d}, churn__",
        ),
    ],
)
def test_an_as_of_date_that_no_order_supports(refused, date, expected):
    check_refused(refused.write(orders=GOOD), f"churn__as_of_date is {expected}", churn__as_of_date=date)


def test_too_little_history(shop):
    check_refused(
        shop.write(orders=small_shop_orders(100, days=60)),
        "churn_labels: no snapshot has a whole activity window before it and a whole label window after it",
        options=WITHOUT_TESTS,
    )


def test_conflicting_rows_of_one_key_without_an_arrival_time(shop):
    again = GOOD.head(1).assign(amount=999.0)
    check_refused(
        shop.write(orders=pd.concat([GOOD, GOOD.tail(3), again], ignore_index=True)),
        "Failure in test no_conflicting_rows_stg_orders_orders",
        "Got 1 result, configured to fail if != 0",
    )


def test_null_and_repeated_keys_fail_the_primary_key_test(shop):
    rows = "(select * from (values ('a', 1), ('a', 1), ('a', 2), ('b', null), (null, 3)) as rows (name, number))"
    failures = {}
    for columns in (["name", "number"], ["number"]):
        inline = f'{{{{ churn_radar.test_primary_key("{rows}", {columns}) }}}}'
        shown = shop.write(orders=GOOD).dbt("show", "--quiet", "--output", "json", "--inline", inline)
        failures[len(columns)] = [tuple(row.values()) for row in json.loads(shown.stdout)["show"]]
    assert sorted(failures[2], key=str) == [("a", 1), ("b", None), (None, 3)]
    assert sorted(failures[1], key=str) == [(1,), (None,)]


def test_a_table_that_lost_rows_or_columns_since_the_last_build(shop):
    # every row arrives anew with each copy of the table
    copied = GOOD.assign(discount_amount=0.0, loaded_at=pd.Timestamp("2024-01-01 03:00"))
    done = shop.write(orders=copied).dbt("run", "--select", "int_raw_tables")
    warning = (
        f"orders.loaded_at: {len(GOOD)} of {len(GOOD)} rows are of one day, 2024-01-01, but ordered_at goes back to "
        "2023-01-02, and nothing counts before its loaded_at. Is it the time of the last copy? Then set "
        "churn__orders_columns: {loaded_at: null}"
    )
    assert done.stdout.count(warning) == 1
    half = len(GOOD) // 2
    check_refused(
        shop.write(orders=copied.head(half)),
        f"orders: {half} rows, {len(GOOD)} at the last build; expected a fall of at most 10% (churn__max_row_drop)",
    )
    less = copied.drop(columns="discount_amount")
    check_refused(
        shop.write(orders=less),
        "orders.discount_amount: there at the last build and missing now; expected the same columns",
    )
    shop.dbt("run", "--select", "int_raw_tables", "--full-refresh")
    shop.write(orders=less.head(half)).dbt("run", "--select", "int_raw_tables", churn__max_row_drop=0.6)


def test_an_order_a_year_in_the_future(shop):
    ahead = GOOD.head(1).assign(order_id="x", ordered_at=GOOD.ordered_at.max() + pd.Timedelta(days=365))
    shop.write(orders=pd.concat([GOOD, ahead], ignore_index=True))
    before, after = (f"{day:%Y-%m-%d}" for day in (GOOD.ordered_at.max(), ahead.ordered_at[0]))
    check_refused(shop, f"orders.ordered_at: no completed order between {before} and {after}, just before the newest")
    shop.dbt("run", "--select", "int_raw_tables", churn__as_of_date=before)


def test_invalid_rows_are_rejected_with_a_reason_and_the_rest_is_used(shop):
    bad = pd.DataFrame(
        {
            "order_id": ["b1", None, "b3", "b4", "b5", "b6"],
            "customer_id": ["c1", "c1", None, "c1", "c1", "c1"],
            "ordered_at": pd.to_datetime([*["2023-02-01"] * 3, "1970-01-01", "2199-01-01", "2023-02-01"]),
            "amount": [None, 1.0, 1.0, 1.0, 1.0, 1.0],
            # a time for "never" would make every day one that is over
            "status_changed_at": pd.to_datetime([None] * 5 + ["2099-12-31"]),
        }
    )
    shop.write(orders=pd.concat([GOOD, bad], ignore_index=True))
    shop.dbt("run", "--select", "+stg_rejected_rows", "+int_snapshot_dates")
    rejected = shop.table("stg_rejected_rows")
    assert list(rejected.source_table) == ["orders"] * 6
    assert sorted(rejected.rejection_reason) == [
        "amount of a completed order is null",
        "customer_id is null",
        "order_id is null",
        "ordered_at is before 1990",
        "ordered_at is in the future",
        "status_changed_at is in the future",
    ]
    assert '"order_id":"b1"' in " ".join(rejected.row_content)
    assert len(shop.table("stg_orders")) == len(GOOD)


def test_each_version_of_a_row_is_valid_until_the_next_arrives(shop):
    first = GOOD.head(290).assign(loaded_at=GOOD.ordered_at)
    again = first.head(1).assign(amount=999.0, loaded_at=first.ordered_at.iloc[0] + pd.Timedelta(days=1))
    # the table as it is after the change, loaded on 30 days, says nothing new
    current = first.assign(amount=[999.0, *first.amount[1:]])
    loads = [current.assign(loaded_at=day) for day in pd.date_range("2024-01-01 03:00", periods=30)]
    shop.write(orders=pd.concat([again, *loads, first], ignore_index=True))
    shop.dbt("run", "--select", "+stg_orders")
    staged = shop.table("stg_orders")
    assert len(staged) == 290 + 1
    versions = staged[staged.order_id == first.order_id.iloc[0]].set_index("version")
    assert versions.amount.tolist() == [first.amount.iloc[0], 999.0]
    # the first version is valid until the second arrives
    assert versions.superseded_at[1] == versions.loaded_at[2]
    assert pd.isna(versions.superseded_at[2])


def test_a_small_shop_with_only_orders_is_scored(shop):
    shop.write(orders=small_shop_orders(120, 300))
    shop.dbt("build", "--exclude-resource-type", "unit_test")
    scores = shop.scores()
    assert len(scores) > 30
    # with fewer than 300 labelled customers logistic regression is the only member
    assert scores.boosting_probability.isna().all()
    assert scores.logistic_probability.notna().all()
    engagement = shop.table("engagement_features").drop(columns=["customer_id", "as_of_date"])
    assert engagement.isna().all(axis=None)
    # scored as of an earlier date, by a model that knows nothing later, and compared with what came
    as_of = scores.as_of_date.max() - pd.Timedelta(days=60)
    options = ("--json", "--vars", "{churn__transformer: false}")
    (result,) = json.loads(shop.run("churn-radar", "backtest", "--as-of", f"{as_of:%Y-%m-%d}", *options).stdout)
    assert result["model"]["n_customers"] > 30
    assert 0 < result["recency"]["auroc"] < 1
