"""Small purchase tables for the tests of recommendations."""

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.recommendations.signals import ProductNames

AS_OF = np.datetime64("2024-03-01")


def bought(rows: list[tuple], returned: list[tuple] = ()) -> pa.Table:
    """Purchases and returns from (customer, product, days before the as-of date)."""
    table = pd.DataFrame([*rows, *returned], columns=["customer_id", "product_id", "days"])
    table["bought_on"] = AS_OF - table.pop("days").to_numpy().astype("timedelta64[D]")
    table["is_returned"] = np.arange(len(table)) >= len(rows)
    schema = {
        "customer_id": pa.string(),
        "product_id": pa.string(),
        "bought_on": pa.date32(),
        "is_returned": pa.bool_(),
    }
    return pa.Table.from_pandas(table, pa.schema(schema), preserve_index=False)


def nameless() -> ProductNames:
    return ProductNames(pd.DataFrame({"product_id": [], "product_name": pd.Series([], dtype=object)}))
