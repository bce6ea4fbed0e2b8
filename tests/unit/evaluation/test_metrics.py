import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from inference.evaluation.metrics import (
    auroc_interval,
    best_f1_threshold,
    evaluate,
    expected_calibration_error,
    log_losses,
    top_decile_lift,
)

CHURNED = np.array([1, 1, 0, 0])
SCORE = np.array([0.8, 0.4, 0.6, 0.2])


@st.composite
def scored_customers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of both kinds and probabilities with two decimals, so that ties occur."""
    outcomes = draw(st.lists(st.integers(0, 1), min_size=4, max_size=40))
    assume(2 <= sum(outcomes) <= len(outcomes) - 2)
    percents = draw(st.lists(st.integers(0, 100), min_size=len(outcomes), max_size=len(outcomes)))
    return np.array(outcomes), np.array(percents) / 100


class TestAuroc:
    def test_is_the_share_of_pairs_in_the_right_order(self) -> None:
        # of the pairs churner - stayer only 0.4 - 0.6 stands the wrong way round
        assert auroc_interval(CHURNED, SCORE)[0] == pytest.approx(3 / 4)

    def test_a_tie_counts_half(self) -> None:
        assert auroc_interval(np.array([1, 1, 0, 0]), np.array([0.5, 0.9, 0.5, 0.1]))[0] == pytest.approx(3.5 / 4)

    def test_interval_of_four_customers_by_hand(self) -> None:
        # each churner is above 1 and 1/2 of the stayers, each stayer below 1/2 and 1 of the churners:
        # variance (1/8) / 2 + (1/8) / 2 = 1/8
        _, low, high = auroc_interval(CHURNED, SCORE)
        assert low == pytest.approx(0.75 - 1.959964 * np.sqrt(1 / 8), abs=1e-6)
        assert high == 1

    def test_interval_agrees_with_a_bootstrap(self) -> None:
        rng = np.random.default_rng(0)
        churned = (np.arange(400) % 4 == 0).astype(int)
        score = np.round(rng.normal(churned, 1.0), 1)
        positive, negative = score[churned == 1], score[churned == 0]

        def area(positive: np.ndarray, negative: np.ndarray) -> float:
            above = positive[:, None] - negative[None, :]
            return float((above > 0).mean() + (above == 0).mean() / 2)

        areas = [area(rng.choice(positive, 100), rng.choice(negative, 300)) for _ in range(1000)]
        middle, low, high = auroc_interval(churned, score)
        assert middle == pytest.approx(area(positive, negative))
        assert (high - low) / 2 == pytest.approx(1.96 * np.std(areas), rel=0.1)

    def test_a_perfect_order_has_an_interval_of_no_width(self) -> None:
        assert auroc_interval(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == (1, 1, 1)

    def test_of_one_churner_the_area_is_known_and_the_interval_is_not(self) -> None:
        area, low, high = auroc_interval(np.array([1, 0, 0]), np.array([0.5, 0.4, 0.6]))
        assert area == 0.5
        assert np.isnan([low, high]).all()

    @given(scored_customers())
    def test_only_the_order_of_scores_matters(self, customers: tuple) -> None:
        churned, score = customers
        np.testing.assert_allclose(auroc_interval(churned, np.exp(3 * score)), auroc_interval(churned, score))

    @given(scored_customers())
    def test_the_interval_lies_around_the_area_and_within_zero_and_one(self, customers: tuple) -> None:
        area, low, high = auroc_interval(*customers)
        assert 0 <= low <= area <= high <= 1


class TestLogLosses:
    @given(scored_customers())
    def test_are_those_of_scikit_learn_row_by_row(self, customers: tuple) -> None:
        churned, probability = customers
        expected = [log_loss([y], [p], labels=[0, 1]) for y, p in zip(churned, probability, strict=True) if 0 < p < 1]
        inside = (probability > 0) & (probability < 1)
        np.testing.assert_allclose(log_losses(churned, probability)[inside], expected, atol=1e-12)

    def test_certainty_that_is_wrong_has_a_finite_loss(self) -> None:
        np.testing.assert_allclose(log_losses([1, 0], [0.0, 1.0]), -np.log(np.finfo(float).eps), rtol=0.01)


class TestCalibrationError:
    def test_by_hand(self) -> None:
        # two customers at 0.1, one churned: 0.4 apart; two at 0.9, both churned: 0.1 apart
        ece = expected_calibration_error(np.array([0, 1, 1, 1]), np.array([0.1, 0.1, 0.9, 0.9]))
        assert ece == pytest.approx(0.25)

    def test_is_zero_where_every_bin_is_right_on_average(self) -> None:
        churned = np.array([0, 0, 0, 1, 1, 1, 1, 0])
        probability = np.array([0.25, 0.25, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75])
        assert expected_calibration_error(churned, probability) == 0

    def test_errors_of_different_bins_do_not_cancel(self) -> None:
        assert expected_calibration_error(np.array([0, 1]), np.array([0.95, 0.05])) == pytest.approx(0.95)

    def test_certainty_belongs_to_the_last_bin(self) -> None:
        assert expected_calibration_error(np.array([1, 0]), np.array([1.0, 0.0])) == 0


class TestLift:
    def test_top_tenth_against_all(self) -> None:
        # 4 of 20 churned, among them both of the riskiest two
        churned = np.zeros(20, dtype=int)
        churned[[3, 7, 11, 15]] = 1
        probability = np.linspace(0.1, 0.29, 20)
        probability[[3, 7]] = [0.8, 0.9]
        assert top_decile_lift(churned, probability) == pytest.approx(1 / 0.2)

    def test_half_of_the_top_tenth_right(self) -> None:
        churned = np.zeros(20, dtype=int)
        churned[[0, 2, 4, 6]] = 1
        assert top_decile_lift(churned, np.linspace(1, 0, 20)) == pytest.approx(0.5 / 0.2)

    def test_of_few_customers_the_top_is_one(self) -> None:
        assert top_decile_lift(np.array([0, 1, 0, 0]), np.array([0.1, 0.9, 0.2, 0.3])) == pytest.approx(4)


class TestThreshold:
    def test_highest_f1_by_hand(self) -> None:
        # from 0.35 on: 2 of 3 predicted churners churned, none missed, F1 0.8; from 0.8 on: F1 2/3; from 0.1 on: F1 2/3
        assert best_f1_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.35

    @given(scored_customers())
    def test_no_other_threshold_is_better(self, customers: tuple) -> None:
        churned, probability = customers

        def f1(threshold: float) -> float:
            predicted = probability >= threshold
            return 2 * (churned & predicted).sum() / (churned.sum() + predicted.sum())

        best = f1(best_f1_threshold(churned, probability))
        assert best >= max(f1(threshold) for threshold in probability) - 1e-12


class TestEvaluate:
    figures = evaluate(CHURNED, SCORE, threshold=0.6)

    def test_counts_and_levels(self) -> None:
        assert self.figures.n_customers == 4
        assert self.figures.churn_rate == 0.5
        assert evaluate(CHURNED, SCORE + 0.1, 0.5).mean_probability == pytest.approx(0.6)
        assert evaluate(CHURNED, SCORE + 0.1, 0.5).level_error == pytest.approx(0.1)

    def test_losses_by_hand(self) -> None:
        assert self.figures.log_loss == pytest.approx(-np.log([0.8, 0.4, 0.4, 0.8]).mean())
        assert self.figures.brier == pytest.approx((0.04 + 0.36 + 0.36 + 0.04) / 4)

    def test_a_customer_at_the_threshold_is_classified_as_churner(self) -> None:
        # classified as churners are 0.8, who churned, and 0.6, who stayed
        assert self.figures.threshold == 0.6
        assert self.figures.recall == 0.5
        assert self.figures.f1 == pytest.approx(0.5)

    def test_with_nobody_above_the_threshold_recall_and_f1_are_zero(self) -> None:
        figures = evaluate(CHURNED, SCORE, threshold=0.99)
        assert (figures.recall, figures.f1) == (0, 0)

    def test_ranking_by_hand(self) -> None:
        # precision 1 at the first churner, 2/3 at the second
        assert self.figures.auroc == pytest.approx(0.75)
        assert self.figures.pr_auc == pytest.approx((1 + 2 / 3) / 2)
        assert self.figures.top_decile_lift == pytest.approx(2)

    def test_figures_are_plain_numbers_by_name(self) -> None:
        figures = json.loads(json.dumps(vars(self.figures)))
        assert figures["n_customers"] == 4
        assert figures["churn_rate"] == 0.5

    def test_takes_lists_and_booleans(self) -> None:
        assert evaluate([True, True, False, False], list(SCORE), 0.6) == self.figures
