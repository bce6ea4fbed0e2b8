"""Metrics of a score in groups of customers."""

import numpy as np
import pandas as pd
from py3langid import classify

from inference.evaluation.metrics import evaluate

#: Metrics that are reported of a segment.
SEGMENT_FIGURES = (
    "n_customers",
    "churn_rate",
    "mean_probability",
    "auroc",
    "auroc_low",
    "auroc_high",
    "log_loss",
    "ece",
)
#: Smaller groups are not reported.
MIN_SEGMENT_CUSTOMERS = 50
#: Languages detected for a smaller share of the customers who wrote are taken for detection errors.
MIN_LANGUAGE_SHARE = 0.02
#: Languages written in Chinese characters, which the detector confuses in short texts.
CHINESE = ("zh", "yue", "wuu", "lzh", "nan", "hak", "gan")


def segments(predictions: pd.DataFrame, features: pd.DataFrame) -> list[dict]:
    """Metrics of the champion among new, one-time, regular and high-value customers, and by language.

    ``name`` and ``SEGMENT_FIGURES`` of each group that is large enough.

    Parameters
    ----------
    predictions : DataFrame
        ``customer_id``, ``as_of_date``, ``churned`` and ``probability`` of validation rows.
    features : DataFrame
        Features of those customers at those dates.
    """
    key = ["customer_id", "as_of_date"]
    columns = [*key, "orders_total", "days_since_first_order", "spend_90d", *(["texts"] if "texts" in features else [])]
    table = predictions.merge(features[columns], on=key)
    spend = table.spend_90d.to_numpy(dtype=float)
    masks = {
        "new: first order in the last 60 days": table.days_since_first_order <= 60,
        "one-time: one order so far": table.orders_total == 1,
        "regular: five orders or more": table.orders_total >= 5,
        "high value: top fifth by spend": spend >= np.nanquantile(spend, 0.8),
    }
    language = languages(table)
    masks |= {f"writes {name}": language == name for name in language.value_counts().index}
    listed = []
    for name, mask in masks.items():
        part = table[np.asarray(mask, dtype=bool)]
        # the interval of AUROC needs two customers of each outcome
        if len(part) >= MIN_SEGMENT_CUSTOMERS and np.bincount(part.churned, minlength=2).min() > 1:
            figures = vars(evaluate(part.churned, part.probability, 0.5))
            listed.append({"name": name} | {k: figures[k] for k in SEGMENT_FIGURES})
    return listed


def languages(table: pd.DataFrame) -> pd.Series:
    """Language code of each customer's newest text that is long enough to detect one; null where none is."""
    if "texts" not in table:
        return pd.Series(None, index=table.index, dtype=object)
    detected: dict[str, str | None] = {}

    def newest(texts: object) -> str | None:
        for text in texts if isinstance(texts, list | np.ndarray) else ():
            if text not in detected:
                detected[text] = _language(text)
            if detected[text]:
                return detected[text]
        return None

    language = pd.Series([newest(texts) for texts in table.texts], index=table.index, dtype=object)
    shares = language.value_counts(normalize=True)
    return language.where(language.isin(shares[shares >= MIN_LANGUAGE_SHARE].index), None)


def _language(text: str | None) -> str | None:
    """Language code of a text; None where it has too few letters."""
    letters = [c for c in text or "" if c.isalpha()]
    # two Chinese characters carry more than a word of letters
    if len(letters) < 20 and sum(ord(c) > 0x2E80 for c in letters) < 2:
        return None
    code = classify(text)[0]
    return "zh" if code in CHINESE else code
