"""Which customer snapshots a dbt Python model has to build."""

import pandas as pd

KEY = ["customer_id", "as_of_date"]


def snapshots_to_build(spine: pd.DataFrame, built: pd.DataFrame | None, lookback_days: int) -> pd.DataFrame:
    """Select the snapshots that a table lacks or that may have changed, as the macro of the same name does in SQL.

    Parameters
    ----------
    spine : DataFrame
        ``int_customer_snapshots``; its rows are returned with ``as_of_date`` as a timestamp.
    built : DataFrame or None
        ``customer_id`` and ``as_of_date`` of the rows that the table has; None for a full build.
    lookback_days : int
        Snapshots at most this many days before the newest are rebuilt, because raw rows without an arrival time may
        have changed them.
    """
    spine = spine.assign(as_of_date=pd.to_datetime(spine.as_of_date))
    if built is None or spine.empty:
        return spine
    newest = spine.as_of_date[spine.is_newest].max()
    in_lookback = spine.as_of_date.between(newest - pd.Timedelta(days=lookback_days), newest)
    built = built.assign(as_of_date=pd.to_datetime(built.as_of_date))
    is_built = pd.MultiIndex.from_frame(spine[KEY]).isin(pd.MultiIndex.from_frame(built[KEY]))
    return spine[in_lookback | ~is_built]


def date_filter(snapshots: pd.DataFrame) -> str:
    """SQL condition that selects all rows of the dates of some snapshots, whoever the customer is."""
    dates = ", ".join(f"'{day:%Y-%m-%d}'" for day in snapshots.as_of_date.unique())
    return f"as_of_date in ({dates or 'null'})"
