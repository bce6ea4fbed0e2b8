from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inference.scoring.reasons import THEMES, count, reasons, theme_of
from inference.training.rows import LABEL_COLUMNS

#: One customer of whom everything is known, as the feature tables would have it.
CUSTOMER = {
    "days_since_last_order": 41,
    "days_since_first_order": 400,
    "months_since_first_order": 13,
    "gap_mean_days": 12.3,
    "gap_std_days": 4.0,
    "orders_30d": 0,
    "orders_90d": 5,
    "orders_trend_30d": 0.25,  # (0 + 1) / (3 + 1)
    "spend_90d": 1234.5,
    "average_order_amount": 61.725,
    "orders_same_window_last_year": 2,
    "distinct_products_90d": 17,
    "items_per_order": 3.4,
    "discount_share": 0.125,
    "coupon_order_share_90d": 0.4,
    "returned_order_share": 0.1,
    "cancelled_order_share": 0.0,
    "weekend_order_share": 0.25,
    "night_order_share": 0.0,
    "morning_order_share": 0.1,
    "afternoon_order_share": 0.3,
    "evening_order_share": 0.6,
    "days_since_last_visit": 3,
    "visit_days_30d": 4,
    "visit_trend_30d": 0.5,  # (4 + 1) / (9 + 1)
    "cart_add_events_30d": 6,
    "abandoned_carts_30d": 2,
    "reviews_total": 3,
    "days_since_last_review": 20,
    "rating_last": 2.0,
    "tickets_90d": 2,
    "open_tickets": 1,
    "contacts_90d": 4,
    "redemption_rate": 0.25,
    "loyalty_points": 1200.0,
}

FEATURE_FILES = sorted((Path(__file__).resolve().parents[3] / "models" / "features").glob("*.yml"))
COLUMNS = [
    column["name"]
    for path in FEATURE_FILES
    for model in yaml.safe_load(path.read_text())["models"]
    for column in model["columns"]
    if column["name"] not in LABEL_COLUMNS
]


def describe(customer: dict, feature: str) -> list[str]:
    """Reasons of a customer whose score was moved by one feature alone."""
    features = pd.DataFrame([customer])
    contributions = pd.DataFrame([{name: float(name == feature) for name in customer}])
    return reasons(features, contributions)[0]


@pytest.mark.parametrize(
    ("feature", "changes", "sentence"),
    [
        (
            "attribute_tier=gold",
            {"attribute_tier=gold": 1.0, "attribute_tier=basic": 0.0, "attribute_home_town_size": 3000.0},
            "tier gold, home town size 3,000",
        ),
        ("overdue_ratio", {"overdue_ratio": 3.3}, "last order 41 days ago; usually every 12"),
        (
            "no_order_probability",
            {"no_order_probability": 0.9, "gap_mean_days": 1.0, "gap_std_days": 0.0, "days_since_last_order": 1},
            "last order 1 day ago; usually every day",
        ),
        (
            "days_since_last_order",
            {"gap_std_days": None, "gap_mean_days": 1.0},
            "last order 41 days ago; the pause before it was 1 day",
        ),
        (
            "days_since_last_order",
            {"gap_std_days": None, "gap_mean_days": None},
            "last order 41 days ago; only one day with an order so far",
        ),
        ("orders_trend_30d", {}, "0 orders in the last 30 days, 3 in the 30 before"),
        ("spend_trend_90d", {"spend_trend_90d": 0.1}, "0 orders in the last 30 days, 3 in the 30 before"),
        ("orders_same_window_last_year", {}, "2 orders in the same weeks last year"),
        (
            "spend_same_window_last_year",
            {"spend_same_window_last_year": 9.0, "orders_same_window_last_year": 1},
            "1 order in the same weeks last year",
        ),
        ("orders_90d", {}, "5 orders in the last 90 days, 0 in the last 30"),
        ("orders_90d", {"orders_90d": 1}, "1 order in the last 90 days, 0 in the last 30"),
        ("spend_90d", {}, "spent 1,234.50 in the last 90 days; 61.73 per order so far"),
        ("spend_90d", {"average_order_amount": None}, "spent 1,234.50 in the last 90 days"),
        ("days_since_first_order", {}, "first order 13 months ago"),
        ("days_since_first_order", {"days_since_first_order": 45}, "first order 45 days ago"),
        ("distinct_products_90d", {}, "17 different products in the last 90 days; 3 items per order so far"),
        (
            "distinct_products_90d",
            {"distinct_products_90d": 1, "items_per_order": None},
            "1 different product in the last 90 days",
        ),
        ("discount_share", {}, "12% discount, coupons on 40% of recent orders"),
        ("discount_share", {"coupon_order_share_90d": None}, "12% discount"),
        ("coupon_order_share_90d", {"discount_share": None}, "coupons on 40% of recent orders"),
        ("returned_order_share", {}, "10% of orders returned, 0% cancelled"),
        ("evening_order_share", {}, "25% of orders at the weekend, 60% in the evening"),
        ("days_since_last_visit", {}, "last visit 3 days ago; 4 days with a visit in the last 30, 9 in the 30 before"),
        ("visit_days_30d", {"days_since_last_visit": None, "visit_days_30d": 0}, "no visit on record"),
        ("abandoned_carts_30d", {}, "6 items put in the cart in the last 30 days, 2 carts left behind"),
        (
            "cart_add_events_30d",
            {"cart_add_events_30d": 1, "abandoned_carts_30d": 1},
            "1 item put in the cart in the last 30 days, 1 cart left behind",
        ),
        ("rating_last", {}, "last review 20 days ago, 2 stars"),
        ("reviews_total", {"rating_last": None}, "last review 20 days ago"),
        (
            "reviews_total",
            {"reviews_total": 0, "rating_last": None, "days_since_last_review": None},
            "never wrote a review",
        ),
        ("open_tickets", {}, "2 support tickets in the last 90 days, 1 still open"),
        ("tickets_90d", {"open_tickets": 0}, "2 support tickets in the last 90 days"),
        ("tickets_90d", {"open_tickets": 0, "tickets_90d": 0}, "no support ticket in the last 90 days"),
        ("open_tickets", {"tickets_90d": 0}, "0 support tickets in the last 90 days, 1 still open"),
        ("contacts_90d", {}, "4 campaign contacts in the last 90 days; redeemed 25% of all"),
        ("contacts_90d", {"contacts_90d": 1, "redemption_rate": None}, "1 campaign contact in the last 90 days"),
        ("loyalty_points", {}, "loyalty points: 1,200"),
    ],
)
def test_sentences_are_in_the_customers_own_numbers(feature: str, changes: dict, sentence: str) -> None:
    assert describe(CUSTOMER | changes, feature) == [sentence]


@pytest.mark.parametrize(
    ("feature", "unknown"),
    [
        ("spend_same_window_last_year", ["orders_same_window_last_year"]),
        ("items_90d", ["distinct_products_90d"]),
        ("discount_share", ["discount_share", "coupon_order_share_90d"]),
        (
            "weekend_order_share",
            ["night_order_share", "morning_order_share", "afternoon_order_share", "evening_order_share"],
        ),
        ("view_events_30d", ["visit_days_30d"]),
        ("cart_add_events_7d", ["abandoned_carts_30d"]),
        ("rating_mean", ["reviews_total"]),
        ("hours_to_close_mean", ["tickets_90d"]),
        ("contacts_30d", ["contacts_90d"]),
        ("loyalty_points", ["loyalty_points"]),
    ],
)
def test_features_that_a_shop_does_not_record_have_no_sentence(feature: str, unknown: list[str]) -> None:
    assert describe(CUSTOMER | {feature: 1.0} | dict.fromkeys(unknown), feature) == []


@pytest.mark.parametrize("column", COLUMNS)
def test_every_feature_belongs_to_a_theme(column: str) -> None:
    assert theme_of(column) in THEMES


@pytest.mark.parametrize(
    ("feature", "theme"),
    [
        ("days_since_last_order", "rhythm"),
        ("days_since_last_visit", "visits"),
        ("days_since_last_review", "reviews"),
        ("days_since_last_ticket", "support"),
        ("days_since_last_contact", "campaigns"),
        ("orders_trend_90d", "trend"),
        ("orders_same_window_last_year", "season"),
        ("orders_per_cart_add_90d", "carts"),
        ("orders_per_view_90d", "visits"),
        ("orders_365d", "frequency"),
        ("coupon_order_share_90d", "discounts"),
        ("cancelled_order_share", "returns"),
        ("morning_order_share", "timing"),
    ],
)
def test_a_feature_goes_to_the_theme_that_it_is_about(feature: str, theme: str) -> None:
    assert theme_of(feature).name == theme


def test_counts_know_their_plural() -> None:
    assert [count(n, "order") for n in (0, 1, 2, 1200)] == ["0 orders", "1 order", "2 orders", "1,200 orders"]


class TestRanking:
    #: Rhythm, spend, tenure and support.
    features = pd.DataFrame(
        [CUSTOMER],
        columns=["days_since_last_order", "spend_90d", "days_since_first_order", "tickets_90d", "open_tickets"],
    )

    def themes(self, *contributions: float, n_reasons: int = 3) -> list[str]:
        moved = pd.DataFrame([contributions], columns=self.features.columns)
        themes = [sentence.split()[0] for sentence in reasons(self.features, moved, n_reasons=n_reasons)[0]]
        names = {"last": "rhythm", "spent": "spend", "first": "tenure", "2": "support"}
        return [names[theme] for theme in themes]

    def test_strongest_reason_comes_first(self) -> None:
        assert self.themes(0.2, 0.9, 0.5, 0.0, 0.0) == ["spend", "tenure", "rhythm"]

    def test_a_raised_score_is_explained_by_what_raises_it(self) -> None:
        assert self.themes(0.2, -0.3, 0.5, 0.0, 0.0) == ["tenure", "rhythm"]

    def test_a_lowered_score_is_explained_by_what_lowers_it(self) -> None:
        assert self.themes(0.2, -0.3, -0.5, 0.0, 0.0) == ["tenure", "spend"]

    def test_features_of_one_theme_share_the_credit(self) -> None:
        assert self.themes(0.5, 0.0, 0.0, 0.3, 0.3) == ["support", "rhythm"]

    def test_features_of_one_theme_can_cancel(self) -> None:
        assert self.themes(0.5, 0.0, 0.0, 0.9, -0.9) == ["rhythm"]

    def test_as_many_as_asked_for_at_most(self) -> None:
        assert self.themes(0.4, 0.3, 0.2, 0.1, 0.0) == ["rhythm", "spend", "tenure"]
        assert self.themes(0.4, 0.3, 0.2, 0.1, 0.0, n_reasons=1) == ["rhythm"]

    def test_a_theme_without_a_sentence_makes_room_for_the_next(self) -> None:
        features = pd.DataFrame([{"tickets_90d": None, "spend_90d": 10.0}])
        assert reasons(features, pd.DataFrame([[0.9, 0.1]], columns=features.columns)) == [
            ["spent 10.00 in the last 90 days"]
        ]

    def test_every_customer_has_their_own_reasons(self) -> None:
        features = pd.DataFrame({"spend_90d": [10.0, 20.0], "contacts_90d": [1.0, 2.0]}, index=[7, 3])
        result = reasons(features, pd.DataFrame([[0.5, 0.1], [-0.1, -0.5]], columns=features.columns))
        assert result == [
            ["spent 10.00 in the last 90 days", "1 campaign contact in the last 90 days"],
            ["2 campaign contacts in the last 90 days", "spent 20.00 in the last 90 days"],
        ]

    @pytest.mark.parametrize(
        ("words", "sign", "place"),
        [
            pytest.param(0.05, 1, 2, id="the weakest reason of one at risk takes the last place"),
            pytest.param(0.9, 1, 0, id="the strongest reason has the first place"),
            pytest.param(0.05, -1, None, id="a weak reason of one who stays has none"),
            pytest.param(-0.05, 1, None, id="words against the score are not quoted"),
        ],
    )
    def test_what_a_customer_at_risk_wrote_has_a_place(self, words: float, sign: int, place: int | None) -> None:
        moved = pd.DataFrame([[0.4, 0.3, 0.2, 0.1, 0.0, words]], columns=[*self.features.columns, "words_logit"])
        asked = []

        def quote(positions, directions) -> list[str | None]:
            asked.extend(positions)
            return ["review of 3 May: “late”"] * len(positions)

        result = reasons(self.features, sign * moved, quote)[0]
        assert len(result) == 3
        assert bool(asked) == (place is not None)
        assert [i for i, sentence in enumerate(result) if "late" in sentence] == ([] if place is None else [place])

    def test_no_customers(self) -> None:
        assert reasons(self.features[:0], self.features[:0]) == []


def all_sentences(customer: dict[str, float | None]) -> list[str]:
    """The sentence of every theme about a customer."""
    features = pd.DataFrame([customer], columns=COLUMNS, dtype=float)
    return reasons(features, pd.DataFrame([dict.fromkeys(COLUMNS, 1.0)]), n_reasons=99)[0]


def test_a_shop_with_orders_alone_has_sentences_about_orders_alone() -> None:
    sentences = all_sentences(
        {name: value for name, value in CUSTOMER.items() if "order" in name or "gap" in name or "spend" in name}
    )
    assert "last order 41 days ago; usually every 12" in sentences
    assert not [s for s in sentences if "nan" in s or "visit" in s or "review" in s or "ticket" in s or "contact" in s]


def test_a_customer_without_known_features_has_no_sentence() -> None:
    assert all_sentences({}) == []


@pytest.mark.parametrize("column", COLUMNS)
def test_one_unknown_feature_spoils_no_sentence(column: str) -> None:
    sentences = all_sentences(dict.fromkeys(COLUMNS, 1.0) | {column: None})
    assert not [sentence for sentence in sentences if "nan" in sentence]


@given(st.dictionaries(st.sampled_from(COLUMNS), st.integers(1, 500)))
def test_no_pattern_of_unknown_features_raises(customer: dict[str, float]) -> None:
    assert not [sentence for sentence in all_sentences(customer) if "nan" in sentence]


@given(st.dictionaries(st.sampled_from(COLUMNS), st.integers(1, 500), min_size=1))
def test_a_model_may_read_any_selection_of_features(customer: dict[str, float]) -> None:
    result = reasons(pd.DataFrame([customer]), pd.DataFrame([dict.fromkeys(customer, 1.0)]), n_reasons=99)
    assert len(result) == 1
