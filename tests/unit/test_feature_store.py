import subprocess
from types import SimpleNamespace

import pandas as pd
import pytest

from inference import feature_store
from inference.errors import ChurnRadarError


class FakeStore:
    """Answers like Feast's DuckDB store: rows in another order, times in UTC."""

    def get_feature_service(self, name: str) -> str:
        return name

    def get_historical_features(self, keys: pd.DataFrame, service: str) -> SimpleNamespace:
        assert service == "churn_model_v1"
        silence = {"a": 1.0, "b": 2.0, "c": None}
        answer = keys.iloc[::-1].reset_index(drop=True)
        answer = answer.assign(days_since_last_order=answer.customer_id.map(silence))
        return SimpleNamespace(to_df=lambda: answer)

    def get_online_features(self, service: str, keys: list[dict]) -> SimpleNamespace:
        known = {"1": 0.9}
        columns = {
            "customer_id": [key["customer_id"] for key in keys],
            "churn_probability": [known.get(key["customer_id"]) for key in keys],
        }
        return SimpleNamespace(to_dict=lambda: columns)


@pytest.fixture
def fake_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "open_store", FakeStore)


@pytest.mark.usefixtures("fake_store")
class TestLookups:
    rows = pd.DataFrame(
        {
            "customer_id": ["b", "c", "a"],
            "as_of_date": pd.to_datetime(["2024-01-01"] * 3),
            "churned": [0, None, 1],
        }
    )

    def test_features_are_joined_by_customer_never_by_position(self) -> None:
        joined = feature_store.historical_features(self.rows)
        assert list(joined.customer_id) == ["b", "c", "a"]
        assert joined.days_since_last_order.fillna(-1).tolist() == [2, -1, 1]

    def test_other_columns_are_kept(self) -> None:
        joined = feature_store.historical_features(self.rows)
        assert list(joined.columns) == ["customer_id", "as_of_date", "churned", "days_since_last_order"]
        assert joined.churned.fillna(-1).tolist() == [0, -1, 1]

    def test_nobody_to_look_up_is_refused_in_one_line(self) -> None:
        with pytest.raises(ChurnRadarError, match="no eligible customer; expected at least one"):
            feature_store.historical_features(self.rows[:0])

    def test_online_customers_come_in_the_order_asked_for_strangers_with_nulls(self) -> None:
        found = feature_store.online_features([2, 1], "churn_scores_v1")
        assert found.customer_id.tolist() == ["2", "1"]
        assert found.churn_probability.fillna(-1).tolist() == [-1, 0.9]


def test_what_feast_refuses_is_told_in_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\n  file\nValueError: type decimal\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ChurnRadarError, match=r"^feast apply: ValueError: type decimal$"):
        feature_store.apply()
