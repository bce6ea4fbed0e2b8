"""MBG/NBD, a buy-till-you-die model: how often customers order and when they stop, from three numbers each.

While a customer is alive, orders follow a Poisson process whose rate varies between customers by a gamma
distribution (shape ``r``, rate ``alpha``, per day). After every order, including the first, the customer leaves for
good with a probability that varies by a beta distribution (``a``, ``b``).

Papers: Batislam, Denizel and Filiztekin (2007), "Empirical validation and comparison of models for customer base
analysis"; Hoppe and Wagner (2007), "Customer base analysis: the case for a central variant of the Betageometric/NBD
model"; both after Fader, Hardie and Lee (2005), "Counting your customers the easy way".
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln

#: Mean and standard deviation of the normal prior on the logarithms of r, alpha (in mean gaps), a and b. It keeps
#: the optimum finite with a few dozen customers and has no effect with thousands.
PRIOR_CENTRE = np.log([1.0, 1.0, 0.5, 2.0])
PRIOR_WIDTH = 1.5


@dataclass(frozen=True)
class MBGNBD:
    """Parameters of a fitted model; the rate ``alpha`` is in days."""

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> "MBGNBD":
        """Fit by maximum a posteriori over customers.

        Parameters
        ----------
        repeats : ndarray of shape (n_customers,)
            Days with an order after the first order.
        last : ndarray of shape (n_customers,)
            Days from the first order to the last.
        age : ndarray of shape (n_customers,)
            Days from the first order to now.

        Raises
        ------
        ValueError
            If there is no customer, or a last order lies outside 0 to ``age``.
        """
        histories = np.column_stack([repeats, last, age]).astype(np.float64)
        if len(histories) == 0:
            raise ValueError("MBG/NBD: no customer to fit on; expected at least one")
        # many customers share a history: evaluate each distinct one once, weighted by its count
        distinct, counts = np.unique(histories, axis=0, return_counts=True)
        (x, t_x, T), n = distinct.T, counts.astype(np.float64)
        if not (np.all(x >= 0) and np.all((t_x >= 0) & (t_x <= T))):
            raise ValueError("MBG/NBD: expected repeats >= 0 and 0 <= last <= age for every customer")
        gap = max(t_x @ n, T @ n / 10, 1.0) / max(x @ n, 1.0)
        centre = PRIOR_CENTRE + np.array([0.0, np.log(gap), 0.0, 0.0])

        def loss(theta: np.ndarray) -> float:
            log_likelihood = n @ cls(*np.exp(theta)).log_likelihood(x, t_x, T)
            # divided by the number of customers, so that the optimiser's tolerances mean the same for any of them
            return (0.5 * np.sum(((theta - centre) / PRIOR_WIDTH) ** 2) - log_likelihood) / n.sum()

        best = minimize(
            loss,
            centre,
            method="L-BFGS-B",
            bounds=[(c - 12, c + 12) for c in centre],
            options={"ftol": 1e-12, "gtol": 1e-8},
        )
        return cls(*(float(v) for v in np.exp(best.x)))

    def log_likelihood(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Log-likelihood of each customer's history (Batislam et al. 2007, equation 4)."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        alive = betaln(a, b + x + 1) - (r + x) * np.log(alpha + T)
        gone = betaln(a + 1, b + x) - (r + x) * np.log(alpha + t_x)
        return gammaln(r + x) - gammaln(r) + r * np.log(alpha) - betaln(a, b) + np.logaddexp(alive, gone)

    def alive_logit(self, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Log-odds that each customer is still a customer (Hoppe and Wagner 2007, equation 12)."""
        x, t_x, T = (np.asarray(v, dtype=np.float64) for v in (repeats, last, age))
        return np.log(self.b + x) - np.log(self.a) - (self.r + x) * np.log((self.alpha + T) / (self.alpha + t_x))

    def no_order_probability(self, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, days: float) -> np.ndarray:
        """Probability that no order comes in the next ``days`` days: has left, or is alive but does not order.

        The rate of a customer who is alive has a gamma(r + x, alpha + T) posterior, so the probability of no order
        in ``days`` is ((alpha + T) / (alpha + T + days)) ** (r + x).
        """
        x, T = np.asarray(repeats, dtype=np.float64), np.asarray(age, dtype=np.float64)
        alive = expit(self.alive_logit(repeats, last, age))
        silent = ((self.alpha + T) / (self.alpha + T + days)) ** (self.r + x)
        return 1 - alive * (1 - silent)

    def expected_orders(self, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, days: float) -> np.ndarray:
        """Expected days with an order in the next ``days`` days, ignoring that the customer may leave meanwhile."""
        x, T = np.asarray(repeats, dtype=np.float64), np.asarray(age, dtype=np.float64)
        return expit(self.alive_logit(repeats, last, age)) * (self.r + x) / (self.alpha + T) * days
