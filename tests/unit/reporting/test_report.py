import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import make_fixed_model, make_rows
from reported_shop import LABELS, make_champion, make_shop
from scipy.stats import beta
from small_network import make_tiny_encoder

from inference.errors import ChurnRadarError
from inference.feature_store import client as feature_store
from inference.registry.registry import RegisteredModel
from inference.reporting.baselines import BASELINES
from inference.reporting.report import champion_labels, make_report, render, write_report
from inference.training.train import train

ENGLISH = "The parcel came three weeks late and nobody answered my messages."
CHINESE = "价格涨了，质量却变差了。"


@pytest.fixture
def report_on(monkeypatch: pytest.MonkeyPatch):
    """Make a report on rows, without Feast between."""

    def make(champion: RegisteredModel, rows: pd.DataFrame, compare: bool = False) -> dict:
        features = rows.drop(columns=["churned", "horizon_spend"])
        monkeypatch.setattr(
            feature_store,
            "historical_features",
            lambda known, *services: known.merge(features, on=["customer_id", "as_of_date"]),
        )
        return make_report(champion, rows[LABELS], compare)

    return make


def named(listed: list[dict], name: str) -> dict:
    (match,) = [item for item in listed if item["name"].startswith(name)]
    return match


class TestFigures:
    @pytest.fixture
    def report(self, report_on) -> dict:
        rows = make_shop()
        return report_on(make_champion(rows), rows)

    def test_calibration(self, report):
        # tenths of 200 predictions, the lowest first: half at 0.2 and half at 0.8, and so they churned
        expected = [(0.2, 0.2, 20)] * 5 + [(0.8, 0.8, 20)] * 5
        bins = [(b["predicted"], b["observed"], b["customers"]) for b in report["curves"]["calibration"]]
        np.testing.assert_allclose(bins, expected)

    def test_lift(self, report):
        # four of five of the riskier half churned and half of all did; among all of them the lift is one
        shares = np.arange(1, 21) / 20
        lifts = np.where(shares <= 0.5, 1.6, (0.5 * 0.8 + (shares - 0.5) * 0.2) / shares / 0.5)
        np.testing.assert_allclose([p["share"] for p in report["curves"]["lift"]], shares)
        np.testing.assert_allclose([p["lift"] for p in report["curves"]["lift"]], lifts)

    def test_members(self, report):
        assert [m["name"] for m in report["members"]] == ["Churn Radar", "logistic"]
        for member in report["members"]:
            assert member["n_customers"] == 200
            # of 100 x 100 pairs 80 x 80 stand in the right order, 2 x 80 x 20 are ties
            assert member["auroc"] == pytest.approx(0.8)
            assert member["auroc_by_snapshot"] == pytest.approx([0.8, 0.8])
            assert member["mean_auroc"] == pytest.approx(0.8)
            assert member["log_loss"] == pytest.approx(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))
            assert member["brier"] == pytest.approx(0.8 * 0.04 + 0.2 * 0.64)
            assert member["ece"] == pytest.approx(0, abs=1e-6)
            assert member["top_decile_lift"] == pytest.approx(1.6)
            # the riskier half are 0.4 churners, worth 190 times the acceptance rate less 1, and 0.1 stayers, who cost
            # 11; all of them are 0.5 and 0.5
            worth = 190 * beta(6, 14).ppf((np.arange(100_000) + 0.5) / 100_000) - 1
            best = np.max([0 * worth, 0.4 * worth - 0.1 * 11, 0.5 * worth - 0.5 * 11], axis=0)
            assert member["empc"] == pytest.approx(best.mean(), rel=1e-4)
            assert member["against_average"] == pytest.approx({"mean": 0, "low": 0, "high": 0})

    def test_segments(self, report):
        assert [s["name"].split(":")[0] for s in report["segments"]] == ["new", "one-time", "high value"]
        new = named(report["segments"], "new")
        assert (new["n_customers"], new["churn_rate"], new["auroc"]) == pytest.approx((100, 0.8, 0.5))
        # customers 25 to 74: 20 churners and 5 stayers at 0.8, 5 and 20 at 0.2, at each snapshot
        one_time = named(report["segments"], "one-time")
        assert (one_time["n_customers"], one_time["churn_rate"]) == pytest.approx((100, 0.5))
        assert one_time["auroc"] == pytest.approx(0.8)
        assert one_time["mean_probability"] == pytest.approx(0.5)
        # the first 30 spent 100 and all others 5
        assert named(report["segments"], "high value")["n_customers"] == 60

    def test_each_language_is_a_segment(self, report_on):
        rows = make_shop()
        number = rows.customer_id.str[1:].astype(int)
        written = {0: ["ok", ENGLISH], 1: [CHINESE], 2: ["很好"], 3: ["👍"], 4: None}
        rows["texts"] = [written[i % 5] for i in number]
        report = report_on(make_champion(rows), rows)
        # every fifth does otherwise than the others, and wrote nothing
        assert [s["name"] for s in report["segments"]][-1:] == ["writes zh"]
        assert named(report["segments"], "writes zh")["n_customers"] == 80
        assert named(report["segments"], "writes zh")["churn_rate"] == pytest.approx(0.5)
        assert named(report["segments"], "writes zh")["auroc"] == pytest.approx(1.0)
        assert not [s for s in report["segments"] if s["name"] == "writes en"]  # 40 are too few

    def test_a_segment_in_which_one_alone_churned_is_left_out(self, report_on):
        rows = make_shop()
        lucky = (rows.days_since_first_order <= 60) & ~(
            (rows.customer_id == "c000") & (rows.as_of_date == "2024-02-26")
        )
        rows["churned"] = np.where(lucky, 0.0, rows.churned)
        segments = report_on(make_champion(rows), rows)["segments"]
        assert [s["name"].split(":")[0] for s in segments] == ["one-time"]

    def test_forward_drop(self, report_on):
        rows = make_shop()
        champion = make_champion(rows)
        assert report_on(champion, rows)["forward"]["mean_drop"] == pytest.approx(0)
        newest = champion.model.validation.as_of_date == "2024-03-25"
        predicted = champion.model.validation.probability
        champion.model.validation["probability"] = np.where(newest, 1 - predicted, predicted)  # all wrong at the newest
        forward = report_on(champion, rows)["forward"]
        assert forward["mean_drop"] == pytest.approx(0.8 - 0.2)
        (snapshot,) = forward["snapshots"]
        assert snapshot == {
            "as_of_date": "2024-03-25",
            "validation_auroc": pytest.approx(0.8),
            "forward_auroc": pytest.approx(0.2),
        }

    def test_with_one_later_snapshot_there_is_no_forward_drop(self, report_on):
        rows = make_shop()
        champion = make_champion(rows)
        champion.model.validation = champion.model.validation.tail(100)
        assert report_on(champion, rows)["forward"] is None

    def test_members_are_compared_where_all_of_them_ran(self, report_on):
        rows = make_shop()
        champion = make_champion(rows)
        table = champion.model.validation
        # the shop was too young for boosting at the first of the two
        table["boosting"] = np.where(table.as_of_date == "2024-02-26", np.nan, table.logistic)
        report = report_on(champion, rows)
        assert {m["n_customers"] for m in report["members"]} == {100}
        assert report["model"]["snapshots"] == ["2024-03-25"]


class TestNewerBuilds:
    def test_snapshots_labelled_since_the_training_are_not_used(self, report_on, tiny):
        rows = make_rows(n_customers=60, n_snapshots=6).assign(orders_total=3.0)
        champion = RegisteredModel("1", train(rows[rows.as_of_date <= "2024-03-25"], 30))
        report = report_on(champion, rows, compare=True)
        assert report["note"] is None
        assert report["model"]["snapshots"] == ["2024-02-26", "2024-03-25"]
        for part in ("members", "baselines", "ablations"):
            assert {s["n_customers"] for s in report[part]} == {120}

    def test_snapshots_that_the_last_build_lacks_are_left_out(self, report_on):
        rows = make_shop()
        champion = make_champion(rows)
        # without the first snapshot nothing had closed before the third
        report = report_on(champion, rows[rows.as_of_date > "2024-01-01"])
        assert report["model"]["snapshots"] == ["2024-03-25"]
        assert report["members"][0]["n_customers"] == 100

    def test_where_all_of_them_moved_members_are_reported_and_the_rest_is_explained(self, report_on):
        report = report_on(make_champion(make_shop()), make_shop(first="2024-01-08"), compare=True)
        assert report["members"][0]["n_customers"] == 200
        assert report["segments"] == report["baselines"] == report["ablations"] == []
        assert report["note"] == (
            "Segments and comparisons are left out: the last build labelled other snapshots than those on which "
            "version 3 was validated. Train again to see them."
        )
        assert report["note"] in texts_of(render(report))


class TestRefusals:
    def test_a_champion_without_later_snapshots_is_refused_in_one_line(self):
        with pytest.raises(ChurnRadarError) as refused:
            make_report(RegisteredModel("7", make_fixed_model()), pd.DataFrame())
        assert str(refused.value) == (
            "champion 7 was validated on no later snapshot; expected more history, then train again"
        )

    def test_labels_that_were_never_built_are_refused_in_one_line(self, churn_home):
        with pytest.raises(ChurnRadarError) as refused:
            champion_labels()
        file = churn_home / "features" / "churn_labels.parquet"
        assert str(refused.value) == f"{file}: no such file; run dbt build first"


class Page(HTMLParser):
    """Texts, tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts, self.tags, self.addresses = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [v for k, v in attributes if k in ("href", "src", "xlink:href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))


def texts_of(page: str) -> str:
    return " ".join(Page(page).texts)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        folder = make_tiny_encoder(tmp_path_factory.mktemp("tiny"), "Bert")
        patch.setenv("CHURN_ENCODER", folder)
        patch.setenv("CHURN_DEVICE", "cpu")
        yield folder


class TestTrained:
    """The whole of it, on a model trained on seeded rows."""

    @pytest.fixture(scope="class")
    @classmethod
    def report(cls, tmp_path_factory, tiny) -> dict:
        rows = make_rows(n_customers=310, n_snapshots=4)
        rows["orders_total"] = rows.orders_90d
        model = train(rows, 30)
        features = rows.drop(columns=["churned", "horizon_spend"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("home")))
            patch.setattr(
                feature_store,
                "historical_features",
                lambda known, *services: known.merge(features, on=["customer_id", "as_of_date"]),
            )
            return make_report(RegisteredModel("1", model), rows[LABELS])

    def test_every_baseline_and_ablation_is_there(self, report):
        assert [m["name"] for m in report["members"]] == ["Churn Radar", "logistic", "boosting"]
        assert [b["name"] for b in report["baselines"]] == [baseline.name for baseline in BASELINES]
        assert [a["name"] for a in report["ablations"]] == [
            "without nothing",
            *(f"without {table} features" for table in ("order", "review", "forecast")),
            "without words",
        ]
        everything = [s for part in ("members", "baselines", "ablations") for s in report[part]]
        assert {s["n_customers"] for s in everything} == {report["model"]["customers"]} == {620}
        assert report["control"] is None  # nobody wrote

    def test_without_order_features_the_ranking_is_worse(self, report):
        whole, without = (named(report["ablations"], f"without {name}") for name in ("nothing", "order features"))
        assert without["auroc"] < whole["auroc"]
        # the gain is over the champion's own average
        assert without["against_average"]["high"] < 0

    def test_with_nothing_left_out_the_average_is_trained_again_as_it_was(self, report):
        assert report["model"]["average"] == ["boosting"]
        again, champion = named(report["ablations"], "without nothing"), report["members"][0]
        for figure in ("auroc", "log_loss", "brier", "ece"):
            assert again[figure] == pytest.approx(champion[figure])
        assert again["against_average"] == pytest.approx({"mean": 0, "low": 0, "high": 0})

    def test_the_page_shows_every_score_and_needs_no_other_file(self, report):
        page = render(report)
        read = Page(page)
        shown = texts_of(page)
        for part in ("members", "baselines", "ablations"):
            for score in report[part]:
                assert score["name"] in shown
                assert f"{score['auroc']:.4f}" in shown
                assert f"{score['empc']:.3f}" in shown
        for segment in report["segments"]:
            assert segment["name"] in shown
        assert not read.tags & {"script", "link", "iframe", "img", "object", "embed", "base"}
        assert all(address.startswith("#") for address in read.addresses)
        assert not re.search(r"@import|url\((?!#)", page)
        assert page.count("<svg") == page.count("</svg>") == 3

    def test_names_are_escaped(self, report):
        odd = '<script>alert("1")</script> & <b>'
        renamed = [{**report["baselines"][0], "name": odd}]
        page = render(report | {"baselines": renamed, "segments": [{**report["segments"][0], "name": odd}]})
        assert "script" not in Page(page).tags
        assert Page(page).texts.count(odd) >= 2

    def test_it_is_written_as_page_and_json(self, report, churn_home):
        page = render(report)
        written = write_report(report, page)
        assert [file.name for file in written] == ["report.html", "report.json"]
        assert written[0].read_text(encoding="utf-8") == page
        read = json.loads(written[1].read_text(), parse_constant=pytest.fail)
        assert read["members"][0]["auroc"] == report["members"][0]["auroc"]
        assert sorted(file.name for file in (churn_home / "published").iterdir()) == ["report.html", "report.json"]


class TestWriting:
    def test_nan_and_infinity_become_null(self):
        odd = {"a": np.nan, "b": [np.inf, {"c": np.float32(0.5), "d": np.int64(3)}], 5: (True, None, "NaN")}
        _, file = write_report(odd, "")
        assert json.loads(file.read_text(), parse_constant=pytest.fail) == {
            "a": None,
            "b": [None, {"c": 0.5, "d": 3}],
            "5": [True, None, "NaN"],
        }

    def test_a_report_that_cannot_be_written_leaves_the_last_one_whole(self, churn_home: Path):
        write_report({"version": 1}, "first – page")
        with pytest.raises(TypeError):
            write_report({"version": object()}, "second page")
        folder = churn_home / "published"
        assert (folder / "report.html").read_text(encoding="utf-8") == "first – page"
        assert json.loads((folder / "report.json").read_text()) == {"version": 1}

    def test_killed_while_the_second_file_is_written(self, churn_home: Path, monkeypatch):
        write_report({"version": 1}, "first page")
        write_text = Path.write_text

        def die(path: Path, text: str, **how: object) -> int:
            write_text(path, text[: len(text) // 2], **how)
            if "json" in path.name:
                raise KeyboardInterrupt
            return len(text)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", die)
            with pytest.raises(KeyboardInterrupt):
                write_report({"version": 2}, "second page")
        folder = churn_home / "published"
        assert (folder / "report.html").read_text() == "first page"
        assert json.loads((folder / "report.json").read_text()) == {"version": 1}
        write_report({"version": 3}, "third page")
        assert (folder / "report.html").read_text() == "third page"
