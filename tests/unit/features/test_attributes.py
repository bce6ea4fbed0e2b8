import numpy as np
import pandas as pd
import pytest

from inference.features.attributes import MAX_CATEGORIES, attribute_features, attribute_matrix


def packed(*rows: list[str] | None, each: int = 40) -> pd.DataFrame:
    """So many customers with each of these attributes."""
    customers = [f"c{i}" for i in range(len(rows) * each)]
    return pd.DataFrame({"customer_id": customers, "attributes": [row for row in rows for _ in range(each)]})


def test_numbers_stay_numbers_and_categories_get_a_column_each():
    rows = packed(["age=34", "country=DE"], ["age=20", "country=FR"], ["age=", "country="], None)
    features = attribute_features(rows)
    assert features == ["attribute_age", "attribute_country=DE", "attribute_country=FR"]
    X = attribute_matrix(rows.attributes, features).iloc[::40].to_numpy()
    np.testing.assert_array_equal(X, [[34, 1, 0], [20, 0, 1], [np.nan] * 3, [np.nan] * 3])


def test_rare_categories_and_those_that_everybody_has_get_none():
    rows = pd.concat([packed(["tier=gold", "shop=web"]), packed(["tier=silver", "shop=web"], each=29)])
    rows["customer_id"] = range(len(rows))
    assert attribute_features(rows) == ["attribute_tier=gold"]


def test_of_many_categories_the_frequent_ones_are_kept():
    rows = pd.concat([packed([f"city=town{i:02}"], each=30 + i) for i in range(40)], ignore_index=True)
    rows["customer_id"] = range(len(rows))
    features = attribute_features(rows)
    assert features == [f"attribute_city=town{i:02}" for i in range(39, 39 - MAX_CATEGORIES, -1)]


def test_a_customer_counts_once():
    rows = pd.DataFrame({"customer_id": ["a"] * 100 + ["b"], "attributes": [["x=1"]] * 100 + [["x=y"]]})
    assert attribute_features(rows) == []


@pytest.mark.parametrize("value", ['say "so"', "a, b", "{a: [1]}", "x=y=z"])
def test_any_text_may_be_a_category(value):
    rows = packed([f"note={value}"], ["note=other"])
    features = attribute_features(rows)
    assert len(features) == 2
    assert not any(c in feature.split("=", 1)[1] for feature in features for c in '",:[]{}= ')
    assert attribute_matrix(rows.attributes, features).sum().tolist() == [40, 40]


def test_an_attribute_that_the_shop_does_not_have_any_more_is_null():
    X = attribute_matrix(pd.Series([["country=DE"], []]), ["attribute_age", "attribute_country=DE"])
    np.testing.assert_array_equal(X, [[np.nan, 1], [np.nan, np.nan]])


def test_without_attributes_there_are_no_features():
    assert attribute_features(pd.DataFrame({"customer_id": ["a"]})) == []
    assert attribute_features(packed(None)) == []
