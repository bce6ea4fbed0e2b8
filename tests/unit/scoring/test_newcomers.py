import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from inference.scoring.newcomers import (
    BINS,
    GROUP,
    JEFFREYS,
    SCHEMA,
    concentration,
    group_rates,
    score_newcomers,
    sibling_prior,
)

#: Days since start, days since last visit and days with a visit: of a fresh newcomer and of a fading one.
FRESH, FADING = (3, 2, 1), (40, 35, 0)


def newcomers(*rows: tuple) -> pd.DataFrame:
    """Rows of int_newcomers from (customer, kind, numbers, churned); the outcome is null at the newest date."""
    columns = ["customer_id", "kind", "numbers", "churned", "as_of_date"]
    padded = [row if len(row) == 5 else (*row, "2024-05-01" if row[3] is None else "2024-03-04") for row in rows]
    table = pd.DataFrame(padded, columns=columns)
    numbers = pd.DataFrame(table.numbers.tolist(), columns=list(BINS), dtype=float, index=table.index)
    return pd.DataFrame(
        {
            "customer_id": table.customer_id.astype(object),
            "as_of_date": pd.to_datetime(table.as_of_date),
            "is_newest": table.churned.isna(),
            "kind": table.kind.astype(object),
            **numbers,
            "churned": table.churned.astype(float),
        }
    )


def seen(n: int, churned: int, kind: str = "one_order", numbers: tuple = FRESH) -> list[tuple]:
    """So many newcomers of a group, so many of whom churned."""
    name = f"{kind} {numbers}"
    return [(f"{name} {i}", kind, numbers, int(i < churned)) for i in range(n)]


def score_one(*groups: list[tuple], kind: str = "one_order", numbers: tuple = FRESH) -> pd.Series:
    """Score one new customer after what was seen."""
    rows = [row for group in groups for row in group]
    return score_newcomers(newcomers(*rows, ("new", kind, numbers, None)), 30).to_pandas().iloc[0]


def width(answer: pd.Series) -> float:
    return answer.probability_high - answer.probability_low


class TestScoreNewcomers:
    def test_without_newcomers_the_table_is_empty_and_typed(self) -> None:
        assert score_newcomers(newcomers(), 30).schema == SCHEMA
        only_earlier = score_newcomers(newcomers(*seen(5, 2)), 30)
        assert (only_earlier.num_rows, only_earlier.schema) == (0, SCHEMA)

    def test_only_the_newest_snapshot_is_scored_ordered_by_customer(self) -> None:
        rows = [*seen(5, 2), ("b", "one_order", FRESH, None), ("a", "sign_up_only", FADING, None)]
        scored = score_newcomers(newcomers(*rows), 45).to_pandas()
        assert scored.customer_id.tolist() == ["a", "b"]
        assert scored.kind.tolist() == ["sign_up_only", "one_order"]
        assert set(scored.horizon_days) == {45}
        assert set(scored.as_of_date.astype(str)) == {"2024-05-01"}
        assert set(scored.feature_snapshot_at) == {pd.Timestamp("2024-05-01")}

    def test_with_many_outcomes_the_answer_is_their_rate(self) -> None:
        answer = score_one(seen(2000, 1400))
        assert answer.churn_probability == pytest.approx(0.7, abs=0.002)
        low, high = beta.ppf([0.025, 0.975], 1400, 600)
        assert (answer.probability_low, answer.probability_high) == pytest.approx((low, high), abs=0.002)
        assert (answer.similar_newcomers, answer.similar_churned) == (2000, 1400)

    def test_the_interval_shrinks_with_more_outcomes(self) -> None:
        widths = [width(score_one(seen(n, n // 2), seen(100, 50, numbers=FADING))) for n in (0, 4, 40, 400, 4000)]
        assert widths == sorted(widths, reverse=True)
        assert widths[0] > 5 * widths[-1]

    def test_a_group_without_outcomes_gets_the_rate_of_its_kind(self) -> None:
        others = [seen(200, 160, numbers=numbers) for numbers in (FADING, (10, 2, 1), (20, 9, 4), (20, 2, 4))]
        lonely = score_one(*others, seen(200, 20, "sign_up_only"))
        assert lonely.similar_newcomers == 0
        assert lonely.churn_probability == pytest.approx(0.8, abs=0.03)
        assert width(lonely) > 2 * width(score_one(*others, numbers=FADING))

    def test_its_interval_is_wider_where_the_groups_of_its_kind_differ(self) -> None:
        places = [(3, 2, 4), (10, 2, 1), (20, 9, 4), (20, 2, 4)]
        alike = [seen(200, 100, numbers=numbers) for numbers in places]
        different = [seen(200, k, numbers=numbers) for k, numbers in zip((5, 70, 130, 195), places, strict=True)]
        assert width(score_one(*different)) > 2 * width(score_one(*alike))

    def test_a_small_group_is_shrunk_to_its_kind_and_a_large_one_is_not(self) -> None:
        others = [seen(200, 160, numbers=numbers) for numbers in (FADING, (10, 2, 1), (20, 9, 4), (20, 2, 4))]
        few, many = score_one(*others, seen(4, 1)), score_one(*others, seen(400, 100))
        assert 0.5 < few.churn_probability < 0.8
        assert many.churn_probability == pytest.approx(0.25, abs=0.02)

    @pytest.mark.parametrize("elsewhere", [[], seen(1000, 1), seen(1000, 900)])
    def test_a_kind_without_outcomes_gets_a_wide_interval(self, elsewhere: list[tuple]) -> None:
        answer = score_one(elsewhere, kind="sign_up_only")
        assert answer.similar_newcomers == 0
        assert width(answer) > 0.7
        assert answer.reason.endswith("; no similar newcomer's outcome is known yet")

    def test_without_any_outcome_the_interval_lies_between_jeffreys_and_uniform(self) -> None:
        answer = score_one()
        assert answer.churn_probability == pytest.approx(0.5)
        assert beta.ppf(0.025, 0.5, 0.5) <= answer.probability_low <= 0.025
        assert answer.probability_high == pytest.approx(1 - answer.probability_low)

    def test_a_customer_of_several_snapshots_is_one_observation(self) -> None:
        old = (60, 20, 1)
        days = ("2024-01-08", "2024-02-05", "2024-03-04")
        once = [(f"c{i}", "one_order", old, i % 2, days[0]) for i in range(60)]
        thrice = [(f"c{i}", "one_order", old, i % 2, day) for i in range(60) for day in days]
        columns = ["churn_probability", "probability_low", "probability_high", "similar_newcomers", "similar_churned"]
        pd.testing.assert_series_equal(score_one(once, numbers=old)[columns], score_one(thrice, numbers=old)[columns])

    def test_the_rate_is_of_all_rows_whichever_customers_stay_newcomers_longer(self) -> None:
        old = (60, 20, 1)
        # half of those at risk order each time: 32, then 16, 8, 4
        rows, days = [], ("2024-01-08", "2024-02-05", "2024-03-04", "2024-04-01")
        for turn, day in enumerate(days):
            left = 32 >> turn
            rows += [(f"c{i}", "one_order", old, int(i < left // 2), day) for i in range(left)]
        answer = score_one(rows, numbers=old)
        assert (answer.similar_newcomers, answer.similar_churned) == (32, 16)
        assert answer.churn_probability == pytest.approx(0.5, abs=1e-9)

    @pytest.mark.parametrize(
        ("kind", "numbers", "history"),
        [
            ("one_order", (12, 12, 1), "one order 12 days ago, no visit since"),
            ("one_order", (12, 30, 1), "one order 12 days ago, no visit since"),
            ("one_order", (12, 1, 3), "one order 12 days ago, last visit 1 day ago"),
            ("one_order", (1, None, 0), "one order 1 day ago, no visit seen"),
            ("one_order", (12, None, None), "one order 12 days ago"),
            ("sign_up_only", (40, 3, 9), "first seen 40 days ago, no order yet, last visit 3 days ago"),
            ("sign_up_only", (40, None, None), "first seen 40 days ago, no order yet"),
        ],
    )
    def test_the_reason_holds_the_newcomers_numbers_and_those_of_similar_ones(
        self, kind: str, numbers: tuple, history: str
    ) -> None:
        answer = score_one(seen(1240, 870, kind, numbers), kind=kind, numbers=numbers)
        assert answer.reason == f"{history}; of 1,240 similar newcomers 870 did not order within 30 days"

    def test_one_similar_newcomer_is_in_the_singular(self) -> None:
        assert score_one(seen(1, 0)).reason.endswith("; of 1 similar newcomer 0 did not order within 30 days")

    def test_the_order_of_rows_does_not_matter(self) -> None:
        table = newcomers(*seen(30, 9), *seen(20, 15, numbers=FADING), ("x", "one_order", FADING, None))
        first, second = (score_newcomers(t, 30).to_pandas() for t in (table, table[::-1]))
        pd.testing.assert_frame_equal(first.drop(columns="scored_at"), second.drop(columns="scored_at"))


@pytest.mark.parametrize(
    ("column", "inside", "outside"),
    [("days_since_start", 7, 8), ("days_since_last_visit", 30, 31), ("visit_days_30d", 2, 3)],
)
def test_an_edge_belongs_to_the_bin_below_it(column: str, inside: int, outside: int) -> None:
    rows = newcomers(*seen(2, 1))
    rows[column] = [inside, outside]
    assert len(group_rates(rows)) == 2
    rows[column] = [inside, inside]
    assert len(group_rates(rows)) == 1


counts = st.tuples(st.integers(0, 60), st.floats(0, 1)).map(lambda t: (t[0], round(t[0] * t[1])))
places = [(3, 2, 1), (10, 2, 1), (20, 9, 4), (40, 35, 0)]


def rate(churned: float, n: float) -> float:
    """Posterior mean with Jeffreys' prior."""
    return (churned + JEFFREYS) / (n + 2 * JEFFREYS)


@settings(max_examples=20)
@given(st.lists(counts, min_size=8, max_size=8))
def test_answers_lie_in_their_intervals_and_among_the_rates_seen(table: list[tuple[int, int]]) -> None:
    families = {"one_order": table[:4], "sign_up_only": table[4:]}
    rows = [
        row
        for kind, family in families.items()
        for place, (n, churned) in zip(places, family, strict=True)
        for row in [*seen(n, churned, kind, place), (f"new {kind} {place}", kind, place, None)]
    ]
    rates = group_rates(newcomers(*rows))
    p, low, high = rates.churn_probability, rates.probability_low, rates.probability_high
    assert ((low >= 0) & (low <= p) & (p <= high) & (high <= 1)).all()
    among = [rate(churned, n) for n, churned in table]
    assert p.between(min([0.5, *among]) - 1e-9, max([0.5, *among]) + 1e-9).all()


@given(st.lists(counts, min_size=2, max_size=4), counts)
def test_a_pooled_rate_lies_between_the_members_own_and_that_of_its_parent(table: list[tuple], prior: tuple) -> None:
    members = pd.DataFrame([(c, n - c) for n, c in table], columns=["churned", "stayed"], dtype=float)
    parent_prior = pd.Series({"churned": prior[1], "stayed": prior[0] - prior[1]}, dtype=float)
    borrowed = sibling_prior(members, members.to_numpy().sum(), parent_prior)
    for i, (n, churned) in enumerate(table):
        siblings = members.drop(index=i).sum() + parent_prior
        parent = rate(siblings.churned, siblings.sum())
        own = rate(churned, n)
        assert borrowed.churned[i] / borrowed.loc[i].sum() == pytest.approx(parent)
        assert 0 < borrowed.loc[i].sum() <= siblings.sum() + 1
        pooled = rate(churned + borrowed.churned[i], n + borrowed.loc[i].sum())
        assert min(own, parent) - 1e-9 <= pooled <= max(own, parent) + 1e-9


def test_a_customer_of_several_members_counts_once() -> None:
    members = pd.DataFrame({"churned": [30.0, 30.0], "stayed": [30.0, 30.0]})
    no_prior = pd.Series({"churned": 0.0, "stayed": 0.0})
    twice, once = (sibling_prior(members, customers, no_prior).to_numpy() for customers in (120, 60))
    # worth 61 and 31 observations: 60 or half of them, and Jeffreys' one
    s = concentration(members)
    assert twice[0].sum() == pytest.approx(s * 61 / (s + 62))
    assert once[0].sum() == pytest.approx(s * 31 / (s + 32))


class TestConcentration:
    @staticmethod
    def of(*members: tuple[float, float]) -> float:
        return concentration(pd.DataFrame(members, columns=["churned", "stayed"], dtype=float))

    def test_is_one_without_observations(self) -> None:
        assert self.of((0, 0)) == pytest.approx(1)
        assert self.of((0, 0), (0, 0)) == pytest.approx(1)

    def test_is_high_for_equal_rates_and_low_for_different_ones(self) -> None:
        assert self.of(*[(300, 700)] * 20) > 300
        assert self.of((100, 0), (0, 100)) < 1

    def test_a_member_without_observations_changes_nothing(self) -> None:
        assert self.of((3, 9), (5, 5), (0, 0)) == pytest.approx(self.of((3, 9), (5, 5)))

    @pytest.mark.parametrize("s", [0.5, 4, 40])
    def test_recovers_the_concentration_that_counts_were_drawn_with(self, s: float) -> None:
        rng = np.random.default_rng(0)
        rates = rng.beta(0.3 * s, 0.7 * s, 400)
        churned = rng.binomial(200, rates)
        assert self.of(*zip(churned, 200 - churned, strict=True)) == pytest.approx(s, rel=0.15)


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = total = 0
    for _ in range(40):
        rates = rng.beta(3, 5, len(places))
        sizes = rng.integers(0, 40, len(places))
        rows = [
            row
            for place, rate, n in zip(places, rates, sizes, strict=True)
            for row in [*seen(n, rng.binomial(n, rate), numbers=place), (f"new {place}", "one_order", place, None)]
        ]
        known = group_rates(newcomers(*rows)).reset_index()
        truth = dict(zip(places, rates, strict=True))
        order = sorted(
            places, key=lambda place: [np.searchsorted(e, v) for e, v in zip(BINS.values(), place, strict=True)]
        )
        true = np.array([truth[place] for place in order])
        assert list(known.columns[: len(GROUP)]) == GROUP
        held += ((known.probability_low <= true) & (true <= known.probability_high)).sum()
        total += len(true)
    assert 0.9 <= held / total <= 0.99
