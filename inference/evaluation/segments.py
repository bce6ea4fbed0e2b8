"""Figures of a score among groups of customers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from inference.evaluation.metrics import evaluate

#: What is told of a segment.
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
#: Fewer customers than this make no segment.
LEAST_IN_SEGMENT = 50
#: Languages are told of texts; one as rare as this is a mistake.
LEAST_SHARE_OF_LANGUAGE = 0.02
#: Languages in Chinese signs, which short texts do not tell apart.
CHINESE = ("zh", "yue", "wuu", "lzh", "nan", "hak", "gan")


def segments(said: pd.DataFrame, rows: pd.DataFrame) -> list[dict]:
    """Figures of the champion among new, one-time, regular and high-value customers, and by language.

    Parameters
    ----------
    said : DataFrame
        ``customer_id``, ``as_of_date``, ``churned`` and ``probability`` of what was judged.
    rows : DataFrame
        What is known of them at those snapshots.

    Returns
    -------
    list of dict
        ``name`` and ``SEGMENT_FIGURES`` of each group that is large enough to judge.
    """
    known = ["orders_total", "days_since_first_order", "spend_90d", *(["texts"] if "texts" in rows else [])]
    table = said.merge(rows[["customer_id", "as_of_date", *known]], on=["customer_id", "as_of_date"])
    spend = table.spend_90d.to_numpy(dtype=float)
    masks = {
        "new: first order in the last 60 days": table.days_since_first_order <= 60,
        "one-time: one order so far": table.orders_total == 1,
        "regular: five orders or more": table.orders_total >= 5,
        "high value: top fifth by spend": spend >= np.nanquantile(spend, 0.8),
    }
    written = languages(table)
    masks |= {f"writes {name}": written == name for name in written.value_counts().index}
    told = []
    for name, mask in masks.items():
        part = table[np.asarray(mask, dtype=bool)]
        # an interval of AUROC needs two of each
        if len(part) >= LEAST_IN_SEGMENT and np.bincount(part.churned, minlength=2).min() > 1:
            figures = evaluate(part.churned, part.probability, 0.5).to_dict()
            told.append({"name": name} | {k: figures[k] for k in SEGMENT_FIGURES})
    return told


def languages(table: pd.DataFrame) -> pd.Series:
    """Language of each customer's newest text that is long enough to tell, by its code; null where none is.

    Languages of fewer than one in fifty of those customers are taken for mistakes.
    """
    if "texts" not in table:
        return pd.Series(None, index=table.index, dtype=object)
    told: dict[str, str | None] = {}

    def newest(texts: Sequence[str] | None) -> str | None:
        for text in texts if np.ndim(texts) == 1 else ():
            if text not in told:
                told[text] = _language(text)
            if told[text]:
                return told[text]
        return None

    found = pd.Series([newest(texts) for texts in table.texts], index=table.index, dtype=object)
    common = found.value_counts(normalize=True)
    return found.where(found.isin(common[common >= LEAST_SHARE_OF_LANGUAGE].index), None)


def _language(text: str | None) -> str | None:
    """Code of a text's language; None where it has too few letters to tell."""
    from py3langid import classify

    letters = [c for c in text or "" if c.isalpha()]
    # two Chinese signs say more than a word of letters
    if len(letters) < 20 and sum(ord(c) > 0x2E80 for c in letters) < 2:
        return None
    code = classify(text)[0]
    return "zh" if code in CHINESE else code
