import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.evaluation.qini import qini_coefficient, qini_curve

# by predicted uplift: a treated one stays and an untreated one leaves, then likewise, then the other way round twice
UPLIFT = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1])
TREATED = np.array([1, 0, 1, 0, 1, 0, 1, 0])
CHURNED = np.array([0, 1, 0, 1, 1, 0, 1, 0])


@st.composite
def experiments(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted uplift in hundredths, so that ties occur, who was treated and who churned."""
    n = draw(st.integers(4, 40))
    treated = np.array(
        draw(st.permutations([1, 0, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]))
    )
    churned = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    percents = draw(st.lists(st.integers(-100, 100), min_size=n, max_size=n))
    return np.array(percents) / 100, treated, churned


def make_trial(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True effects from -0.2 to 0.6, who was treated, who churned, and the propensities."""
    rng = np.random.default_rng(seed)
    effect = rng.uniform(-0.2, 0.6, n)
    propensity = rng.uniform(0.2, 0.8, n)
    treated = (rng.random(n) < propensity).astype(int)
    churned = (rng.random(n) < 0.7 - effect * treated).astype(int)
    return effect, treated, churned, propensity


class TestQini:
    def test_curve_by_hand(self) -> None:
        share, kept = qini_curve(UPLIFT, TREATED, CHURNED)
        # the first, alone, has nobody to be compared with; after it an untreated one joins, then a treated one, ...
        np.testing.assert_allclose(share, np.array([0, 2, 3, 4, 5, 6, 7, 8]) / 8)
        # of four treated 1, 2, 2, 2, 2, 2, 2 stayed; from the sixth on untreated ones stay, 1 of 3 and at last 2 of 4
        expected = [0, 1, 2, 2, 2, 2 - 1 * 3 / 3, 2 - 1 * 4 / 3, 2 - 2 * 4 / 4]
        np.testing.assert_allclose(kept, np.array(expected) / 4)

    def test_coefficient_is_the_area_above_the_straight_line(self) -> None:
        # trapezes over the points of the curve above; the straight line ends at zero
        expected = (0 + 1) / 2 * 2 + (1 + 2) / 2 + 2 + 2 + (2 + 1) / 2 + (1 + 2 / 3) / 2 + (2 / 3 + 0) / 2
        assert qini_coefficient(UPLIFT, TREATED, CHURNED) == pytest.approx(expected / 4 / 8)

    def test_the_curve_ends_at_the_average_effect(self) -> None:
        effect, treated, churned, _ = make_trial(500)
        stayed = 1 - churned
        difference = stayed[treated == 1].mean() - stayed[treated == 0].mean()
        assert qini_curve(effect, treated, churned)[1][-1] == pytest.approx(difference)

    def test_equal_predictions_draw_the_straight_line(self) -> None:
        share, kept = qini_curve(np.zeros(8), TREATED, np.array([0, 1, 0, 1, 0, 1, 1, 0]))
        assert share.tolist() == [0, 1]
        assert kept.tolist() == pytest.approx([0, 0.5])
        assert qini_coefficient(np.zeros(8), TREATED, CHURNED) == 0


class TestPropensity:
    def test_the_same_for_all_changes_nothing(self) -> None:
        effect, treated, churned, _ = make_trial(200)
        same = qini_coefficient(effect, treated, churned, np.full(200, 0.85))
        assert same == pytest.approx(qini_coefficient(effect, treated, churned))

    def test_rarely_treated_customers_weigh_more(self) -> None:
        # of the loyal one of four was treated, of those who leave three of four, and it changed nothing
        treated = np.array([1, 0, 0, 0, 1, 1, 1, 0])
        churned = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        propensity = np.array([0.25] * 4 + [0.75] * 4)
        assert qini_curve(np.zeros(8), treated, churned)[1][-1] == pytest.approx(1 / 4 - 3 / 4)
        assert qini_curve(np.zeros(8), treated, churned, propensity)[1][-1] == pytest.approx(0)

    def test_corrects_for_targeting(self) -> None:
        effect, _, _, _ = make_trial(200_000)
        rng = np.random.default_rng(5)
        risk = rng.random(len(effect))  # the risky were contacted more often
        propensity = 0.2 + 0.6 * risk
        treated = (rng.random(len(effect)) < propensity).astype(int)
        churned = (rng.random(len(effect)) < np.clip(0.2 + 0.5 * risk - effect * treated, 0, 1)).astype(int)
        raw, weighted = (qini_curve(effect, treated, churned, p)[1][-1] for p in (None, propensity))
        truth = np.mean(np.clip(0.2 + 0.5 * risk, 0, 1) - np.clip(0.2 + 0.5 * risk - effect, 0, 1))
        assert weighted == pytest.approx(truth, abs=0.01)
        assert raw < truth - 0.05


class TestRanking:
    def test_the_truth_beats_a_random_order_and_that_beats_the_reverse(self) -> None:
        effect, treated, churned, propensity = make_trial(20_000)
        shuffled = np.random.default_rng(1).permutation(effect)
        figures = [qini_coefficient(order, treated, churned, propensity) for order in (effect, shuffled, -effect)]
        assert figures[0] > figures[1] + 0.02 > figures[2] + 0.04

    def test_a_random_order_is_worth_about_nothing(self) -> None:
        effect, treated, churned, propensity = make_trial(20_000)
        for seed in range(5):
            shuffled = np.random.default_rng(seed).permutation(effect)
            assert qini_coefficient(shuffled, treated, churned, propensity) == pytest.approx(0, abs=0.01)

    @given(experiments())
    def test_only_the_order_matters(self, trial: tuple) -> None:
        uplift, treated, churned = trial
        again = qini_coefficient(np.exp(3 * uplift) - 7, treated, churned)
        assert again == pytest.approx(qini_coefficient(uplift, treated, churned))

    @given(experiments(), st.randoms())
    def test_the_order_of_rows_does_not_matter(self, trial: tuple, random) -> None:
        order = random.sample(range(len(trial[0])), len(trial[0]))
        assert qini_coefficient(*(column[order] for column in trial)) == pytest.approx(qini_coefficient(*trial))

    @given(experiments())
    def test_swapping_treatment_or_outcome_mirrors_the_effect(self, trial: tuple) -> None:
        uplift, treated, churned = trial
        end = qini_curve(uplift, treated, churned)[1][-1]
        assert qini_curve(uplift, 1 - treated, churned)[1][-1] == pytest.approx(-end)
        assert qini_curve(uplift, treated, 1 - churned)[1][-1] == pytest.approx(-end)


class TestRefusals:
    def test_nobody_to_compare_with(self) -> None:
        with pytest.raises(ValueError, match="8 of 8 customers were treated; expected some who were and some who were"):
            qini_curve(UPLIFT, np.ones(8), CHURNED)

    def test_a_contact_that_was_certain(self) -> None:
        with pytest.raises(ValueError, match=r"propensities lie from 0.5 to 1.0; expected them above 0 and below 1"):
            qini_curve(UPLIFT, TREATED, CHURNED, np.array([0.5] * 7 + [1.0]))
