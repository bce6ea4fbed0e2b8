"""What speaks for a product: that a customer bought it, what others bought next, what is alike by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_array

from inference.text.aspects import unit_rows
from inference.text.cleaning import clean_text, hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import cached_vectors

#: In the order in which ties between them are broken.
SIGNALS = ("bought_before", "bought_next", "similar_text")
#: A purchase tells half as much of a taste as one that is so many days newer.
HALF_LIFE_DAYS = 90
#: A product that nobody bought for so long is not sold any more.
SOLD_WITHIN_DAYS = 90
#: A pair of products that was seen so often counts half.
SHRINKAGE = 10
#: Of a product that more others followed, those that followed once are chance.
MOST_FOLLOWERS = 200


@dataclass(frozen=True)
class History:
    """Purchases as numbers; products are numbered by how often they were bought, so that the popular win ties.

    Parameters
    ----------
    customers, products : ndarray of str
        Ids by number.
    customer, product : ndarray of int, shape (n_purchases,)
        Who bought what.
    age : ndarray of int, shape (n_purchases,)
        Days from the purchase to the as-of date.
    returned : csr_array of shape (n_customers, n_products)
        What was sent back.
    """

    customers: np.ndarray
    products: np.ndarray
    customer: np.ndarray
    product: np.ndarray
    age: np.ndarray
    returned: csr_array

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of customers and of products."""
        return len(self.customers), len(self.products)

    def matrix(self, values: np.ndarray) -> csr_array:
        """Sum a value per purchase by customer and product."""
        summed = csr_array((values, (self.customer, self.product)), shape=self.shape)
        summed.sort_indices()
        return summed

    def ages(self) -> tuple[np.ndarray, np.ndarray]:
        """Ages of the oldest and of the newest purchase, in the order of the entries of ``matrix``."""
        order = np.lexsort([self.age, self.product, self.customer])
        changes = np.diff(self.customer[order], prepend=-1) | np.diff(self.product[order], prepend=-1)
        starts = np.flatnonzero(changes)
        ends = np.append(starts[1:], len(order)) - 1
        return self.age[order][ends], self.age[order][starts]


def read_history(purchases: pa.Table, as_of_date: np.datetime64) -> History:
    """Number customers and products.

    Parameters
    ----------
    purchases : pyarrow.Table
        ``customer_id``, ``product_id``, ``bought_on`` and ``is_returned``, one row per customer, product and day; rows
        of the as-of date or later are left out.
    as_of_date : datetime64
        Midnight, exclusive.
    """
    age = days_before(purchases, as_of_date)
    purchases, age = purchases.filter(pa.array(age > 0)), age[age > 0]
    returned = purchases["is_returned"].to_numpy().astype(bool)
    customers, customer = _numbered(purchases["customer_id"])
    products, product = _numbered(purchases["product_id"])
    by_sales = np.argsort(-np.bincount(product[~returned], minlength=len(products)), kind="stable")
    product = np.argsort(by_sales)[product]
    sent_back = (np.ones(returned.sum()), (customer[returned], product[returned]))
    return History(
        customers,
        products[by_sales],
        customer[~returned],
        product[~returned],
        age[~returned],
        csr_array(sent_back, shape=(len(customers), len(products))),
    )


def days_before(purchases: pa.Table, as_of_date: np.datetime64) -> np.ndarray:
    """Days from each purchase to the as-of date."""
    bought_on = purchases["bought_on"].to_numpy().astype("datetime64[D]")
    return (as_of_date.astype("datetime64[D]") - bought_on).astype(int)


class Signals:
    """Scores of every product for customers, by each signal; 0 where it says nothing or the product is not offered.

    Not offered are products that the customer bought in the last days or ever returned, and those not sold any more.

    Parameters
    ----------
    history : History
        What was known then.
    names : Names
        Their names, for the similarity of texts.
    after_days : int
        Days for which a product is not offered again.
    """

    def __init__(self, history: History, names: "Names", after_days: int) -> None:
        self.history, self.names = history, names
        self.times = history.matrix(np.ones(len(history.age)))
        self.taste = history.matrix(0.5 ** (history.age / HALF_LIFE_DAYS))
        self.pairs, self.days_first, days_then = followers(history)
        self.next = associations(self.pairs, self.days_first, days_then)
        self.name_of = names.numbers(history.products)
        named = np.flatnonzero(self.name_of >= 0)
        self.by_name = csr_array(
            (np.ones(len(named)), (named, self.name_of[named])), shape=(history.shape[1], len(names.vectors))
        )
        self.barred = history.returned + history.matrix((history.age <= after_days).astype(float))
        newest = np.full(history.shape[1], np.inf)
        np.minimum.at(newest, history.product, history.age)
        self.is_sold = newest <= SOLD_WITHIN_DAYS

    def scores(self, customers: np.ndarray) -> list[np.ndarray]:
        """Score all products.

        Parameters
        ----------
        customers : ndarray of int, shape (n,)
            Numbers of the customers.

        Returns
        -------
        list of ndarray of shape (n, n_products)
            In the order of ``SIGNALS``: times bought; how much oftener than by chance it was bought next after what the
            customer bought, newer purchases weighing more; cosine of its name to the mean of theirs.
        """
        taste = self.taste[customers]
        liked = (taste @ self.by_name) @ self.names.vectors
        alike = np.zeros((len(customers), self.history.shape[1]))
        named = self.name_of >= 0
        alike[:, named] = (unit_rows(liked) @ self.names.vectors.T)[:, self.name_of[named]]
        scores = (self.times[customers].toarray(), (taste @ self.next).toarray(), alike)
        return [np.where(self.offered(customers), score, 0) for score in scores]

    def offered(self, customers: np.ndarray) -> np.ndarray:
        """Which products may be recommended, shape (n, n_products)."""
        return self.is_sold & (self.barred[customers].toarray() == 0)

    def reason(self, source: str, customer: int, product: int) -> str:
        """Why a signal puts a product forward, in the customer's own numbers and products."""
        entries = slice(*self.times.indptr[customer : customer + 2])
        own = self.times.indices[entries]
        if source == "bought_before":
            return self._repeats(entries.start + int(np.searchsorted(own, product)))
        if source == "bought_next":
            first = own[np.argmax(self.taste.data[entries] * self.next[own, np.full(len(own), product)])]
            pairs, days = int(self.pairs[first, product]), int(self.days_first[first])
            name = self.names.of(self.history.products[first])
            return f"bought on {pairs:,} of {days:,} next shopping days after {name}"
        own = own[self.name_of[own] >= 0]
        alike = self.names.vectors[self.name_of[own]] @ self.names.vectors[self.name_of[product]]
        return f"its name is like that of {self.names.of(self.history.products[own[np.argmax(alike)]])}, bought before"

    @cached_property
    def _ages(self) -> tuple[np.ndarray, np.ndarray]:
        return self.history.ages()

    def _repeats(self, entry: int) -> str:
        times, oldest, newest = int(self.times.data[entry]), *(int(ages[entry]) for ages in self._ages)
        ago = f"{newest} day{'s' if newest > 1 else ''} ago"
        if times == 1:
            return f"bought once, {ago}"
        return f"bought {times} times, usually every {(oldest - newest) / (times - 1):.0f} days, last {ago}"


class Names:
    """Embeddings of what products are called, each different name once and kept with those of texts.

    Parameters
    ----------
    products : DataFrame
        ``product_id`` and ``product_name``.
    load_encoder : callable
        Loads the encoder; not called where there is nothing to tell apart.
    """

    def __init__(self, products: pd.DataFrame, load_encoder: Callable[[], Encoder]) -> None:
        cleaned = {name: clean_text(name) for name in products.product_name.dropna().unique()}
        named = products.assign(text=products.product_name.map(cleaned).fillna("")).query("text != ''")
        self.shown = dict(zip(named.product_id, named.text, strict=True))
        texts = sorted(set(self.shown.values()))
        self._number = {text: i for i, text in enumerate(texts)}
        self.vectors = np.zeros((len(texts), 1), dtype=np.float32)
        if len(texts) > 1:
            encoder = load_encoder()
            by_hash = {hash_text(text): text for text in texts}
            vectors, _ = cached_vectors(encoder.revision, by_hash, encoder.encode)
            self.vectors = unit_rows(np.vstack([vectors[text_hash] for text_hash in by_hash]))

    def numbers(self, products: np.ndarray) -> np.ndarray:
        """Row of ``vectors`` of each product; -1 for one without a name."""
        return np.array([self._number.get(self.shown.get(product), -1) for product in products], dtype=int)

    def of(self, product: str) -> str:
        """What to call a product."""
        return self.shown.get(product, f"product {product}")


def followers(history: History) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Count which products were bought on a customer's next shopping day after which others.

    Returns
    -------
    pairs : csr_array of shape (n_products, n_products)
        Pairs of days with a product, by row, and with another, by column, on the next; of a product with many followers
        only those that followed twice.
    days_first, days_then : ndarray of shape (n_products,)
        Days with a product that have a next one; days with a product that are one.
    """
    span = history.age.max() + 1
    days, day = np.unique(history.customer * span + span - history.age, return_inverse=True)
    baskets = csr_array((np.ones(len(day)), (day, history.product)), shape=(len(days), history.shape[1]))
    has_next = np.flatnonzero((days[:-1] - 1) // span == (days[1:] - 1) // span)
    first, then = baskets[has_next], baskets[has_next + 1]
    pairs = first.T.tocsr() @ then
    followers_of = np.diff(pairs.indptr)
    pairs.data[(pairs.data == 1) & np.repeat(followers_of > MOST_FOLLOWERS, followers_of)] = 0
    pairs.eliminate_zeros()
    pairs.sort_indices()
    return pairs, first.sum(axis=0), then.sum(axis=0)


def associations(pairs: csr_array, days_first: np.ndarray, days_then: np.ndarray) -> csr_array:
    """How strongly one product is followed by another.

    With n_ij pairs of days, n_i days with i first and n_j with j next: the cosine n_ij / sqrt(n_i * n_j) of item-based
    recommendation (Deshpande and Karypis 2004), times n_ij / (n_ij + 10), which trusts rare pairs less (Koren 2008).

    Returns
    -------
    csr_array
        With the entries of ``pairs`` in their order.
    """
    first = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    cosine = pairs.data / np.sqrt(days_first[first] * days_then[pairs.indices])
    return csr_array((cosine * pairs.data / (pairs.data + SHRINKAGE), pairs.indices, pairs.indptr), shape=pairs.shape)


def _numbered(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Different values in their order, and the number of each row's."""
    encoded = column.combine_chunks().dictionary_encode()
    values, numbers = np.unique(encoded.dictionary.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    return values.astype(object), numbers[encoded.indices.to_numpy()]
