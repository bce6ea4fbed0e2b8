"""How often one of five recommended products is in the next order, against simpler lists, and what a large shop takes.

    python benchmarks/recommendations.py

The Complete Journey and a simulated shop are cut off at dates four weeks apart. For customers who had ordered in the
last 90 days and did so again in the four weeks after: is any of five products among what they bought on the first day?
Every list leaves out the same products: bought by the customer in the last days or ever returned, or not sold any more.
"At rest" are customers without an order in the last three weeks, like those who are about to leave. Before that, as
memory is counted to its peak, the same function recommends to every customer of a large shop with random purchases.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from rich.table import Table

from inference.recommendations.recommend import LEARN_DAYS, MAX_PRODUCTS, blocks, next_bought, ranked, recommend
from inference.recommendations.signals import SIGNALS, SOLD_WITHIN_DAYS, ProductNames, Signals, read_history
from inference.reporting import tables
from inference.simulation.shop import SimulationSettings, simulate
from inference.text.encoder.encoder import Encoder

#: Days without an order after which a customer is at rest.
AT_REST_DAYS = 21
#: Lists in the comparison.
LISTS = {"most popular": "most popular", "bought_before": "own most frequent"} | {
    name: name.replace("_", " ") for name in (*SIGNALS[1:], "Churn Radar")
}


def read_shop(raw: Path) -> tuple[pa.Table, pd.DataFrame]:
    """Read purchases and names of products from raw tables, as int_product_purchases and int_products hold them."""
    with duckdb.connect() as connection:
        columns = connection.sql(f"from '{raw}/orders.parquet'").columns
        status = "status" if "status" in columns else "'completed'"
        lines = f"'{raw}/orders.parquet' join '{raw}/order_items.parquet' using (order_id)"
        purchases = connection.sql(
            f"select distinct customer_id, product_id, cast(ordered_at as date) as bought_on, "
            f"{status} = 'returned' as is_returned from {lines}"
        ).to_arrow_table()
        products = connection.sql(
            f"select product_id, min_by(coalesce(product_name, category), ordered_at) as product_name "
            f"from {lines} group by product_id"
        ).df()
    return purchases, products


def hits(purchases: pa.Table, products: pd.DataFrame, cut: np.datetime64, after_days: int, limit: int) -> pd.DataFrame:
    """Whether each list contains a product of the next order, one row per customer, with the column ``at_rest``."""
    history = read_history(purchases, cut)
    signals = Signals(history, ProductNames(products), after_days)
    truth = next_bought(signals, purchases, cut + np.timedelta64(LEARN_DAYS, "D"))
    newest = np.full(len(history.customers), np.iinfo(int).max)
    np.minimum.at(newest, history.customer, history.age)
    evaluated = np.flatnonzero((np.diff(truth.indptr) > 0) & (newest <= SOLD_WITHIN_DAYS))
    evaluated = np.sort(np.random.default_rng(1).permutation(evaluated)[:limit])
    popularity = np.bincount(history.product[history.age <= SOLD_WITHIN_DAYS], minlength=history.shape[1])
    parts_by_list = {name: [] for name in ("most popular", *SIGNALS)}
    for block in blocks(signals, evaluated):
        bought = truth[block].toarray() > 0
        popular = np.where(signals.allowed(block), popularity, 0.0)
        for name, score in zip(parts_by_list, (popular, *signals.scores(block)), strict=True):
            best, is_there = ranked(score, MAX_PRODUCTS)
            parts_by_list[name].append((np.take_along_axis(bought, best, axis=1) & is_there).any(axis=1))
    is_hit = pd.DataFrame({name: np.concatenate(parts) for name, parts in parts_by_list.items()})
    customers = pd.DataFrame({"customer_id": history.customers[evaluated], "as_of_date": cut})
    chosen = recommend(purchases, products, customers, after_days).to_pandas()
    customer, product = (
        pd.Index(ids).get_indexer(of)
        for ids, of in ((history.customers, chosen.customer_id), (history.products, chosen.product_id))
    )
    right = np.unique(customer[truth[customer, product] > 0])
    return is_hit.assign(**{"Churn Radar": np.isin(evaluated, right), "at_rest": newest[evaluated] >= AT_REST_DAYS})


def hits_table(hits_by_shop: dict[str, pd.DataFrame]) -> Table:
    """One line per shop and group of customers."""
    table = Table(
        title=f"Customers with one of {MAX_PRODUCTS} products in their next order (standard error of the last)"
    )
    for name in ("", "customers", *LISTS.values(), "±"):
        table.add_column(name, justify="right" if name else "left")
    for shop, shop_hits in hits_by_shop.items():
        for group, part in ((shop, shop_hits), ("  at rest", shop_hits[shop_hits.at_rest])):
            shares = [part[name].mean() for name in LISTS]
            error = np.sqrt(shares[-1] * (1 - shares[-1]) / len(part))
            table.add_row(group, f"{len(part):,}", *(f"{share:.1%}" for share in shares), f"{error:.1%}")
    return table


def large_shop(n_customers: int, n_products: int) -> tuple[pa.Table, pd.DataFrame]:
    """Make random purchases: ten shopping days of two products each in a year for every customer."""
    rng = np.random.default_rng(0)
    n = n_customers * 20
    day = np.repeat(rng.integers(0, 365, n // 2), 2)
    product = np.minimum(rng.gamma(0.6, n_products / 4, n).astype(int), n_products - 1)
    purchases = pd.DataFrame(
        {
            "customer_id": np.char.add("c", np.repeat(np.arange(n_customers), 20).astype(str)),
            "product_id": np.char.add("p", product.astype(str)),
            "bought_on": (np.datetime64("2024-01-01") + day).astype("datetime64[D]"),
            "is_returned": rng.random(n) < 0.02,
        }
    ).drop_duplicates()
    names = [f"{word} {i}" for i, word in enumerate(np.resize(["tea", "coat", "lamp", "book", "toy"], n_products))]
    return pa.Table.from_pandas(purchases, preserve_index=False), pd.DataFrame(
        {"product_id": [f"p{i}" for i in range(n_products)], "product_name": names}
    )


def measure_large_shop(n_customers: int, n_products: int) -> str:
    """Recommend to all customers; print the time and peak memory."""
    purchases, products = large_shop(n_customers, n_products)
    customers = pd.DataFrame({"customer_id": purchases["customer_id"].unique().to_pylist()})
    Encoder.shared().load()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    chosen = recommend(purchases, products, customers.assign(as_of_date=np.datetime64("2025-01-01")), 14)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (
        f"{chosen.num_rows:,} products for {n_customers:,} customers of {n_products:,} products and "
        f"{purchases.num_rows:,} purchases: {seconds:.0f} s, {busy:.0f} s of processors; memory at most "
        f"{after.ru_maxrss / 1e6:.1f} GB, {before.ru_maxrss / 1e6:.1f} GB of it before"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=12_000, help="of the simulated shop")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cut-offs", type=int, default=2)
    parser.add_argument("--after-days", type=int, default=14)
    parser.add_argument("--judged", type=int, default=2000, help="maximum customers per cut-off")
    parser.add_argument("--large", type=int, nargs=2, default=(100_000, 1_000), metavar=("CUSTOMERS", "PRODUCTS"))
    parser.add_argument("--home", type=Path, help="keep the raw tables here; what is there is not made again")
    arguments = parser.parse_args()
    console = tables.console()
    console.print(measure_large_shop(*arguments.large))
    with tempfile.TemporaryDirectory(prefix="churn-radar-recommendations-") as folder:
        home = (arguments.home or Path(folder)).resolve()
        real, simulated = home / "complete-journey", home / "simulated"
        if not (real / "orders.parquet").exists():
            from examples import complete_journey

            complete_journey.write(real)
        if not (simulated / "orders.parquet").exists():
            settings = SimulationSettings(arguments.customers, 365, arguments.seed)
            simulate(settings, simulated, home / "truth")
        hits_by_shop = {}
        for name, raw in (("Complete Journey", real), ("simulated shop", simulated)):
            purchases, products = read_shop(raw)
            end = purchases["bought_on"].to_numpy().max().astype("datetime64[D]") + 1
            cuts = [end - LEARN_DAYS * (1 + place) for place in range(arguments.cut_offs)]
            hits_by_shop[name] = pd.concat(
                [hits(purchases, products, cut, arguments.after_days, arguments.judged) for cut in cuts],
                ignore_index=True,
            )
    console.print(hits_table(hits_by_shop))


if __name__ == "__main__":
    main()
