"""Recommendation signals: bought before, bought next by other customers, and similar by name."""

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

#: In order of precedence among equally strong ones.
SIGNALS = ("bought_before", "bought_next", "similar_text")
#: Half-life of the weight of a purchase.
HALF_LIFE_DAYS = 90
#: Days without a purchase after which a product counts as no longer sold.
SOLD_WITHIN_DAYS = 90
#: Number of occurrences at which the strength of a pair of products is halved by shrinkage.
SHRINKAGE = 10
#: Maximum followers of a product to keep those that followed once, which are noise.
MAX_FOLLOWERS = 200


@dataclass(frozen=True)
class History:
    """Purchases with integer codes; products are sorted by sales, so that the popular win ties."""

    #: Ids by code.
    customers: np.ndarray
    products: np.ndarray
    #: Codes, and days from the purchase to the as-of date; shape (n_purchases,) each.
    customer: np.ndarray
    product: np.ndarray
    age: np.ndarray
    #: Number of returns, shape (n_customers, n_products).
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

    @cached_property
    def ages(self) -> np.ndarray:
        """Ages in days of the oldest and the newest purchase of each entry of ``matrix``, shape (n_entries, 2)."""
        purchases = pd.DataFrame({"customer": self.customer, "product": self.product, "age": self.age})
        return purchases.groupby(["customer", "product"]).age.agg(["max", "min"]).to_numpy()


def read_history(purchases: pa.Table, as_of_date: np.datetime64) -> History:
    """Encode purchases before an as-of date: ``customer_id``, ``product_id``, ``bought_on`` and ``is_returned``.

    There is one row per customer, product and day.
    """
    age = days_before(purchases, as_of_date)
    purchases, age = purchases.filter(pa.array(age > 0)), age[age > 0]
    returned = purchases["is_returned"].to_numpy().astype(bool)
    customers, customer = _encode(purchases["customer_id"])
    products, product = _encode(purchases["product_id"])
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
    """Scores of every product for customers, by signal; 0 without evidence or where it may not be recommended.

    Products are not recommended that the customer bought in the last ``after_days`` days or ever returned, or that are
    no longer sold.
    """

    def __init__(self, history: History, names: "ProductNames", after_days: int) -> None:
        self.history, self.names = history, names
        self.times = history.matrix(np.ones(len(history.age)))
        self.taste = history.matrix(0.5 ** (history.age / HALF_LIFE_DAYS))
        self.pairs, self.days_first, days_second = followers(history)
        self.next = associations(self.pairs, self.days_first, days_second)
        self.name_of = names.codes(history.products)
        named = np.flatnonzero(self.name_of >= 0)
        self.by_name = csr_array(
            (np.ones(len(named)), (named, self.name_of[named])), shape=(history.shape[1], len(names.vectors))
        )
        self.barred = history.returned + history.matrix((history.age <= after_days).astype(float))
        newest = np.full(history.shape[1], np.inf)
        np.minimum.at(newest, history.product, history.age)
        self.is_sold = newest <= SOLD_WITHIN_DAYS

    def scores(self, customers: np.ndarray) -> list[np.ndarray]:
        """Score all products for customers, given by their codes.

        Returns
        -------
        list of ndarray of shape (n, n_products)
            In the order of ``SIGNALS``: times bought; sum of associations with the customer's purchases, weighted by
            recency; cosine similarity of its name to the weighted mean of theirs.
        """
        taste = self.taste[customers]
        liked = (taste @ self.by_name) @ self.names.vectors
        similarity = np.zeros((len(customers), self.history.shape[1]))
        named = self.name_of >= 0
        similarity[:, named] = (unit_rows(liked) @ self.names.vectors.T)[:, self.name_of[named]]
        scores = (self.times[customers].toarray(), (taste @ self.next).toarray(), similarity)
        return [np.where(self.allowed(customers), score, 0) for score in scores]

    def allowed(self, customers: np.ndarray) -> np.ndarray:
        """Which products may be recommended, shape (n, n_products)."""
        return self.is_sold & (self.barred[customers].toarray() == 0)

    def reason(self, source: str, customer: int, product: int) -> str:
        """Why a signal recommends a product, with the customer's own numbers and products."""
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
        similarity = self.names.vectors[self.name_of[own]] @ self.names.vectors[self.name_of[product]]
        nearest = self.history.products[own[np.argmax(similarity)]]
        return f"its name is like that of {self.names.of(nearest)}, bought before"

    def _repeats(self, entry: int) -> str:
        times, (oldest, newest) = int(self.times.data[entry]), self.history.ages[entry]
        ago = f"{newest} day{'s' if newest > 1 else ''} ago"
        if times == 1:
            return f"bought once, {ago}"
        return f"bought {times} times, usually every {(oldest - newest) / (times - 1):.0f} days, last {ago}"


class ProductNames:
    """Names of products and their embeddings; each distinct name is encoded once and cached like texts.

    ``products`` has ``product_id`` and ``product_name``. Fewer than two distinct names need no encoder.
    """

    def __init__(self, products: pd.DataFrame) -> None:
        cleaned = {name: clean_text(name) for name in products.product_name.dropna().unique()}
        named = products.assign(text=products.product_name.map(cleaned).fillna("")).query("text != ''")
        self.by_product = dict(zip(named.product_id, named.text, strict=True))
        texts = sorted(set(self.by_product.values()))
        self._code = {text: i for i, text in enumerate(texts)}
        self.vectors = np.zeros((len(texts), 1), dtype=np.float32)
        if len(texts) > 1:
            encoder = Encoder.shared()
            by_hash = {hash_text(text): text for text in texts}
            vectors, _ = cached_vectors(encoder.revision, by_hash, encoder.encode)
            self.vectors = unit_rows(np.vstack([vectors[text_hash] for text_hash in by_hash]))

    def codes(self, products: np.ndarray) -> np.ndarray:
        """Row of ``vectors`` of each product; -1 for one without a name."""
        return np.array([self._code.get(self.by_product.get(product), -1) for product in products], dtype=int)

    def of(self, product: str) -> str:
        """Name of a product, or its id."""
        return self.by_product.get(product, f"product {product}")


def followers(history: History) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Count pairs of products bought on consecutive shopping days of a customer.

    Returns
    -------
    pairs : csr_array of shape (n_products, n_products)
        Pairs of consecutive days with a product, by row, and then another, by column; of a product with many followers
        only those that followed at least twice.
    days_first, days_second : ndarray of shape (n_products,)
        Number of first days, and of second days, with each product.
    """
    span = history.age.max() + 1
    days, day = np.unique(history.customer * span + span - history.age, return_inverse=True)
    baskets = csr_array((np.ones(len(day)), (day, history.product)), shape=(len(days), history.shape[1]))
    has_next = np.flatnonzero((days[:-1] - 1) // span == (days[1:] - 1) // span)
    first, second = baskets[has_next], baskets[has_next + 1]
    pairs = first.T.tocsr() @ second
    followers_of = np.diff(pairs.indptr)
    pairs.data[(pairs.data == 1) & np.repeat(followers_of > MAX_FOLLOWERS, followers_of)] = 0
    pairs.eliminate_zeros()
    pairs.sort_indices()
    return pairs, first.sum(axis=0), second.sum(axis=0)


def associations(pairs: csr_array, days_first: np.ndarray, days_second: np.ndarray) -> csr_array:
    """Strength of the association of each product with the ones that follow it.

    With n_ij pairs of days, n_i first days with i and n_j second days with j: the cosine n_ij / sqrt(n_i * n_j) of
    item-based recommendation (Deshpande and Karypis 2004), times n_ij / (n_ij + 10), which shrinks rare pairs (Koren
    2008). The result has entries where ``pairs`` has them.
    """
    first = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    cosine = pairs.data / np.sqrt(days_first[first] * days_second[pairs.indices])
    return csr_array((cosine * pairs.data / (pairs.data + SHRINKAGE), pairs.indices, pairs.indptr), shape=pairs.shape)


def _encode(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct values, and the code of each row."""
    encoded = column.combine_chunks().dictionary_encode()
    values, numbers = np.unique(encoded.dictionary.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    return values.astype(object), numbers[encoded.indices.to_numpy()]
