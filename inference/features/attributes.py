"""Attributes of customers that a shop names: numbers as they are, categories one column each.

``customer_features`` packs them, so that its contract is the same in every shop; the model unpacks those that it
learned from.
"""

import re

import numpy as np
import pandas as pd

#: Column of the feature table that holds them, as texts ``name=value``.
PACKED = "attributes"
#: Begins the name of every feature made of them.
PREFIX = "attribute_"
#: Most categories of one attribute that get a column, the frequent ones, and fewest customers of a category.
MOST_CATEGORIES = 20
LEAST_CUSTOMERS = 30
#: An attribute is a number where at least this share of its values are.
NUMBERS = 0.95
#: Characters that LightGBM refuses in a name.
REFUSED = re.compile(r'[",:\[\]{}=\s]+')


def attribute_features(rows: pd.DataFrame) -> list[str]:
    """Names of the features to make of the attributes of training rows.

    Parameters
    ----------
    rows : DataFrame
        ``customer_id`` and ``attributes``.

    Returns
    -------
    list of str
        ``attribute_<name>`` for a number, ``attribute_<name>=<category>`` for each frequent category.
    """
    if PACKED not in rows:
        return []
    packed = rows.drop_duplicates("customer_id", keep="last")[PACKED]
    features = []
    for name, values in _unpack(packed).items():
        values = values[values != ""]
        if values.nunique() < 2:
            continue
        if pd.to_numeric(values, errors="coerce").notna().mean() >= NUMBERS:
            features.append(f"{PREFIX}{name}")
            continue
        counts = values.map(_category).value_counts()
        frequent = counts[counts >= LEAST_CUSTOMERS].sort_index().sort_values(ascending=False, kind="stable")
        features += [f"{PREFIX}{name}={category}" for category in frequent.index[:MOST_CATEGORIES]]
    return features


def attribute_matrix(packed: pd.Series, features: list[str]) -> pd.DataFrame:
    """Unpack attributes into features.

    Parameters
    ----------
    packed : Series
        Lists of texts ``name=value``, or null where a customer is unknown.
    features : list of str
        As ``attribute_features`` names them.

    Returns
    -------
    DataFrame of shape (n_rows, n_features)
        float64: a number, or 1 and 0 for a category; null where the attribute is.
    """
    values = _unpack(packed)
    columns = {}
    for feature in features:
        name, _, category = feature.removeprefix(PREFIX).partition("=")
        of_name = values.get(name, pd.Series("", index=packed.index))
        if category:
            said = (of_name.map(_category) == category).astype(np.float64)
        else:
            said = pd.to_numeric(of_name, errors="coerce").astype(np.float64)
        columns[feature] = said.where(of_name != "")
    return pd.DataFrame(columns, index=packed.index)


def _category(value: str) -> str:
    return REFUSED.sub("_", value.strip())


def _unpack(packed: pd.Series) -> dict[str, pd.Series]:
    """Values of each attribute as text, empty where null."""
    rows = [dict(item.split("=", 1) for item in row) if isinstance(row, list | np.ndarray) else {} for row in packed]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: pd.Series([row.get(name, "") for row in rows], index=packed.index) for name in names}
