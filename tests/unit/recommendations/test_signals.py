import numpy as np
import pandas as pd
import pytest
from purchases import AS_OF, bought, nameless

from inference.recommendations.signals import ProductNames, Signals, associations, followers, read_history
from inference.text.encoder.encoder import Encoder

#: Customer, product and days ago: a bought tea, jam and then both; b tea alone, once after a's last day.
PLAIN = [("a", "tea", 40), ("a", "jam", 30), ("a", "tea", 20), ("a", "jam", 20), ("b", "tea", 19)]


def named(**products: str) -> ProductNames:
    return ProductNames(pd.DataFrame({"product_id": list(products), "product_name": list(products.values())}))


def scores_of(signals: Signals, customer: str) -> list[dict[str, float]]:
    """Scores above zero by product, for each signal."""
    row = np.flatnonzero(signals.history.customers == customer)
    by_signal = (dict(zip(signals.history.products, score[0], strict=True)) for score in signals.scores(row))
    return [{product: score for product, score in scores.items() if score > 0} for scores in by_signal]


class TestHistory:
    def test_products_are_sorted_by_sales(self) -> None:
        history = read_history(bought([("a", "jam", 3), ("a", "tea", 3), ("b", "tea", 2), ("b", "bag", 1)]), AS_OF)
        assert history.products.tolist() == ["tea", "bag", "jam"]
        assert history.customers.tolist() == ["a", "b"]
        np.testing.assert_array_equal(history.matrix(history.age).toarray(), [[3, 0, 3], [2, 1, 0]])

    def test_purchases_on_or_after_the_as_of_date_are_left_out(self) -> None:
        history = read_history(bought([("a", "tea", 1), ("a", "jam", 0), ("b", "bag", -5)]), AS_OF)
        assert (history.customers.tolist(), history.products.tolist()) == (["a"], ["tea"])

    def test_returns_are_no_purchases(self) -> None:
        history = read_history(bought([("a", "tea", 5)], returned=[("a", "jam", 4)]), AS_OF)
        assert history.matrix(history.age).toarray().tolist() == [[5, 0]]
        assert history.returned.toarray().tolist() == [[0, 1]]


class TestNext:
    def test_pairs_of_shopping_days_by_hand(self) -> None:
        history = read_history(bought(PLAIN), AS_OF)
        assert history.products.tolist() == ["tea", "jam"]
        pairs, days_first, days_then = followers(history)
        # a: tea, then jam; jam, then tea and jam; after that nothing, whatever b does
        assert pairs.toarray().tolist() == [[0, 1], [1, 1]]
        assert (days_first.tolist(), days_then.tolist()) == ([1, 1], [1, 2])

    def test_cosines_of_rare_pairs_are_shrunk(self) -> None:
        strength = associations(*followers(read_history(bought(PLAIN), AS_OF))).toarray()
        cosines = np.array([[0, 1 / np.sqrt(1 * 2)], [1 / np.sqrt(1 * 1), 1 / np.sqrt(1 * 2)]])
        np.testing.assert_allclose(strength, cosines * 1 / (1 + 10))

    def test_of_many_followers_single_ones_are_left_out(self) -> None:
        rows = [(f"c{i}", product, day) for i in range(201) for product, day in (("tea", 9), (f"p{i}", 5))]
        history = read_history(bought([*rows, ("again", "tea", 9), ("again", "p7", 5)]), AS_OF)
        pairs, _, _ = followers(history)
        assert {history.products[i]: n for i, n in zip(pairs.indices, pairs.data, strict=True)} == {"p7": 2}


class TestScores:
    def test_times_bought(self) -> None:
        rows = [("a", "tea", 40), ("a", "tea", 30), ("a", "jam", 20), ("b", "bag", 20)]
        assert scores_of(Signals(read_history(bought(rows), AS_OF), nameless(), 0), "a")[0] == {"tea": 2, "jam": 1}

    def test_followers_of_newer_purchases_weigh_more(self) -> None:
        others = [("o1", "tea", 9), ("o1", "cup", 5), ("o2", "jam", 9), ("o2", "bread", 5)]
        signals = Signals(read_history(bought([*others, ("a", "jam", 95), ("a", "tea", 5)]), AS_OF), nameless(), 1)
        score = scores_of(signals, "a")[1]
        # of two days with jam that have a next one bread came after one; 95 days ago it weighs less than half
        assert score["cup"] == pytest.approx(0.5 ** (5 / 90) / 11)
        assert score["bread"] == pytest.approx(0.5 ** (95 / 90) / np.sqrt(2) / 11)

    def test_recent_purchases_are_not_recommended_by_any_signal(self) -> None:
        names = named(tea="green tea", jam="plum jam", cup="tea cup")
        rows = [("a", "tea", 15), ("a", "jam", 14), ("b", "tea", 9), ("b", "jam", 8), ("b", "cup", 7)]
        scores = scores_of(Signals(read_history(bought(rows), AS_OF), names, 14), "a")
        assert scores[0] == {"tea": 1}
        assert "jam" not in scores[1] | scores[2]
        assert "cup" in scores[2]

    def test_returned_products_are_not_recommended(self) -> None:
        names = named(tea="green tea", jam="plum jam")
        rows = [("a", "tea", 200), ("a", "jam", 60), ("b", "tea", 5)]
        scores = scores_of(Signals(read_history(bought(rows, [("a", "tea", 300)]), AS_OF), names, 14), "a")
        assert scores[0] == {"jam": 1}
        assert "tea" not in scores[1] | scores[2]

    def test_products_no_longer_sold_are_not_recommended(self) -> None:
        rows = [("a", "tea", 120), ("b", "tea", 90), ("a", "jam", 120), ("b", "jam", 91)]
        assert scores_of(Signals(read_history(bought(rows), AS_OF), nameless(), 14), "a")[0] == {"tea": 1}

    def test_similar_names(self) -> None:
        names = named(tea="Green tea, 100 g", leaf="Black tea, 250 g", hammer="Claw hammer with steel shaft")
        rows = [("a", "tea", 30), ("b", "leaf", 20), ("b", "hammer", 20), ("b", "nameless", 20)]
        scores = scores_of(Signals(read_history(bought(rows), AS_OF), names, 14), "a")[2]
        assert scores["tea"] == pytest.approx(1, abs=1e-5)
        assert 1 > scores["leaf"] > 2 * scores.get("hammer", 0)
        assert "nameless" not in scores


class TestProductNames:
    def test_each_distinct_name_is_encoded_once_and_cached(self, monkeypatch) -> None:
        read: list[str] = []
        encoder, encode = Encoder.shared(), Encoder.encode
        monkeypatch.setattr(Encoder, "encode", lambda self, texts: (read.extend(texts), encode(self, texts))[1])
        names = named(a="green tea", b=" green  tea ", c="plum jam", d="")
        assert sorted(read) == ["green tea", "plum jam"]
        assert names.codes(np.array(["a", "b", "c", "d", "unknown"])).tolist() == [0, 0, 1, -1, -1]
        np.testing.assert_allclose(np.linalg.norm(names.vectors, axis=1), 1, rtol=1e-5)
        named(a="plum jam", b="green tea")
        assert len(read) == 2
        assert encoder.dimension == names.vectors.shape[1]

    def test_a_single_name_is_not_encoded(self, monkeypatch) -> None:
        monkeypatch.setattr(Encoder, "shared", None)
        products = pd.DataFrame({"product_id": ["a", "b", "c"], "product_name": ["tea", "tea", None]})
        names = ProductNames(products)
        assert [names.of(product) for product in "abc"] == ["tea", "tea", "product c"]


class TestReasons:
    @pytest.fixture
    def signals(self) -> Signals:
        rows = [("a", "tea", 61), ("a", "tea", 40), ("a", "tea", 21), ("a", "jam", 21), ("b", "cup", 1)]
        rows += [(f"o{i}", product, day) for i in range(3) for product, day in (("tea", 9), ("cup", 5))]
        return Signals(
            read_history(bought([*rows, ("o3", "tea", 3), ("o3", "jam", 1)]), AS_OF),
            named(tea="Green tea", jam="Jam"),
            2,
        )

    def reason(self, signals: Signals, source: str, customer: str, product: str) -> str:
        numbers = [
            int(np.flatnonzero(ids == one)[0])
            for ids, one in ((signals.history.customers, customer), (signals.history.products, product))
        ]
        return signals.reason(source, *numbers)

    def test_bought_before(self, signals) -> None:
        reason = self.reason(signals, "bought_before", "a", "tea")
        assert reason == "bought 3 times, usually every 20 days, last 21 days ago"
        assert self.reason(signals, "bought_before", "a", "jam") == "bought once, 21 days ago"
        assert self.reason(signals, "bought_before", "b", "cup") == "bought once, 1 day ago"

    def test_bought_next(self, signals) -> None:
        # tea was followed by tea and jam of a, by cups of three others and by the jam of a fourth: on six days
        reason = self.reason(signals, "bought_next", "a", "cup")
        assert reason == "bought on 3 of 6 next shopping days after Green tea"

    def test_similar_text(self, signals) -> None:
        assert self.reason(signals, "similar_text", "o0", "jam") == "its name is like that of Green tea, bought before"
