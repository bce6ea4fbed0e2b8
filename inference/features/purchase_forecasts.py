"""Purchase forecasts: one MBG/NBD model per snapshot date, fitted on what was known then."""

import numpy as np
import pandas as pd

from inference.features.mbg_nbd import MBGNBD
from inference.progress import track

#: Columns of a forecast with their dtypes.
COLUMNS = {
    "customer_id": "string",
    "as_of_date": "datetime64[us]",
    "no_order_probability": "float64",
    "alive_logit": "float64",
    "expected_orders": "float64",
    "rate_shape": "float64",
    "rate_scale": "float64",
    "leave_a": "float64",
    "leave_b": "float64",
}


def forecast_purchases(histories: pd.DataFrame, horizon_days: int) -> pd.DataFrame:
    """Forecast the horizon of every customer of every snapshot.

    Parameters
    ----------
    histories : DataFrame
        ``int_purchase_histories``: order days of each customer known before each as-of date.
    horizon_days : int
        Days to forecast.

    Returns
    -------
    DataFrame
        One row of ``COLUMNS`` per customer and snapshot: the forecast (``expected_orders`` counts days with an
        order), and the parameters of that date's model: ``r`` and ``alpha`` (days) as ``rate_shape`` and
        ``rate_scale``, ``a`` and ``b`` as ``leave_a`` and ``leave_b``.
    """
    forecasts = [
        _forecast_snapshot(snapshot, horizon_days)
        for _, snapshot in track(list(histories.groupby("as_of_date")), "Forecasting purchases")
    ]
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    return pd.concat(forecasts, ignore_index=True) if forecasts else empty


def _forecast_snapshot(histories: pd.DataFrame, horizon_days: int) -> pd.DataFrame:
    sample = histories[histories.is_forecast_sample].sort_values("customer_id")
    customers = histories[histories.is_snapshot]
    model = MBGNBD.fit(*_recency_frequency(sample if len(sample) else customers))
    summary = _recency_frequency(customers)
    return pd.DataFrame(
        {
            "customer_id": customers.customer_id,
            "as_of_date": customers.as_of_date,
            "no_order_probability": model.no_order_probability(*summary, horizon_days),
            "alive_logit": model.alive_logit(*summary),
            "expected_orders": model.expected_orders(*summary, horizon_days),
            "rate_shape": model.r,
            "rate_scale": model.alpha,
            "leave_a": model.a,
            "leave_b": model.b,
        }
    )


def _recency_frequency(histories: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeat order days, and days from the first order to the last one and to the as-of date."""
    first = pd.to_datetime(histories.first_order_date)
    return (
        (histories.order_days - 1).to_numpy(),
        (pd.to_datetime(histories.last_order_date) - first).dt.days.to_numpy(),
        (pd.to_datetime(histories.as_of_date) - first).dt.days.to_numpy(),
    )
