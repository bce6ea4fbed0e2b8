import numpy as np
import pandas as pd
import pytest
import yaml

from inference.errors import ChurnRadarError
from inference.home import PROJECT_DIR
from inference.simulation import lives, shop
from inference.simulation.shop import SimulationSettings, simulate
from inference.simulation.words import ASPECTS, LANGUAGES, complaint

CONTRACT = {
    table["name"]: table
    for table in yaml.safe_load((PROJECT_DIR / "models/staging/raw.yml").read_text())["sources"][0]["tables"]
}


def write(folder, **settings) -> dict[str, int]:
    return simulate(SimulationSettings(**settings), folder / "raw", folder / "truth")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("simulated")
    write(folder, customers=1500, days=400, seed=3)
    raw = {path.stem: pd.read_parquet(path) for path in (folder / "raw").glob("*.parquet")}
    return raw | {f"true_{path.stem}": pd.read_parquet(path) for path in (folder / "truth").glob("*.parquet")}


@pytest.mark.parametrize("name", list(CONTRACT))
def test_tables_keep_the_data_contract(simulated, name):
    table, contract = simulated[name], CONTRACT[name]
    required = [c["name"] for c in contract["columns"] if c.get("config", {}).get("meta", {}).get("required")]
    assert table[required].notna().all(axis=None)
    if key := contract["config"]["meta"].get("primary_key"):
        assert not table.duplicated(key).any()
    for column in contract["columns"]:
        if column["data_type"] == "timestamp" and column["name"] in table:
            assert pd.api.types.is_datetime64_dtype(table[column["name"]])
            assert table[column["name"]].max() < shop.END + pd.Timedelta(seconds=1)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for folder, seed in {"a": 5, "b": 5, "c": 6}.items():
        write(tmp_path / folder, customers=200, days=100, seed=seed)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.parquet"))
    assert len(files) == 9
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    orders = "raw/orders.parquet"
    assert (tmp_path / "a" / orders).read_bytes() != (tmp_path / "c" / orders).read_bytes()


def test_more_customers_extend_the_shop_without_changing_its_first_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(shop, "CUSTOMERS_PER_BLOCK", 100)
    write(tmp_path / "small", customers=100, days=100)
    write(tmp_path / "large", customers=300, days=100)
    small = pd.read_parquet(tmp_path / "small/raw/orders.parquet")
    large = pd.read_parquet(tmp_path / "large/raw/orders.parquet")
    pd.testing.assert_frame_equal(small, large.head(len(small)))
    assert not large.order_id.duplicated().any()


def test_nobody_orders_after_leaving(simulated):
    left = simulated["true_customers"].set_index("customer_id").left_at
    orders = simulated["orders"]
    assert (orders.ordered_at <= orders.customer_id.map(left).fillna(shop.END)).all()


def test_severe_incidents_make_most_customers_leave_within_weeks_and_mild_ones_few(simulated):
    left = simulated["true_customers"].set_index("customer_id").left_at
    incidents = simulated["true_incidents"]
    old = incidents[incidents.happened_at < shop.END - pd.Timedelta(days=40)]
    gone = (old.customer_id.map(left) - old.happened_at).dt.days.between(0, 30)
    rates = gone.groupby(old.severity).mean()
    assert rates["severe"] > 0.6
    assert rates["mild"] < 0.2


def test_words_only_incidents_leave_no_other_trace(simulated):
    silent = simulated["true_incidents"].query("words_only")
    assert 0.5 < len(silent) / len(simulated["true_incidents"]) < 0.7
    assert silent.ticket_id.isna().all()
    reviews = simulated["reviews"].set_index("review_id")
    ratings = reviews.rating[silent.review_id.dropna()]
    happy = reviews.rating[~reviews.index.isin(simulated["true_incidents"].review_id)]
    assert abs(ratings.mean() - happy.mean()) < 0.2
    orders = simulated["orders"].set_index("order_id")
    assert (orders.status[silent.order_id] == "completed").all()


def test_actions_are_random_with_the_logged_propensity(simulated):
    touches = simulated["campaign_touches"]
    shares = touches.action.value_counts(normalize=True)
    logged = touches.groupby("action").propensity.first()
    assert (shares - logged).abs().max() < 0.03


def test_no_truth_is_in_the_raw_tables(simulated):
    hidden = {"severity", "words_only", "caused_leaving", "left_at", "segment", "mean_gap_days"}
    for name in CONTRACT:
        assert not hidden & set(simulated[name].columns)


def test_no_model_or_feature_reads_the_truth():
    readers = [p for f in ("models", "macros", "python_models", "feature_repo") for p in (PROJECT_DIR / f).rglob("*.*")]
    readers += [p for p in (PROJECT_DIR / "inference").glob("*.py") if p.name != "cli.py"]
    assert len(readers) > 50
    assert [p.name for p in readers if "truth" in p.read_text(errors="ignore").lower()] == []


def test_a_killed_simulation_leaves_no_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(shop, "_append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, customers=50, days=100)
    assert not (tmp_path / "raw").exists()


def test_a_strong_season_swings_demand(tmp_path):
    rng = np.random.default_rng(0)
    people = lives.live(3000, 730, 182, "strong", rng)
    month = (people.orders.day // 30.4).astype(int)
    there = [((people.signed_up < 30.4 * m) & (people.left > 30.4 * m)).sum() for m in range(24)]
    rate = np.bincount(month, minlength=24)[:24] / np.maximum(there, 1)
    assert rate[6:23].max() > 1.5 * rate[6:23].min()


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_complaints_vary_and_have_no_unfilled_slots(language):
    rng = np.random.default_rng(1)
    texts = [
        complaint(LANGUAGES[language], a, s, rng) for a in ASPECTS for s in lives.SEVERITY_SHARES for _ in range(20)
    ]
    assert len(set(texts)) > 0.9 * len(texts)
    assert not any("{" in text or "}" in text for text in texts)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"customers": 0}, "--customers is 0; expected at least 1"),
        ({"days": 10}, "--days is 10; expected at least 60"),
        ({"language": "tlh"}, "--language is tlh; expected one of en, zh"),
        ({"season": "wild"}, "--season is wild; expected one of none, mild, strong"),
        ({"campaigns": "wild"}, "--campaigns is wild; expected one of none, mild, strong"),
        ({"visit_every_days": 0}, "--visit-every-days is 0; expected more than 0"),
    ],
)
def test_impossible_settings_are_refused(settings, line):
    with pytest.raises(ChurnRadarError, match=line):
        SimulationSettings(**settings)
