import io
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from inference import cli
from inference.desk import data, server
from inference.desk.format import csv
from inference.desk.scores import BANDS, Filters, open_scores
from inference.errors import ChurnRadarError
from inference.home import home, published

NEW, WEEK, OLD = date(2024, 3, 8), date(2024, 3, 1), date(2024, 2, 20)
COLUMNS = ["customer_id", "as_of_date", "model_version", "churn_probability", "risk_band", "value_at_risk"]
#: Anna rose to critical, Bob fell, Cleo is new; the second version was asked last of the newest date.
ROWS = [
    ("anna", NEW, "2", 0.9, "critical", 90.0),
    ("bob", NEW, "2", 0.3, "medium", 60.0),
    ("cleo", NEW, "2", 0.5, "high", 5.0),
    ("anna", NEW, "1", 0.1, "low", 10.0),
    ("anna", WEEK, "1", 0.4, "high", 40.0),
    ("bob", WEEK, "1", 0.6, "high", 70.0),
    ("anna", OLD, "1", 0.2, "medium", 20.0),
]


def write(name: str, table: pd.DataFrame, folder: str = "published") -> Path:
    file = home() / folder / f"{name}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(file, index=False)
    return file


def write_scores(rows: list[tuple] = ROWS) -> Path:
    table = pd.DataFrame(rows, columns=COLUMNS)
    reasons = {"anna": "review of 2 May: “Late, never again”", "bob": "last order 40 days ago"}
    return write(
        "churn_scores",
        table.assign(
            horizon_days=30,
            risk_percentile=0.5,
            expected_spend=100.0,
            reason_1=table.customer_id.map(reasons),
            reason_2=None,
            reason_3=None,
            transformer_probability=np.nan,
            boosting_probability=np.nan,
            logistic_probability=0.5,
            feature_snapshot_at=pd.to_datetime(table.as_of_date),
            scored_at=pd.to_datetime(table.as_of_date) + pd.to_timedelta(table.model_version.astype(int), unit="h"),
        ),
    )


def customers(filters: Filters, order: str = "value at risk") -> list[str]:
    return open_scores().page(filters, order, 0, 10).customer_id.tolist()


class TestScores:
    def test_the_newest_date_is_shown_with_its_last_score(self):
        write_scores()
        scores = open_scores()
        assert (scores.as_of, scores.customers, scores.horizon_days) == (NEW, 3, 30)
        assert (scores.customer("anna").churn_probability, scores.customer("anna").model_version) == (0.9, "2")
        assert scores.customer("dora") is None

    def test_a_week_before_is_the_newest_date_that_is_at_least_so_old(self):
        write_scores()
        scores = open_scores()
        assert scores.earlier == WEEK
        changes = scores.page(Filters(), "churn probability", 0, 10).set_index("customer_id").change
        assert changes.round(9).to_dict() == pytest.approx({"anna": 0.5, "cleo": np.nan, "bob": -0.3}, nan_ok=True)

    def test_a_first_date_has_none_before(self):
        write_scores([row for row in ROWS if row[1] == NEW])
        scores = open_scores()
        assert scores.earlier is None
        assert scores.page(Filters(only_risen=True), "value at risk", 0, 10).empty

    def test_bands_are_counted_by_date(self):
        write_scores()
        by_date = open_scores().by_date()
        counted = by_date.set_index([by_date.as_of_date.dt.date, "risk_band"])[["customers", "value_at_risk"]]
        assert counted.loc[(WEEK, "high")].tolist() == [2, 110]
        assert counted.loc[(NEW, "critical")].tolist() == [1, 90]
        assert (NEW, "low") not in counted.index, "scores of the first version do not count"

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            (Filters(), ["anna", "bob", "cleo"]),
            (Filters(bands=("high", "medium")), ["bob", "cleo"]),
            (Filters(customer=" O"), ["bob", "cleo"]),
            (Filters(reason="LATE, never"), ["anna"]),
            (Filters(reason="%"), []),
            (Filters(min_value=60), ["anna", "bob"]),
            (Filters(only_risen=True), ["anna"]),
            (Filters(actions=("coupon",)), ["bob"]),
            (Filters(bands=("critical",), customer="b"), []),
            (Filters(customer="'; drop table newest; --"), []),
        ],
    )
    def test_filters(self, filters, expected):
        write_scores()
        actions = [("bob", "none", 0.0), ("bob", "coupon", 3.0), ("anna", "none", None)]
        write(
            "retention_actions",
            pd.DataFrame(actions, columns=["customer_id", "action", "expected_profit"]).assign(as_of_date=NEW),
        )
        assert customers(filters) == expected
        scores = open_scores()
        values = {row[0]: row[5] for row in ROWS[:3]}
        assert scores.total(filters) == (len(expected), sum(values[customer] for customer in expected))
        assert scores.actions == ["coupon", "none"]

    def test_pages_follow_each_other_in_the_order_that_is_asked_for(self):
        write_scores()
        scores = open_scores()
        pages = [scores.page(Filters(), "rise since last week", page, 2).customer_id.tolist() for page in (0, 1)]
        assert pages == [["anna", "bob"], ["cleo"]]

    def test_csv_holds_all_that_passes(self):
        write_scores()
        text = open_scores().csv(Filters(bands=BANDS[:2]), "value at risk").decode()
        table = pd.read_csv(io.StringIO(text))
        assert table.customer_id.tolist() == ["anna", "cleo"]
        assert table.value_at_risk.tolist() == [90, 5]
        assert {*COLUMNS, "reason_1", "change", "action"} <= set(table)

    def test_a_spreadsheet_computes_nothing_of_what_customers_write(self):
        texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "a=1", "", None]
        table = pa.table({"customer_id": texts, "value": [-1.5] * len(texts)})
        written = pd.read_csv(io.BytesIO(csv(table)), keep_default_na=False)
        assert written.customer_id.tolist() == [*(f"'{text}" for text in texts[:7]), "a=1", "", ""]
        assert written.value.tolist() == [-1.5] * len(texts)

    def test_no_scores_are_one_line(self):
        with pytest.raises(ChurnRadarError, match=r"churn_scores\.parquet: no scores yet; run dbt build first"):
            open_scores()
        write_scores([])
        with pytest.raises(ChurnRadarError, match="no customer was scored yet"):
            open_scores()

    def test_a_damaged_file_is_one_line(self):
        write_scores().write_bytes(b"no Parquet")
        with pytest.raises(
            ChurnRadarError, match=r"churn_scores\.parquet: cannot be read; expected what dbt build writes"
        ):
            open_scores()


class TestData:
    def test_settings_come_from_the_last_build(self):
        assert data.shop_settings() == data.ShopSettings(min_group=10, pseudonymise=False)
        write("online_shop", pd.DataFrame({"facts": ['{"min_group": 25, "pseudonymise": true}']}), "features")
        assert data.shop_settings() == data.ShopSettings(min_group=25, pseudonymise=True)

    def test_a_group_is_hidden_where_one_of_its_counts_is_too_small(self):
        groups = pd.DataFrame({"name": list("abc"), "contacts": [10, 9, 50], "holdouts": [10, 50, 9]})
        shown, small = data.hide_small(groups, ["contacts", "holdouts"], 10)
        assert (shown.name.tolist(), small) == (["a"], 2)

    def test_of_a_date_the_newest_version_is_shown(self):
        assert data.by_date("churn_score_drift") is None
        rows = [(NEW, "9", 0.1), (NEW, "10", 0.2), (OLD, "9", 0.3)]
        write("churn_score_drift", pd.DataFrame(rows, columns=["as_of_date", "model_version", "psi"]))
        assert data.by_date("churn_score_drift").psi.tolist() == [0.3, 0.2]

    def test_the_inputs_that_drifted_most_are_those_of_the_newest_date_that_are_read(self):
        assert data.feature_drift(2) is None
        rows = [("a", NEW, True, 0.1, False), ("b", NEW, True, 0.5, True), ("c", NEW, True, 0.2, False)]
        rows += [("unread", NEW, False, 9.0, True), ("unknown", NEW, True, None, False), ("b", OLD, True, 9.0, True)]
        table = pd.DataFrame(rows, columns=["feature", "as_of_date", "is_read", "psi", "is_unusual"])
        write("churn_feature_drift", table.assign(model_version="1"))
        drift = data.feature_drift(2)
        assert drift.feature.tolist() == ["b", "c"]
        assert (drift.features.iloc[0], drift.unusual_features.iloc[0]) == (3, 1)

    def test_the_champion_is_the_version_of_its_newest_decision(self):
        assert data.champion() is None
        rows = [("1", True, "2024-03-03", "rolled_back"), ("2", False, "2024-03-02", "promoted")]
        rows += [("1", True, "2024-03-01", "promoted")]
        table = pd.DataFrame(rows, columns=["model_version", "is_champion", "decided_at", "decision"])
        write("churn_model", table)
        assert data.champion().decision == "rolled_back"
        write("churn_model", table.head(0))
        assert data.champion() is None

    def test_recommendations_of_the_newest_date_are_added_up(self):
        assert data.recommended() is None
        assert data.experiment() is None
        rows = [("a", NEW, "coupon", 2.0, 1.0), ("b", NEW, "coupon", 3.0, 1.0), ("c", NEW, "none", 0.0, 0.0)]
        rows += [("a", OLD, "coupon", 100.0, 1.0)]
        columns = ["customer_id", "as_of_date", "action", "expected_profit", "contact_cost"]
        write("retention_actions", pd.DataFrame(rows, columns=columns))
        sums = data.recommended()[["action", "customers", "expected_profit", "contact_cost"]]
        assert sums.to_numpy().tolist() == [["coupon", 2, 5.0, 2.0], ["none", 1, 0.0, 0.0]]

    def test_an_empty_experiment_is_none_yet(self):
        write("retention_experiment_results", pd.DataFrame(columns=["action", "campaign_id", "segment"]))
        assert data.experiment() is None

    def test_a_report_is_read_or_reported_as_damaged(self):
        assert data.report() is None
        file = published("report").with_suffix(".json")
        file.parent.mkdir(parents=True)
        file.write_text('{"model": {"version": "1"}}')
        assert data.report() == {"model": {"version": "1"}}
        file.write_text('{"model"')
        with pytest.raises(ChurnRadarError, match=r"report\.json: cannot be read; run churn-radar report again"):
            data.report()

    def test_a_quote_in_the_name_of_the_home_folder_is_no_end(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CHURN_HOME", str(tmp_path / "o'hara"))
        write_scores()
        assert open_scores().customers == 3


class TestServer:
    def test_it_listens_on_the_given_address_without_telemetry(self):
        options = server.options("127.0.0.1", 8600)
        assert (options["server.address"], options["server.port"]) == ("127.0.0.1", 8600)
        assert options["browser.gatherUsageStats"] == "false"

    def test_without_scores_the_command_says_so_and_opens(self, monkeypatch):
        home().mkdir()
        asked = []
        monkeypatch.setattr(server, "run", lambda host, port: asked.append((host, port)))
        done = CliRunner().invoke(cli.app, ["desk", "--port", "8600"])
        assert done.output.endswith("churn_scores.parquet: no scores yet; the desk shows them after dbt build\n")
        assert asked == [("127.0.0.1", 8600)]

    def test_beyond_loopback_the_command_warns(self, monkeypatch):
        monkeypatch.setattr(server, "run", lambda host, port: None)
        write_scores()
        assert CliRunner().invoke(cli.app, ["desk"]).output == ""
        output = CliRunner().invoke(cli.app, ["desk", "--host", "0.0.0.0"]).output
        assert output.startswith("Anybody who reaches 0.0.0.0 at port 8501 sees customers")
