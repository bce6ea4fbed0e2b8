"""Product recommendations: signals rank products, and are fused by their recent hit rates."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_array

from inference.recommendations.signals import SIGNALS, ProductNames, Signals, days_before, read_history

#: Maximum products per customer.
MAX_PRODUCTS = 5
#: Products that each signal ranks.
CANDIDATES = 50
#: k of reciprocal rank fusion, which is the prior of the hit rates.
RANK_OFFSET = 60
#: Weight of the prior, in products shown at a rank.
PRIOR_WEIGHT = 100
#: First ranks of the segments that share a hit rate, as few products are shown at each rank.
SEGMENTS = (0, 1, 2, 3, 5, 10, 20)
#: Days before the as-of date whose purchases hit rates are learned from, and maximum number of customers.
LEARN_DAYS, LEARN_CUSTOMERS = 28, 500
#: Maximum customers times products that are scored together, which bounds memory.
MAX_CELLS = 2_000_000

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of_date", pa.date32()),
        ("rank", pa.int32()),
        ("product_id", pa.string()),
        ("product_name", pa.string()),
        ("score", pa.float64()),
        ("source", pa.string()),
        ("reason", pa.string()),
    ]
)


def recommend(
    purchases: pa.Table,
    products: pd.DataFrame,
    customers: pd.DataFrame,
    after_days: int,
) -> pa.Table:
    """Recommend up to five products to each customer.

    A product's score is the sum over the signals of the hit rate of its rank, as of ``learn_hit_rates`` (probFuse,
    Lillis et al. 2006).

    Parameters
    ----------
    purchases : pyarrow.Table
        Of all customers, with ``customer_id``, ``product_id``, ``bought_on`` and ``is_returned``.
    products : DataFrame
        ``product_id`` and ``product_name``.
    customers : DataFrame
        ``customer_id`` and ``as_of_date``, the same for all.
    after_days : int
        Days after a purchase for which the product is not recommended again.

    Returns
    -------
    pyarrow.Table
        Rows of ``SCHEMA``; none for a customer without purchases.
    """
    ids = np.sort(customers.customer_id.unique())
    if not len(ids):
        return SCHEMA.empty_table()
    as_of_date = np.datetime64(customers.as_of_date.iloc[0], "D")
    history = read_history(purchases, as_of_date)
    if not len(history.age):
        return SCHEMA.empty_table()
    numbers = pd.Index(history.customers).get_indexer(ids)
    names = ProductNames(products)
    hit_rates = learn_hit_rates(purchases, names, as_of_date, after_days)
    signals = Signals(history, names, after_days)
    parts = [_rows(signals, block, hit_rates) for block in blocks(signals, numbers[numbers >= 0])]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SCHEMA.names)
    rates = ", ".join(f"{name} {rate:.1%}" for name, rate in zip(SIGNALS, hit_rates[:, 0], strict=True))
    logger.info(
        "recommendation_candidates: %s products for %s customers; hit rates of the first rank: %s",
        f"{len(rows):,}",
        f"{len(ids):,}",
        rates,
    )
    return pa.Table.from_pandas(rows.assign(as_of_date=as_of_date), SCHEMA, preserve_index=False)


def learn_hit_rates(purchases: pa.Table, names: ProductNames, as_of_date: np.datetime64, after_days: int) -> np.ndarray:
    """Share of the products at each rank that were bought on the next shopping day, by rankings of four weeks before.

    It is shrunk towards 1 / (60 + rank), reciprocal rank fusion (Cormack, Clarke and Büttcher 2009). The arguments are
    those of ``recommend``; purchases on or after the as-of date are not used.

    Returns
    -------
    ndarray of shape (n_signals, CANDIDATES)
        Hit rates by signal and rank, from 0 to 1.
    """
    cut = as_of_date - np.timedelta64(LEARN_DAYS, "D")
    segment = np.searchsorted(SEGMENTS, np.arange(CANDIDATES), side="right") - 1
    prior = 1 / (RANK_OFFSET + 1 + np.arange(CANDIDATES))
    shown = np.zeros((len(SIGNALS), len(SEGMENTS)))
    bought = np.zeros_like(shown)
    history = read_history(purchases, cut)
    if not len(history.age):
        return np.tile(prior, (len(SIGNALS), 1))
    signals = Signals(history, names, after_days)
    outcome = next_bought(signals, purchases, as_of_date)
    buyers = np.flatnonzero(np.diff(outcome.indptr))
    buyers = np.sort(np.random.default_rng(0).permutation(buyers)[:LEARN_CUSTOMERS])
    for block in blocks(signals, buyers):
        was_bought = outcome[block].toarray() > 0
        for number, score in enumerate(signals.scores(block)):
            best, is_ranked = ranked(score, CANDIDATES)
            hits = np.take_along_axis(was_bought, best, axis=1) & is_ranked
            at = segment[: best.shape[1]]
            shown[number] += np.bincount(at, is_ranked.sum(axis=0), minlength=len(SEGMENTS))
            bought[number] += np.bincount(at, hits.sum(axis=0), minlength=len(SEGMENTS))
    return (bought[:, segment] + PRIOR_WEIGHT * prior) / (shown[:, segment] + PRIOR_WEIGHT)


def next_bought(signals: Signals, purchases: pa.Table, as_of_date: np.datetime64) -> csr_array:
    """Purchases of each customer on their first shopping day after the history, shape (n_customers, n_products)."""
    age = days_before(purchases, as_of_date)
    is_recent = (age > 0) & (age <= LEARN_DAYS) & ~purchases["is_returned"].to_numpy().astype(bool)
    recent = purchases.filter(pa.array(is_recent)).to_pandas().assign(age=age[is_recent])
    first = recent[recent.age == recent.groupby("customer_id").age.transform("max")]
    history = signals.history
    customer = pd.Index(history.customers).get_indexer(first.customer_id)
    product = pd.Index(history.products).get_indexer(first.product_id)
    known = (customer >= 0) & (product >= 0)
    return csr_array((np.ones(known.sum()), (customer[known], product[known])), shape=history.shape)


def blocks(signals: Signals, customers: np.ndarray) -> list[np.ndarray]:
    """Split customers into parts whose scores fit into memory."""
    size = max(1, MAX_CELLS // signals.history.shape[1])
    return [customers[start : start + size] for start in range(0, len(customers), size)]


def ranked(score: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Best ``n`` products of each customer, the more popular first among equals, and whether their scores are above 0.

    ``score`` has shape (n_customers, n_products), with products in order of popularity; both results have shape
    (n_customers, n) and the first holds positions.
    """
    n = min(n, score.shape[1])
    ordered = score - np.linspace(0, 1e-7, score.shape[1])
    best = np.argpartition(-ordered, n - 1, axis=1)[:, :n]
    order = np.argsort(-np.take_along_axis(ordered, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    return best, np.take_along_axis(score, best, axis=1) > 0


def _rows(signals: Signals, block: np.ndarray, hit_rates: np.ndarray) -> pd.DataFrame:
    """Recommendations of some customers."""
    parts = []
    for score, rates in zip(signals.scores(block), hit_rates, strict=True):
        best, is_ranked = ranked(score, CANDIDATES)
        part = np.zeros_like(score)
        np.put_along_axis(part, best, np.where(is_ranked, rates[: best.shape[1]], 0), axis=1)
        parts.append(part)
    chosen, is_ranked = ranked(np.sum(parts, axis=0), MAX_PRODUCTS)
    row, position = np.nonzero(is_ranked)
    customer, product = block[row], chosen[row, position]
    by_signal = np.stack([part[row, product] for part in parts])
    # a product that the customer bought is similar to itself, which counts as bought before
    is_own = signals.times[block].toarray()[row, product] > 0
    strength = by_signal + np.outer([1, 0, -1], np.where(is_own, by_signal[2], 0))
    source = np.array(SIGNALS, dtype=object)[strength.argmax(axis=0)]
    ids = signals.history.products[product]
    return pd.DataFrame(
        {
            "customer_id": signals.history.customers[customer],
            "rank": position + 1,
            "product_id": ids,
            "product_name": [signals.names.by_product.get(product_id) for product_id in ids],
            "score": by_signal.sum(axis=0),
            "source": source,
            "reason": [signals.reason(*values) for values in zip(source, customer, product, strict=True)],
        }
    )
