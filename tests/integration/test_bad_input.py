"""Bad input gives one error line and a non-zero exit code, and published scores stay unchanged."""

import json
from datetime import timedelta

import pandas as pd
import pytest
import yaml
from shop import PROJECT, Shop, small_shop_orders
from warehouses import accept_order

from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog

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


#: Values that are wrong for a var, by the kind of var.
WRONG = {
    "whole": ["30", 0.5, None, True, -1, 10**9, [30], {}],
    "number": ["0.5", None, True, -3, 21, [0.5], {}],
    "above": ["0.5", None, True, 0, 21, [0.5], {}],
    "boolean": ["false", 0, 1, None, [], {}],
    "one of": ["low", True, None, 1, ["warn"], {}],
    "parts": ["scores", None, 1, True, ["score"], {"scores": True}],
    "attributes": ["country", None, 1, True, [1], {"country": True}],
    "settings": ["lora", None, 1, True, ["lora"]],
    "budget": ["100", -1, True, [100], {}],
    "caps": [None, "200", 200, ["service_call"], {"service_call": "200"}, {"service_call": -1}, {"service_call": True}],
    "date": ["2023-02-30", "tomorrow", 20230201, ["2023-02-01"], {}],
}
SETTINGS = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]


def compiled(shop: Shop, expression: str) -> list | dict:
    """Value of an expression in a model."""
    inline = f"{{% if execute %}}{{{{ tojson({expression}) }}}}{{% endif %}}"
    return json.loads(shop.dbt("compile", "--quiet", "--inline", inline).stdout)


def test_every_var_takes_its_default_and_no_value_of_a_wrong_type_or_range(refused):
    kinds = {name: kind for name, (kind, *_) in compiled(refused, "churn_radar.expected_vars()").items()}
    assert kinds.keys() == SETTINGS.keys()
    values = [(name, value) for name, kind in kinds.items() for value in (SETTINGS[name], *WRONG[kind])]
    checks = ", ".join(f"churn_radar.value_problems({name!r}, {value!r})" for name, value in values)
    problems = compiled(refused, f"[{checks}]")
    for (name, value), found in zip(values, problems, strict=True):
        is_default = value == SETTINGS[name] and type(value) is type(SETTINGS[name])
        assert len(found) == (0 if is_default else 1), (name, value, found)
        assert is_default or (found[0].startswith(f"{name} is ") and "; expected " in found[0])


def test_one_message_names_every_var_that_is_wrong(refused):
    """Whatever their types, also those that SQL computes with while dbt parses."""
    others = ("churn__enabled", "churn__monitoring_severity")
    wrong = {name: None if isinstance(value, str | list | dict) else "30" for name, value in SETTINGS.items()}
    check_refused(
        refused.write(orders=GOOD),
        *(f"\n    {name} is {value or 'null'}; expected " for name, value in wrong.items() if name not in others),
        "churn__orders_source is 5; expected a table, or ref('model')",
        "churn__orders_columns is amount; expected a mapping such as {order_id: id}",
        "churn__events_columns.event_id is ['id']; expected a column",
        churn__orders_source=5,
        churn__orders_columns="amount",
        churn__events_columns={"event_id": ["id"]},
        **{name: value for name, value in wrong.items() if name not in others},
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("churn__enabled", None, "null; expected a list of scores, retention, text, online"),
        ("churn__monitoring_severity", "fatal", "fatal; expected warn or error"),
    ],
)
def test_a_var_that_dbt_needs_to_parse_is_refused_in_one_line(refused, name, value, expected):
    check_refused(refused, f"{name} is {expected}", **{name: value})


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


def test_an_order_that_the_service_accepted_today_does_not_move_the_date_of_an_old_table(shop):
    shop.write(orders=GOOD)
    accept_order(shop.home)
    output = shop.dbt("run", "--select", "+int_order_changes", "+int_snapshot_dates").stdout
    assert "orders: 1 orders that the service accepted are more than churn__horizon_days after the newest" in output
    dates, last = shop.table("int_snapshot_dates"), GOOD.ordered_at.max().normalize()
    newest = dates[dates.is_newest]
    assert newest[["as_of_date", "observed_until"]].to_numpy().tolist() == [[last + timedelta(days=1), last]]
    assert (shop.table("int_customer_orders").order_id == "new").sum() == 1


def test_an_empty_build_where_scores_are_published(shop):
    shop.write(orders=GOOD)
    shop.published.parent.mkdir(parents=True)
    pd.DataFrame({"customer_id": ["anna"]}).to_parquet(shop.published)
    before = shop.published.read_bytes()
    done = shop.dbt("build", "--exclude-resource-type", "unit_test", "--empty", check=False)
    assert "--empty makes tables without rows, and this CHURN_HOME has published scores" in done.stdout
    assert shop.published.read_bytes() == before


def test_a_run_without_the_seeds_that_it_reads(shop):
    done = shop.write(orders=GOOD).dbt("run", "--select", "+review_embeddings", check=False)
    assert (
        "aspect_descriptions: the seed is not loaded, and review_embeddings reads it; expected dbt seed" in done.stdout
    )


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
    log = SqliteEventLog(shop.home / "events" / "log.db")
    accepted = {"order_id": "e1", "customer_id": "c1", "ordered_at": "1980-01-01T00:00:00", "amount": 1.0}
    log.append_all([[Event("shop-1", "c1", {"orders": [accepted]})]])
    log.close()
    output = shop.dbt("run", "--select", "+stg_rejected_rows", "+int_snapshot_dates").stdout
    assert "orders: 1 rows that the service accepted are set aside, as ordered_at is before 1990" in output
    assert f"order_id e1. They are in the event log, {shop.home}/events/log.db: churn-radar events list" in output
    rejected = shop.table("stg_rejected_rows")
    assert list(rejected.source_table) == ["orders"] * 7
    assert sorted(rejected.rejection_reason) == [
        "amount of a completed order is null",
        "customer_id is null",
        "order_id is null",
        "ordered_at is before 1990",
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
    members = scores[["boosting_probability", "logistic_probability"]]
    assert members.notna().any(axis=1).all()
    engagement = shop.table("engagement_features").drop(columns=["customer_id", "as_of_date"])
    assert engagement.isna().all(axis=None)
    # scored as of an earlier date, by a model that knows nothing later, and compared with what came
    as_of = scores.as_of_date.max() - pd.Timedelta(days=60)
    options = ("--json", "--vars", "{churn__transformer: false}")
    (result,) = json.loads(shop.run("churn-radar", "backtest", "--as-of", f"{as_of:%Y-%m-%d}", *options).stdout)
    assert result["model"]["n_customers"] > 30
    assert 0 < result["recency"]["auroc"] < 1
