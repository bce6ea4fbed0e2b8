"""Snapshots that a Python model has to build: those that its table lacks, and those that may have changed."""

import pandas as pd

KEY = ["customer_id", "as_of_date"]


def snapshots_to_build(spine: pd.DataFrame, built: pd.DataFrame | None, lookback_days: int) -> pd.DataFrame:
    """Leave out what is there already, as the macro of the same name does in SQL.

    Parameters
    ----------
    spine : DataFrame
        ``int_customer_snapshots``.
    built : DataFrame or None
        ``customer_id`` and ``as_of_date`` of the rows that are there.
    lookback_days : int
        Snapshots at most this many days before the newest are built anew: rows without an arrival time may have
        changed them.

    Returns
    -------
    DataFrame
        Rows of the spine, ``as_of_date`` as a timestamp.
    """
    spine = spine.assign(as_of_date=pd.to_datetime(spine.as_of_date))
    if built is None or spine.empty:
        return spine
    newest = spine.as_of_date[spine.is_newest].max()
    rebuilt = spine.as_of_date.between(newest - pd.Timedelta(days=lookback_days), newest)
    built = built.assign(as_of_date=pd.to_datetime(built.as_of_date))
    there = pd.MultiIndex.from_frame(spine[KEY]).isin(pd.MultiIndex.from_frame(built[KEY]))
    return spine[rebuilt | ~there]


def of_dates(snapshots: pd.DataFrame) -> str:
    """Condition in SQL that holds for rows of the dates of the snapshots, whoever's they are."""
    dates = ", ".join(f"'{day:%Y-%m-%d}'" for day in snapshots.as_of_date.unique())
    return f"as_of_date in ({dates or 'null'})"
