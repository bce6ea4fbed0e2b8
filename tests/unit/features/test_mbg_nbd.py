import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, gammaln

from inference.features.mbg_nbd import MBGNBD

TRUTH = MBGNBD(r=1.2, alpha=20.0, a=0.8, b=3.0)
DAYS = 30

positive = st.floats(0.1, 10)
models = st.builds(MBGNBD, r=positive, alpha=st.floats(1, 100), a=positive, b=positive)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, float, float]:
    """Repeats, day of the last order, age."""
    age = draw(st.floats(1, 1000))
    repeats = draw(st.integers(0, 50))
    return repeats, draw(st.floats(0, age)) if repeats else 0.0, age


def simulate(model: MBGNBD, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Histories drawn from the model, and the number of orders in the ``DAYS`` after now."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(model.r, 1 / model.alpha, n)
    leaving = rng.beta(model.a, model.b, n)
    ages = rng.uniform(30, 400, n)
    repeats, last, future = np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        day = 0.0
        while rng.random() >= leaving[i]:
            day += rng.exponential(1 / rates[i])
            if day > ages[i] + DAYS:
                break
            if day > ages[i]:
                future[i] += 1
            else:
                repeats[i] += 1
                last[i] = day
    return repeats, last, ages, future


@pytest.fixture(scope="module")
def customers() -> tuple[np.ndarray, ...]:
    return simulate(TRUTH, 10_000, seed=7)


def likelihood(model: MBGNBD, x: float, t_x: float, T: float) -> float:
    return float(np.exp(model.log_likelihood(np.array([x]), np.array([t_x]), np.array([T]))[0]))


@pytest.fixture(scope="module")
def fitted(customers: tuple[np.ndarray, ...]) -> MBGNBD:
    return MBGNBD.fit(*customers[:3])


class TestFit:
    def test_recovers_the_distribution_of_order_rates(self, fitted: MBGNBD) -> None:
        assert fitted.r == pytest.approx(TRUTH.r, rel=0.12)
        assert fitted.alpha == pytest.approx(TRUTH.alpha, rel=0.12)

    def test_recovers_the_distribution_of_the_probability_of_leaving(self, fitted: MBGNBD) -> None:
        assert fitted.a / (fitted.a + fitted.b) == pytest.approx(0.8 / 3.8, abs=0.02)
        assert fitted.a == pytest.approx(TRUTH.a, rel=0.3)
        assert fitted.b == pytest.approx(TRUTH.b, rel=0.3)

    def test_the_history_is_as_likely_as_under_the_truth(
        self, fitted: MBGNBD, customers: tuple[np.ndarray, ...]
    ) -> None:
        best = fitted.log_likelihood(*customers[:3]).sum()
        assert best >= TRUTH.log_likelihood(*customers[:3]).sum() - 0.5  # the prior may cost this much

    def test_forecasts_the_future_that_then_happens(self, fitted: MBGNBD, customers: tuple[np.ndarray, ...]) -> None:
        silent = customers[3] == 0
        predicted = fitted.no_order_probability(*customers[:3], DAYS)
        assert predicted.mean() == pytest.approx(silent.mean(), abs=0.015)

    def test_does_not_depend_on_the_order_of_customers(self, customers: tuple[np.ndarray, ...]) -> None:
        x, t_x, T = (column[:500] for column in customers[:3])
        assert MBGNBD.fit(x, t_x, T) == MBGNBD.fit(x[::-1], t_x[::-1], T[::-1])

    @pytest.mark.parametrize(("n_often", "n_never"), [(900, 100), (100, 900)])
    def test_counts_a_history_as_often_as_it_occurs(self, n_often: int, n_never: int) -> None:
        # nine repeats within 90 days, or none: so many of a thousand never came back
        model = MBGNBD.fit(*np.array([[9, 80, 90]] * n_often + [[0, 0, 90]] * n_never).T)
        assert likelihood(model, 0, 0, 90) == pytest.approx(n_never / 1000, abs=0.05)

    def test_stays_finite_on_twenty_customers(self, customers: tuple[np.ndarray, ...]) -> None:
        few = [column[:20] for column in customers[:3]]
        model = MBGNBD.fit(*few)
        assert np.all(np.isfinite([model.r, model.alpha, model.a, model.b]))
        p = model.no_order_probability(*few, DAYS)
        assert np.all((p >= 0) & (p <= 1))

    @pytest.mark.parametrize(
        ("repeats", "last", "age"),
        [
            pytest.param([0], [0], [10], id="one customer"),
            pytest.param([0] * 20, [0] * 20, [60] * 20, id="nobody came back"),
            pytest.param([30] * 20, [30] * 20, [30] * 20, id="everybody comes every day"),
            pytest.param([0] * 20, [0] * 20, [0] * 20, id="everybody is new today"),
        ],
    )
    def test_stays_finite_where_everybody_is_alike(self, repeats: list[int], last: list[int], age: list[int]) -> None:
        model = MBGNBD.fit(np.array(repeats), np.array(last), np.array(age))
        parameters = np.array([model.r, model.alpha, model.a, model.b])
        assert np.all(np.isfinite(parameters))
        assert np.all(parameters > 0)

    def test_refuses_no_customers(self) -> None:
        with pytest.raises(ValueError, match="no customer to fit on; expected at least one"):
            MBGNBD.fit(np.array([]), np.array([]), np.array([]))

    @pytest.mark.parametrize(
        ("repeats", "last", "age"),
        [
            pytest.param(1, 11, 10, id="last order after now"),
            pytest.param(1, -1, 10, id="last order before the first"),
            pytest.param(-1, 5, 10, id="fewer than no repeats"),
            pytest.param(np.nan, 5, 10, id="unknown repeats"),
            pytest.param(1, 5, np.nan, id="unknown age"),
        ],
    )
    def test_refuses_an_impossible_history(self, repeats: float, last: float, age: float) -> None:
        with pytest.raises(ValueError, match="expected repeats >= 0 and 0 <= last <= age"):
            MBGNBD.fit(np.array([0, repeats]), np.array([0, last]), np.array([5, age]))


class TestByHand:
    """r = a = b = 1, alpha = 10: rates are exponential with mean 1/10, every probability of leaving equally likely."""

    model = MBGNBD(r=1, alpha=10, a=1, b=1)
    new = (np.array([0]), np.array([0]), np.array([10]))

    def test_one_order_ten_days_ago_is_gone_by_half_or_silent_by_half_of_the_rest(self) -> None:
        # gone at once: 1/2; alive: 1/2 x (10 / 20)
        assert likelihood(self.model, 0, 0, 10) == pytest.approx(0.75)

    def test_second_order_today(self) -> None:
        # (E p(1-p) + E (1-p)^2) x E rate exp(-10 rate) = (1/6 + 1/3) x 10/400
        assert likelihood(self.model, 1, 10, 10) == pytest.approx(0.0125)

    def test_one_order_ten_days_ago_leaves_one_in_three_alive(self) -> None:
        assert expit(self.model.alive_logit(*self.new)) == pytest.approx([1 / 3])

    def test_no_order_is_gone_or_alive_and_silent(self) -> None:
        # 2/3 + 1/3 x 20/40
        assert self.model.no_order_probability(*self.new, 20) == pytest.approx([5 / 6])

    def test_expected_orders_are_those_of_the_living(self) -> None:
        # 1/3 alive x 1/20 a day x 20 days
        assert self.model.expected_orders(*self.new, 20) == pytest.approx([1 / 3])

    def test_after_an_order_today_a_customer_can_only_have_left_after_it(self) -> None:
        # the second order was no leaving (1-p)^1, so p has mean 1/3
        alive = expit(self.model.alive_logit(np.array([1]), np.array([10]), np.array([10])))
        assert alive == pytest.approx([2 / 3])


def test_probabilities_of_all_possible_histories_sum_to_one() -> None:
    model, age = MBGNBD(r=0.8, alpha=15, a=0.7, b=2.5), 30.0

    def density(t_x: float, x: int) -> float:
        # the x - 1 orders between the first and the last lie anywhere, in order
        between = np.exp((x - 1) * np.log(t_x) - gammaln(x))
        return likelihood(model, x, t_x, age) * between

    total = likelihood(model, 0, 0, age) + sum(quad(density, 0, age, args=(x,))[0] for x in range(1, 60))
    assert total == pytest.approx(1, abs=1e-4)


def test_every_decile_of_the_forecast_comes_true(customers: tuple[np.ndarray, ...]) -> None:
    silent = customers[3] == 0
    predicted = TRUTH.no_order_probability(*customers[:3], DAYS)
    for decile in np.array_split(np.argsort(predicted), 10):
        # 1,000 customers: four standard errors are at most 0.063
        assert predicted[decile].mean() == pytest.approx(silent[decile].mean(), abs=0.063)


def test_expected_orders_come_true_where_nobody_leaves() -> None:
    loyal = MBGNBD(r=2.0, alpha=20.0, a=1e-6, b=1.0)
    *history, future = simulate(loyal, 4000, seed=3)
    assert loyal.expected_orders(*history, DAYS).mean() == pytest.approx(future.mean(), rel=0.05)


def test_expected_orders_are_an_upper_bound_where_customers_leave(customers: tuple[np.ndarray, ...]) -> None:
    assert TRUTH.expected_orders(*customers[:3], DAYS).mean() > customers[3].mean()


@given(models, histories(), st.floats(0, 400))
def test_no_order_is_a_probability(model: MBGNBD, history: tuple, days: float) -> None:
    assert 0 <= model.no_order_probability(*history, days) <= 1


@given(models, histories(), st.floats(0, 400), st.floats(0, 400))
def test_a_longer_horizon_makes_silence_less_likely(model: MBGNBD, history: tuple, days: float, more: float) -> None:
    longer = model.no_order_probability(*history, days + more)
    assert longer <= model.no_order_probability(*history, days) + 1e-12


@given(models, histories(), st.floats(0, 400))
def test_every_silent_day_makes_further_silence_more_likely(model: MBGNBD, history: tuple, more: float) -> None:
    x, t_x, T = history
    assert model.no_order_probability(x, t_x, T, DAYS) <= model.no_order_probability(x, t_x, T + more, DAYS) + 1e-12


@given(models, histories(), st.floats(0.01, 100))
def test_the_unit_of_time_does_not_matter(model: MBGNBD, history: tuple, scale: float) -> None:
    x, t_x, T = history
    scaled = MBGNBD(model.r, model.alpha * scale, model.a, model.b)
    assert scaled.no_order_probability(x, t_x * scale, T * scale, DAYS * scale) == pytest.approx(
        model.no_order_probability(x, t_x, T, DAYS)
    )
