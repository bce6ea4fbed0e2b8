"""Scores re-computed from events equal those of the next build, on a simulated shop whose last days arrive as events.

The shop is built once, and the tests run in the order in which they change it. CHURN_CUSTOMERS makes it larger.
"""

import json
import os
import sqlite3
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hostile_events import STRANGE_IDS, accepted, browsing, count_on
from raw_events import KEYS, split
from service import serving
from shop import Shop
from warehouses import DuckDBShop

from inference.desk import data, timeline
from inference.desk.scores import Filters, open_scores
from inference.desk.what_if import WhatIf
from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog
from inference.features.packing import unpack
from inference.features.time_features import TIME_FEATURES, count_time
from inference.realtime.online_store import OnlineStore
from inference.realtime.rescorer import Rescorer
from inference.text.encoder.vector_cache import DiskVectors, use_cache

N_CUSTOMERS = int(os.environ.get("CHURN_CUSTOMERS", "300"))
BUILD = ("dbt", "build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")
VARS = ("--vars", "{churn__transformer: false}")


@dataclass
class Online:
    """A shop, the events since its first build, and its rescorer."""

    shop: Shop
    events: list[Event]
    rescorer: Rescorer

    def compare(self) -> dict:
        """Largest differences between the newest scores of the build and those of the service at the same midnight."""
        scores = self.shop.scores()
        batch = scores[scores.as_of_date == scores.as_of_date.max()].set_index("customer_id")
        as_of = pd.Timestamp(batch.as_of_date.iloc[0]).date()
        scores_by_customer, _ = self.rescorer._score(self.rescorer._read_build(), batch.index, as_of)
        fresh = pd.DataFrame.from_dict(scores_by_customer, orient="index")
        assert list(fresh.index) == list(batch.index)
        columns = ["risk_band", "model_version", "reason_1", "reason_2", "reason_3"]
        fresh_values, batch_values = fresh[columns].fillna(""), batch[columns].fillna("")
        same = (fresh_values == batch_values).all(axis=1)
        return {
            "customers": len(batch),
            "probability": float(np.abs(fresh.churn_probability - batch.churn_probability).max()),
            "spend": float(np.abs(fresh.expected_spend - batch.expected_spend).max()),
            "percentile": float(np.abs(fresh.risk_percentile - batch.risk_percentile).max()),
            "other differences": list(
                zip(fresh[columns][~same].to_numpy(), batch[columns][~same].to_numpy(), strict=True)
            ),
        }


def materialize(shop: Shop, *options: str) -> None:
    shop.run("feast", "-c", "feature_repo", "apply")
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    shop.run("feast", "-c", "feature_repo", "materialize", as_of, as_of, *options)


def days_since_last_order(shop: Shop, customer_id: str) -> float:
    """Days since the last order, from the feature service of the model."""
    code = (
        "from inference.feature_store.client import MODEL_SERVICE, online_features\n"
        f"print(online_features([{customer_id!r}], MODEL_SERVICE).days_since_last_order[0])"
    )
    return float(shop.run("python", "-c", code).stdout.split()[-1])


def with_refunds(orders: pd.DataFrame, before: pd.Timestamp) -> pd.DataFrame:
    """Add refunds of every fifth order: half of them under its id with a negative amount, half with their status."""
    refunds = orders[orders.status == "completed"].iloc[::5].assign(discount_amount=0.0, coupon_code=None)
    refunds["ordered_at"] += pd.Timedelta(days=3)
    refunds["amount"] = (refunds.amount / 2).round(2)
    negative, named = refunds[::2], refunds[1::2]
    negative = negative.assign(amount=-negative.amount)
    named = named.assign(order_id="back " + named.order_id, status="refund")
    refunds = pd.concat([negative, named])
    return pd.concat([orders, refunds[refunds.ordered_at < before]], ignore_index=True)


@pytest.fixture(scope="module")
def online(tmp_path_factory) -> Online:
    """The shop built two weeks before its end."""
    shop = Shop(tmp_path_factory.mktemp("online") / "home")
    shop.run("churn-radar", "simulate", "--customers", str(N_CUSTOMERS), "--days", "200", "--seed", "5")
    tables = {file.stem: pd.read_parquet(file) for file in shop.raw.glob("*.parquet")}
    cut = tables["orders"].ordered_at.max().normalize() - pd.Timedelta(days=14)
    # later refunds are left out, as there are no events for them
    tables["orders"] = with_refunds(tables["orders"], cut)
    before, events = split(tables, cut)
    shop.write(**before)
    shop.run(*BUILD, *VARS)
    materialize(shop)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shop.env.items():
            patch.setenv(name, value)
        log = SqliteEventLog()
        rescorer = Rescorer(OnlineStore(), log)
        rescorer.open()
        yield Online(shop, events, rescorer)
        log.close()
        use_cache(DiskVectors())


def test_without_events_scores_equal_those_of_the_build(online):
    differences = online.compare()
    print(differences)
    assert differences["customers"] > N_CUSTOMERS / 5
    assert differences["probability"] <= 1e-6
    assert differences["spend"] <= 1e-6
    assert differences["percentile"] <= 0.02
    assert differences["other differences"] == []


def test_the_desk_shows_the_scores_of_the_build_and_uses_the_same_model(online):
    scores, engine = open_scores(), WhatIf.load()
    published = scores.page(Filters(), "churn probability", 0, 20).set_index("customer_id")
    for customer, probability in published.churn_probability.items():
        answer = engine.answer(customer)
        assert (answer.as_of, answer.model_version) == (scores.as_of, published.model_version[customer])
        assert answer.churn_probability == pytest.approx(probability, abs=1e-6)
        assert len(answer.changes) >= 3
        events = timeline.events(timeline.history(customer), timeline.quotes(customer))
        assert {"order", "visit"} <= set(events.kind)
    assert data.shop_settings() == data.ShopSettings(min_group=10, pseudonymise=False)
    assert data.champion().model_version == published.model_version.iloc[0]
    assert data.by_date("churn_score_drift").customers.tolist() == [scores.customers]
    assert data.by_date("churn_model_performance") is None
    assert data.feature_drift(5) is not None


def test_scores_after_events_equal_those_of_the_next_build(online):
    shuffled = np.random.default_rng(0).permutation(len(online.events))
    events = [online.events[i] for i in shuffled]
    log = SqliteEventLog()
    (added,) = log.append_all([events])
    assert all(added)
    assert not any(*log.append_all([events])), "each is accepted once"
    log.close()
    # so that they count as arrived when they happened
    with sqlite3.connect(online.shop.home / "events" / "log.db") as connection:
        connection.execute("update events set received_at = '2000-01-01T00:00:00+00:00'")
    online.shop.run(*BUILD, *VARS)
    # only the shop-wide facts are of the new build; the histories are of the build before
    materialize(online.shop, "--views", "online_shop")
    differences = online.compare()
    print(len(events), differences)
    assert {table for event in events for table in event.rows} == {
        "orders",
        "order_items",
        "events",
        "reviews",
        "support_tickets",
    }
    assert differences["probability"] <= 1e-6
    assert differences["spend"] <= 1e-6
    assert differences["other differences"] == []


def test_features_after_events_equal_those_of_the_next_build(online):
    built = pd.read_parquet(online.shop.home / "features" / "model_features.parquet")
    built = built[built.as_of_date == built.as_of_date.max()].set_index("customer_id")
    midnight = pd.Timestamp(built.as_of_date.iloc[0])
    _, fresh = online.rescorer._score(online.rescorer._read_build(), built.index, midnight.date())
    assert list(fresh) == list(built.index)
    numbers = [name for name in online.rescorer._store.model_columns if name not in TIME_FEATURES]
    ours, theirs = (
        unpack(count_time(list(rows), [midnight] * len(built)), numbers) for rows in (fresh.values(), built.packed)
    )
    columns = ours.select_dtypes("number").columns
    np.testing.assert_allclose(ours[columns], theirs[columns], rtol=1e-6, atol=1e-6)
    assert ours.encoder_revision.notna().any()
    for column in ("attributes", "encoder_revision"):
        assert ours[column].to_list() == theirs[column].to_list()
    for own, their in zip(ours.text_embedding, theirs.text_embedding, strict=True):
        assert (own is None) == (their is None)
        if own is not None:
            np.testing.assert_allclose(own, their, atol=1e-5)


def test_of_a_text_its_own_vector_is_kept_in_memory(online):
    build = online.rescorer._read_build()
    build.read_text("The vectors of aspects are kept with those of the first text.")
    read = build.read_text("Nobody wrote this before.")
    assert (read.vector.base if read.vector.base is not None else read.vector).nbytes == read.vector.nbytes


def test_events_that_are_in_the_build_are_not_counted_twice(online):
    materialize(online.shop)
    (history,) = online.rescorer._store.read("online_histories", [online.events[0].customer_id])
    assert history[1]["through"] == len(online.events)
    differences = online.compare()
    assert differences["probability"] <= 1e-6
    assert differences["other differences"] == []
    assert online.rescorer.behind() == []


def test_an_order_over_http_changes_the_score_and_survives_a_kill(online):
    scores = online.shop.scores()
    quiet = scores.sort_values("churn_probability").customer_id.iloc[-1]
    now = pd.Timestamp.now(tz="UTC")
    order = {"type": "order", "event_id": "late", "customer_id": quiet, "order_id": "late", "amount": 12.5}
    with serving(online.shop) as service:
        service.wait_until_ready()
        assert service.get(f"/v1/customers/{quiet}/churn").json()["source"] == "stored"
        answer = service.post("/v1/events", json={"events": [order | {"ordered_at": now.isoformat()}]})
        (fresh,) = answer.json()["scores"]
        assert fresh["source"] == "fresh"
        assert fresh["feature_age_seconds"] < 5
        assert fresh["as_of"] == f"{now.normalize() + pd.Timedelta(days=1):%Y-%m-%dT00:00:00Z}"
        assert days_since_last_order(online.shop, quiet) == 1, "the features follow as well, to the midnight to come"
        again = service.get(f"/v1/customers/{quiet}/churn").json()
        assert {**again, "feature_age_seconds": 0} == {**fresh, "feature_age_seconds": 0}
        # a build that began before the order and ends after it stores its score, which is then re-computed
        materialize(online.shop, "--views", "online_scores")
        for _ in range(300):
            again = service.get(f"/v1/customers/{quiet}/churn").json()
            if again["source"] == "fresh":
                break
            time.sleep(0.1)
        assert again["churn_probability"] == fresh["churn_probability"]
        nobody = {**order, "event_id": "x", "order_id": "x", "customer_id": "nobody", "ordered_at": now.isoformat()}
        (first,) = service.post("/v1/events", json={"events": [nobody]}).json()["scores"]
        # the strongest reason depends on the model; each possible one mentions the only order
        reasons, expected = (
            " ".join(first["reasons"]),
            ("1 order in the last 90 days", "spent 12.50", "first order 1 day ago"),
        )
        assert any(reason in reasons for reason in expected), "a customer unknown to every build"
        service.process.kill()
    # as if the process had been killed between writing the log and the store
    log = SqliteEventLog()
    log.append_all([[Event("unseen", quiet, {"orders": [{**_row(order, now), "order_id": "unseen"}]})]])
    log.close()
    with serving(online.shop) as service:
        service.wait_until_ready()
        for _ in range(50):
            newest = service.get(f"/v1/customers/{quiet}/churn").json()
            if newest["churn_probability"] != fresh["churn_probability"]:
                break
            time.sleep(0.1)
        assert newest["source"] == "fresh"
        assert newest["expected_spend"] != fresh["expected_spend"]
        online.shop.run("churn-radar", "events", "drop", "unseen", "--reason", "sent by a test")
        for _ in range(150):  # the service looks for customers who are behind every ten seconds
            newest = service.get(f"/v1/customers/{quiet}/churn").json()
            if newest["churn_probability"] == fresh["churn_probability"]:
                break
            time.sleep(0.1)
        assert newest["expected_spend"] == fresh["expected_spend"]


def test_stored_scores_with_their_age_are_served_if_the_model_cannot_be_loaded(online, tmp_path):
    (config,) = (online.shop.home / "mlflow").rglob("model/config.json")
    content = config.read_bytes()
    config.write_text("{")
    customer = online.shop.scores().customer_id.iloc[0]
    now = pd.Timestamp.now(tz="UTC")
    order = {"type": "order", "event_id": "waits", "customer_id": customer, "order_id": "waits", "amount": 12.5}
    try:
        with serving(online.shop) as service:
            for _ in range(100):
                ready = service.get("/readyz")
                if "cannot be used" in ready.text:
                    break
                time.sleep(0.1)
            assert ready.json() == {
                "status": "stored scores",
                "detail": "scores do not follow events yet: "
                "the model of the last build cannot be used; the log says why",
                "customers_behind": 0,
            }
            stored = service.get(f"/v1/customers/{customer}/churn").json()
            assert stored["source"] == "stored"
            assert stored["feature_age_seconds"] > 0
            receipt = service.post("/v1/events", json={"events": [order | {"ordered_at": now.isoformat()}]}).json()
            assert (receipt["accepted"], receipt["pending"]) == (1, [customer])
            config.write_bytes(content)
            service.wait_until_ready()
            for _ in range(50):
                score = service.get(f"/v1/customers/{customer}/churn").json()
                if score["source"] == "fresh":
                    break
                time.sleep(0.1)
            assert score["source"] == "fresh"
    finally:
        config.write_bytes(content)


def test_hostile_events_are_used_or_set_aside_and_wreck_no_build(online):
    shop, before = DuckDBShop(online.shop.home), online.shop.scores()
    sent = accepted({file.stem: pd.read_parquet(file) for file in shop.raw.glob("*.parquet")})
    with serving(shop) as service:
        service.wait_until_ready()
        for kind, case in sent.items():
            answer = service.post("/v1/events", json={"events": [case.event]})
            assert answer.status_code == 200, (kind, answer.text)
            assert answer.json()["accepted"] == 1
            named = [score["customer_id"] for score in answer.json()["scores"]] + answer.json()["pending"]
            assert named == [case.event["customer_id"]]
    # of today, after the shop's last day: nobody's score changes
    shop.run(*BUILD, *VARS)
    both = [scores.sort_values(["customer_id", "as_of_date"], ignore_index=True) for scores in (shop.scores(), before)]
    pd.testing.assert_frame_equal(*(scores.drop(columns="scored_at") for scores in both))
    # within the shop's days
    count_on(shop.home, len(sent), before.as_of_date.max() - pd.Timedelta(days=1), pd.Timestamp("2024-12-01"))
    output = shop.run("dbt", "build", "--exclude-resource-type", "unit_test", *VARS).stdout
    assert set(STRANGE_IDS) <= set(shop.scores().customer_id)
    staged = {table: set(shop.table(f"stg_{table}").iloc[:, 0]) for table in KEYS}
    rejected = shop.table("stg_rejected_rows")
    for kind, case in sent.items():
        for table, reason in case.reasons.items():
            rows = rejected[(rejected.source_table == table) & (rejected.rejection_reason == reason)]
            assert rows.row_content.map(lambda row, key=case.key: key in json.loads(row).values()).any(), kind
            n_rows = sum(other.reasons.get(table) == reason for other in sent.values())
            assert f"{table}: {n_rows} rows that the service accepted are set aside, as {reason}, for example" in output
        assert case.reasons or case.key in staged[case.table], kind
    orders = shop.table("stg_orders").set_index("order_id")
    assert orders.status["order return"] == "completed", "of an order that was sent twice the newest row counts"


def test_an_erased_customer_is_removed_from_the_log_and_not_accepted_again(online):
    customer = next(event.customer_id for event in online.events if "reviews" in event.rows)
    output = online.shop.run("churn-radar", "erase", "--customer", customer).stdout
    assert "events/log.db" in output
    log = SqliteEventLog()
    assert list(log.since(0, customer)) == []
    assert len(list(log.since())) > 100
    log.close()
    with serving(online.shop) as service:
        answer = service.post("/v1/events", json={"events": [browsing("back", customer_id=customer)]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "events.0.customer_id is of a customer who was erased; expected nothing of them any more"
    )


def _row(order: dict, moment: pd.Timestamp) -> dict:
    return {
        "order_id": order["order_id"],
        "customer_id": order["customer_id"],
        "ordered_at": f"{moment:%Y-%m-%dT%H:%M:%S}",
        "amount": 250.0,
        "status": "completed",
    }
