"""Which products to offer whom: signals that count by how often the shop's customers followed them lately."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_array

from inference.recommendations.signals import SIGNALS, Names, Signals, days_before, read_history
from inference.text.encoder.encoder import Encoder

#: Products per customer.
MOST = 5
#: Products that a signal puts forward.
CANDIDATES = 50
#: k of reciprocal rank fusion, the chance that is supposed where nothing was seen.
RANK_OFFSET = 60
#: That supposition counts like so many products that were seen at a rank.
SUPPOSED = 100
#: Ranks that are taken together begin here, as few products are seen at each.
SEGMENTS = (0, 1, 2, 3, 5, 10, 20)
#: Chances are learned from what was bought next in so many days before the as-of date, by at most so many customers.
LEARN_DAYS, LEARN_CUSTOMERS = 28, 500
#: Customers times products that are looked at together, which bounds memory.
CELLS = 2_000_000

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
    load_encoder: Callable[[], Encoder] = Encoder.shared,
) -> pa.Table:
    """Choose up to five products for each customer.

    Each signal ranks products; a product's score is the sum over the signals of the chance that what stood at its rank
    was bought on the next shopping day, as ``learn_chances`` saw it (probFuse, Lillis et al. 2006).

    Parameters
    ----------
    purchases : pyarrow.Table
        Of all customers: ``customer_id``, ``product_id``, ``bought_on`` and ``is_returned``.
    products : DataFrame
        ``product_id`` and ``product_name``.
    customers : DataFrame
        ``customer_id`` and ``as_of_date``, the same for all.
    after_days : int
        Days for which a product is not offered again.
    load_encoder : callable
        Loads the encoder of product names.

    Returns
    -------
    pyarrow.Table
        Rows of ``SCHEMA``; none for a customer of whom no purchase is known.
    """
    wanted = np.sort(customers.customer_id.unique())
    if not len(wanted):
        return SCHEMA.empty_table()
    as_of_date = np.datetime64(customers.as_of_date.iloc[0], "D")
    history = read_history(purchases, as_of_date)
    if not len(history.age):
        return SCHEMA.empty_table()
    numbers = pd.Index(history.customers).get_indexer(wanted)
    names = Names(products, load_encoder)
    chances = learn_chances(purchases, names, as_of_date, after_days)
    signals = Signals(history, names, after_days)
    parts = [_rows(signals, block, chances) for block in blocks(signals, numbers[numbers >= 0])]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SCHEMA.names)
    print(f"recommendation_candidates: {len(rows):,} products for {len(wanted):,} customers; {_told(chances)}")
    return pa.Table.from_pandas(rows.assign(as_of_date=as_of_date), SCHEMA, preserve_index=False)


def learn_chances(purchases: pa.Table, names: Names, as_of_date: np.datetime64, after_days: int) -> np.ndarray:
    """How often what a signal put forward was bought next, as the signals would have ranked four weeks ago.

    Where nothing was seen it is 1 / (60 + rank), reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).

    Parameters
    ----------
    purchases : pyarrow.Table
        As in ``recommend``.
    names : Names
        Names of the products.
    as_of_date : datetime64
        Midnight, exclusive; what came later is not looked at.
    after_days : int
        As in ``recommend``.

    Returns
    -------
    ndarray of shape (n_signals, CANDIDATES)
        A share of products per signal and rank.
    """
    cut = as_of_date - np.timedelta64(LEARN_DAYS, "D")
    segment = np.searchsorted(SEGMENTS, np.arange(CANDIDATES), side="right") - 1
    supposed = 1 / (RANK_OFFSET + 1 + np.arange(CANDIDATES))
    shown = np.zeros((len(SIGNALS), len(SEGMENTS)))
    bought = np.zeros_like(shown)
    history = read_history(purchases, cut)
    if not len(history.age):
        return np.tile(supposed, (len(SIGNALS), 1))
    signals = Signals(history, names, after_days)
    outcome = next_bought(signals, purchases, as_of_date)
    seen = np.flatnonzero(np.diff(outcome.indptr))
    seen = np.sort(np.random.default_rng(0).permutation(seen)[:LEARN_CUSTOMERS])
    for block in blocks(signals, seen):
        was_bought = outcome[block].toarray() > 0
        for number, score in enumerate(signals.scores(block)):
            best, is_there = ranked(score, CANDIDATES)
            hits = np.take_along_axis(was_bought, best, axis=1) & is_there
            at = segment[: best.shape[1]]
            shown[number] += np.bincount(at, is_there.sum(axis=0), minlength=len(SEGMENTS))
            bought[number] += np.bincount(at, hits.sum(axis=0), minlength=len(SEGMENTS))
    return (bought[:, segment] + SUPPOSED * supposed) / (shown[:, segment] + SUPPOSED)


def next_bought(signals: Signals, purchases: pa.Table, as_of_date: np.datetime64) -> csr_array:
    """What customers of a history bought on their first shopping day after it, before the as-of date."""
    age = days_before(purchases, as_of_date)
    lately = (age > 0) & (age <= LEARN_DAYS) & ~purchases["is_returned"].to_numpy().astype(bool)
    then = purchases.filter(pa.array(lately)).to_pandas().assign(age=age[lately])
    then = then[then.age == then.groupby("customer_id").age.transform("max")]
    history = signals.history
    customer = pd.Index(history.customers).get_indexer(then.customer_id)
    product = pd.Index(history.products).get_indexer(then.product_id)
    known = (customer >= 0) & (product >= 0)
    return csr_array((np.ones(known.sum()), (customer[known], product[known])), shape=history.shape)


def blocks(signals: Signals, customers: np.ndarray) -> list[np.ndarray]:
    """Cut customers into parts whose scores fit into memory."""
    size = max(1, CELLS // signals.history.shape[1])
    return [customers[start : start + size] for start in range(0, len(customers), size)]


def ranked(score: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The best products of each customer, the popular first among equals, and whether their scores are above zero."""
    most = min(most, score.shape[1])
    ordered = score - np.linspace(0, 1e-7, score.shape[1])
    best = np.argpartition(-ordered, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(ordered, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    return best, np.take_along_axis(score, best, axis=1) > 0


def _rows(signals: Signals, block: np.ndarray, chances: np.ndarray) -> pd.DataFrame:
    """Recommendations of some customers."""
    parts = []
    for score, chance in zip(signals.scores(block), chances, strict=True):
        best, is_there = ranked(score, CANDIDATES)
        part = np.zeros_like(score)
        np.put_along_axis(part, best, np.where(is_there, chance[: best.shape[1]], 0), axis=1)
        parts.append(part)
    chosen, is_there = ranked(sum(parts), MOST)
    place, position = np.nonzero(is_there)
    customer, product = block[place], chosen[place, position]
    said = np.stack([part[place, product] for part in parts])
    is_own = signals.times[block].toarray()[place, product] > 0  # that it is like itself is no reason
    strength = said + np.outer([1, 0, -1], np.where(is_own, said[2], 0))
    source = np.array(SIGNALS, dtype=object)[strength.argmax(axis=0)]
    ids = signals.history.products[product]
    return pd.DataFrame(
        {
            "customer_id": signals.history.customers[customer],
            "rank": position + 1,
            "product_id": ids,
            "product_name": [signals.names.shown.get(product_id) for product_id in ids],
            "score": said.sum(axis=0),
            "source": source,
            "reason": [signals.reason(*row) for row in zip(source, customer, product, strict=True)],
        }
    )


def _told(chances: np.ndarray) -> str:
    firsts = zip(SIGNALS, chances[:, 0], strict=True)
    return "what stood first was bought next: " + ", ".join(f"{name} {chance:.1%}" for name, chance in firsts)
