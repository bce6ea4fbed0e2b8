import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from purchases import AS_OF, bought, nameless

from inference.recommendations import recommend as module
from inference.recommendations.recommend import CANDIDATES, SCHEMA, learn_hit_rates, recommend
from inference.text.encoder.encoder import Encoder

NO_NAMES = pd.DataFrame({"product_id": [], "product_name": pd.Series([], dtype=object)})


def targets(*customers: str) -> pd.DataFrame:
    return pd.DataFrame({"customer_id": list(customers), "as_of_date": pd.Timestamp(AS_OF)})


def recommended(purchases, *customers: str, after_days: int = 14) -> pd.DataFrame:
    return recommend(purchases, NO_NAMES, targets(*customers), after_days).to_pandas()


def make_shop(next_product: str) -> list[tuple]:
    """Twenty customers who bought tea twice, then cups, and in the last four weeks what is asked for."""
    rows = []
    for i in range(20):
        rows += [(f"c{i}", "tea", 90), (f"c{i}", "tea", 70), (f"c{i}", "cup", 50), (f"c{i}", next_product, 5)]
    return [*rows, ("quiet", "tea", 80), ("quiet", "tea", 60), ("stock", "tea", 80), ("stock", "jam", 80)]


class TestHitRates:
    def test_without_purchases_they_are_reciprocal_ranks(self) -> None:
        rates = learn_hit_rates(bought([("a", "tea", 10)]), nameless(), AS_OF, 14)
        np.testing.assert_allclose(rates, np.tile(1 / (60 + np.arange(1, CANDIDATES + 1)), (3, 1)))

    def test_by_hand(self) -> None:
        # twenty had bought tea and cups 28 days ago; tea, which they buy oftenest, stood first and was bought by all
        rates = learn_hit_rates(bought(make_shop("tea")), nameless(), AS_OF, 14)
        assert rates[0, 0] == pytest.approx((20 + 100 / 61) / (20 + 100))
        # cups, the second of their own products, were bought by nobody
        assert rates[0, 1] == pytest.approx((0 + 100 / 62) / (20 + 100))
        # nothing has a name
        assert rates[2, 0] == pytest.approx(1 / 61)

    def test_only_the_first_shopping_day_counts(self) -> None:
        later = [(f"c{i}", "cup", 2) for i in range(20)]
        for measured in (make_shop("tea"), make_shop("tea") + later):
            rates = learn_hit_rates(bought(measured), nameless(), AS_OF, 14)
            assert rates[0, 1] == pytest.approx((0 + 100 / 62) / (20 + 100))

    def test_purchases_on_or_after_the_as_of_date_are_not_used(self) -> None:
        known = learn_hit_rates(bought(make_shop("tea")), nameless(), AS_OF, 14)
        future = [(f"c{i}", "cup", -day) for i in range(20) for day in (0, 3)]
        again = learn_hit_rates(bought(make_shop("tea") + future), nameless(), AS_OF, 14)
        np.testing.assert_array_equal(again, known)


class TestRecommend:
    def test_where_customers_buy_the_same_again_it_is_recommended(self) -> None:
        first = recommended(bought(make_shop("tea")), "quiet").iloc[0]
        assert (first.product_id, first.source) == ("tea", "bought_before")
        assert first.reason == "bought 2 times, usually every 20 days, last 60 days ago"

    def test_where_customers_buy_something_else_next_that_is_recommended(self) -> None:
        first = recommended(bought(make_shop("cup")), "quiet").iloc[0]
        assert (first.product_id, first.source) == ("cup", "bought_next")

    def test_rows_have_the_schema_and_the_as_of_date(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Encoder, "shared", None)  # there are no names to encode
        table = recommend(bought(make_shop("tea")), NO_NAMES, targets("quiet", "c1"), 14)
        assert table.schema == SCHEMA
        table_rows = table.to_pandas()
        assert set(table_rows.as_of_date) == {AS_OF.astype(object)}
        assert table_rows.groupby("customer_id")["rank"].apply(list).to_dict() == {"c1": [1], "quiet": [1, 2]}

    @pytest.mark.parametrize(
        ("rows", "returned", "customers"),
        [([], [], ["a"]), ([], [("a", "tea", 5)], ["a"]), ([("a", "tea", 30)], [], []), ([("a", "tea", 0)], [], ["a"])],
    )
    def test_without_purchases_or_customers_the_table_is_empty(self, rows, returned, customers) -> None:
        table = recommend(bought(rows, returned), NO_NAMES, targets(*customers), 14)
        assert table.schema == SCHEMA
        assert table.num_rows == 0

    def test_a_customer_without_purchases_gets_no_row(self) -> None:
        assert set(recommended(bought(make_shop("tea")), "quiet", "nobody").customer_id) == {"quiet"}

    def test_the_popular_comes_first_among_equals(self) -> None:
        rows = [
            ("a", "tea", 60),
            ("a", "jam", 60),
            ("a", "cup", 60),
            ("b", "jam", 5),
            ("c", "jam", 5),
            ("c", "cup", 5),
            ("d", "tea", 80),
        ]
        table_rows = recommended(bought(rows), "a")
        assert table_rows.product_id.tolist() == ["jam", "cup", "tea"]

    def test_similarity_of_a_product_to_itself_is_not_the_reason(self) -> None:
        # all are teas: the plain one, bought once, stands third of their own and nearest to the mean of them
        named = {"black": "black tea of Assam", "white": "white tea of Fujian", "plain": "tea", "mint": "mint tea"}
        rows = [
            ("a", product, 20 + day) for product, n in (("black", 3), ("white", 2), ("plain", 1)) for day in range(n)
        ]
        products = pd.DataFrame({"product_id": list(named), "product_name": list(named.values())})
        table_rows = recommend(bought([*rows, ("b", "mint", 30)]), products, targets("a"), 14).to_pandas()
        table_rows = table_rows.set_index("product_id")
        assert table_rows.loc["plain", "score"] > 1 / 63 + 1 / 63
        assert table_rows.source.to_dict() == dict.fromkeys(("black", "white", "plain"), "bought_before") | {
            "mint": "similar_text"
        }
        assert table_rows.loc["mint", "reason"] == "its name is like that of tea, bought before"

    def test_blocks_give_the_same_rows(self, monkeypatch) -> None:
        rng = np.random.default_rng(0)
        rows = {(f"c{rng.integers(30)}", f"p{rng.integers(12)}", int(rng.integers(1, 150))) for _ in range(900)}
        customers = [f"c{i}" for i in range(30)]
        whole = recommended(bought(sorted(rows)), *customers)
        monkeypatch.setattr(module, "MAX_CELLS", 36)
        pd.testing.assert_frame_equal(recommended(bought(sorted(rows)), *customers), whole)
        assert len(whole) > 100

    @settings(max_examples=30)
    @given(
        st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("pqrstuvw"), st.integers(-20, 120)), max_size=60),
        st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("pqrstuvw"), st.integers(-20, 120)), max_size=5),
        st.integers(0, 40),
        st.randoms(),
    )
    def test_any_shop(self, rows, returned, after_days, rng) -> None:
        table_rows = recommended(bought(sorted(rows), sorted(returned)), *"abcd", after_days=after_days)
        for customer, part in table_rows.groupby("customer_id"):
            assert part["rank"].tolist() == list(range(1, len(part) + 1))
            assert len(part) <= 5
            assert part.product_id.is_unique
            assert part.score.is_monotonic_decreasing
            assert (part.score > 0).all()
            lately = {p for c, p, day in rows if c == customer and 0 < day <= after_days}
            back = {p for c, p, day in returned if c == customer and day > 0}
            assert not set(part.product_id) & (lately | back)
            assert part.reason.str.len().gt(0).all()
        # neither the order of rows nor the future changes anything
        known = [row for row in rows if row[2] > 0]
        shuffled = rng.sample(known, len(known))
        again = recommended(bought(shuffled, [r for r in returned if r[2] > 0]), *"dcba", after_days=after_days)
        pd.testing.assert_frame_equal(again, table_rows)
