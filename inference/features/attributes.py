"""Customer attributes that a shop defines: numbers stay numbers, categories become one indicator column each.

``customer_features`` stores them packed in one column, so that its contract is the same in every shop; the model
unpacks the ones that it was trained on.
"""

import re

import numpy as np
import pandas as pd

#: Column of the feature table that holds the attributes as strings ``name=value``.
PACKED = "attributes"
#: Prefix of the name of every feature made of an attribute.
PREFIX = "attribute_"
#: Most categories of one attribute that get a column, most frequent first, and fewest customers of a category.
MAX_CATEGORIES = 20
MIN_CUSTOMERS = 30
#: An attribute is numeric if at least this share of its values are numbers.
MIN_NUMERIC_SHARE = 0.95
#: Characters that LightGBM does not accept in a feature name.
FORBIDDEN = re.compile(r'[",:\[\]{}=\s]+')


def attribute_features(rows: pd.DataFrame) -> list[str]:
    """List the features to make of the attributes of training rows (``customer_id``, ``attributes``).

    These are ``attribute_<name>`` for a number, and ``attribute_<name>=<category>`` for each frequent category.
    """
    if PACKED not in rows:
        return []
    packed = rows.drop_duplicates("customer_id", keep="last")[PACKED]
    features = []
    for name, values in _unpack(packed).items():
        values = values[values != ""]
        if values.nunique() < 2:
            continue
        if pd.to_numeric(values, errors="coerce").notna().mean() >= MIN_NUMERIC_SHARE:
            features.append(f"{PREFIX}{name}")
            continue
        counts = values.map(_category).value_counts()
        frequent = counts[counts >= MIN_CUSTOMERS].sort_index().sort_values(ascending=False, kind="stable")
        features += [f"{PREFIX}{name}={category}" for category in frequent.index[:MAX_CATEGORIES]]
    return features


def attribute_matrix(packed: pd.Series, features: list[str]) -> pd.DataFrame:
    """Unpack attributes into feature columns.

    Parameters
    ----------
    packed : Series
        Lists of strings ``name=value``, or null where a customer is unknown.
    features : list of str
        Names as returned by ``attribute_features``.

    Returns
    -------
    DataFrame of shape (n_rows, n_features)
        float64: a number, or 1 and 0 for a category; null where the attribute is missing.
    """
    values = _unpack(packed)
    columns = {}
    for feature in features:
        name, _, category = feature.removeprefix(PREFIX).partition("=")
        attribute = values.get(name, pd.Series("", index=packed.index))
        if category:
            column = (attribute.map(_category) == category).astype(np.float64)
        else:
            column = pd.to_numeric(attribute, errors="coerce").astype(np.float64)
        columns[feature] = column.where(attribute != "")
    return pd.DataFrame(columns, index=packed.index)


def _category(value: str) -> str:
    return FORBIDDEN.sub("_", value.strip())


def _unpack(packed: pd.Series) -> dict[str, pd.Series]:
    """Values of each attribute as strings, empty where null."""
    rows = [dict(item.split("=", 1) for item in row) if isinstance(row, list | np.ndarray) else {} for row in packed]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: pd.Series([row.get(name, "") for row in rows], index=packed.index) for name in names}
