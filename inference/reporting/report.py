"""The report on the champion: metrics on later snapshots, what each input adds, segments, calibration and costs."""

import json
import math
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from inference.errors import ChurnRadarError, reading
from inference.evaluation.metrics import auroc_interval
from inference.evaluation.segments import segments
from inference.home import home, published, whole_file
from inference.model.level import anchored_probabilities, level_history
from inference.model.members import MEMBERS
from inference.registry.registry import RegisteredModel
from inference.reporting.charts import calibration, comparison, lift, svg
from inference.reporting.comparisons import KEY, Bench, member_metrics
from inference.training.rows import training_rows
from inference.training.settings import TrainingSettings
from inference.training.validation import rolling_folds

#: Bins of the calibration curve, points of the lift curve, and words that raise or lower a score most.
N_BINS, N_LIFT, N_WORDS = 10, 20, 8


def make_report(current: RegisteredModel, labels: pd.DataFrame, compare: bool = True) -> dict:
    """Compute everything that the report shows.

    Parameters
    ----------
    current : RegisteredModel
        The champion, with its predictions of later snapshots.
    labels : DataFrame
        ``churn_labels``.
    compare : bool
        Whether baselines, ablations and the shuffled control are trained, which takes minutes.

    Returns
    -------
    dict
        JSON, as ``report.json`` holds it: ``model``, ``members``, ``baselines``, ``ablations``, ``control``,
        ``curves``, ``segments``, ``forward``, ``costs``, ``policies``; ``note`` names what is left out, if anything.

    Raises
    ------
    ChurnRadarError
        If the champion was validated on no later snapshot.
    """
    model = current.model
    if model.validation is None:
        raise ChurnRadarError(
            f"champion {current.version} was validated on no later snapshot; expected more history, then train again"
        )
    rows = training_rows(labels).assign(as_of_date=lambda r: pd.to_datetime(r.as_of_date))
    rows = rows.sort_values(["as_of_date", "customer_id"], ignore_index=True)
    complete = _complete(model.validation)
    predictions, note = _still_labelled(complete, rows, model.horizon_days), None
    if predictions.empty:  # the snapshots' dates move with the newest label
        predictions = complete
        note = (
            "Segments and comparisons are left out: the last build labelled other snapshots than those on which "
            f"version {current.version} was validated. Train again to see them."
        )
    predictions = predictions.assign(average=predictions[model.names].mean(axis=1))
    level = partial(anchored_probabilities, model.anchor, level_history(rows, model.horizon_days))
    report = {
        "model": _model(current, predictions),
        "members": member_metrics(model, predictions, level),
        "curves": _curves(predictions),
        "segments": [] if note else segments(predictions, rows),
        "forward": _forward(model.validation),
        "costs": model.summary.seconds,
        "baselines": [],
        "ablations": [],
        "control": None,
        "policies": _policies(),
        "note": note,
    }
    if compare and not note:
        bench = Bench(model, rows, predictions, level)
        report["baselines"] = bench.baselines()
        report["ablations"] = bench.ablations()
        report["control"] = bench.shuffled_control()
    return report


def champion_labels() -> pd.DataFrame:
    """Read the labels that the last build exported."""
    file = home() / "features" / "churn_labels.parquet"
    if not file.exists():
        raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    with reading(file):
        return pd.read_parquet(file).drop(columns="event_timestamp")


def write_report(report: dict, page: str) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` to ``$CHURN_HOME/published``, both or neither."""
    files = home() / "published" / "report.html", home() / "published" / "report.json"
    with whole_file(files[0]) as html_file, whole_file(files[1]) as json_file:
        html_file.write_text(page, encoding="utf-8")
        json_file.write_text(json.dumps(_plain(report), indent=2, allow_nan=False), encoding="utf-8")
    return files


def render(report: dict) -> str:
    """Fill in the HTML page, which refers to no other file, from what ``make_report`` returns."""
    environment = Environment(loader=PackageLoader("inference.reporting"), autoescape=select_autoescape())
    environment.filters["share"] = lambda value: f"{value:.1%}"
    scores = report["members"] + report["baselines"]
    return environment.get_template("report.html").render(
        report=report,
        calibration=svg(calibration(report["curves"]["calibration"]), 330, 280),
        lift=svg(lift(report["curves"]["lift"]), 330, 280),
        comparison=svg(comparison(scores), 500, 28 * len(scores)),
    )


def _plain(value: object) -> object:
    """Convert to types of JSON; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _complete(validation: pd.DataFrame) -> pd.DataFrame:
    """Validation rows of the snapshots that every member predicted."""
    # a young shop has too few customers for boosting at first, and the transformer is validated on the newest snapshots
    members = [c for c in validation if c in MEMBERS or c.startswith("transformer_")]
    return validation.dropna(subset=members).reset_index(drop=True)


def _still_labelled(validation: pd.DataFrame, rows: pd.DataFrame, horizon_days: int) -> pd.DataFrame:
    """Validation rows whose features, and enough history before them, the last build still has."""
    every_snapshot = TrainingSettings(validation_snapshots=len(rows))
    folds = rolling_folds(rows, horizon_days, every_snapshot)
    labelled = [rows.loc[now, KEY] for _, now in folds]
    return validation.merge(pd.concat(labelled), on=KEY) if labelled else validation.head(0)


def _model(current: RegisteredModel, predictions: pd.DataFrame) -> dict:
    model = current.model
    names = ("training_rows", "training_customers", "first_snapshot", "last_snapshot", "level_error")
    gains = ("words_gain", "lexical_gain")
    transformer = model.summary.transformer
    return {
        "version": current.version,
        "horizon_days": model.horizon_days,
        "average": model.names,
        "reads_words": model.reads_words,
        "reads_embeddings": model.words is not None,
        "anchor": model.anchor,
        "snapshots": [str(d.date()) for d in sorted(predictions.as_of_date.unique())],
        "customers": len(predictions),
        "transformer_gains": transformer.gains if transformer else None,
        "transformer_epochs": transformer.epochs if transformer else None,
        "strongest_words": model.lexical.strongest(N_WORDS) if model.lexical else [],
    } | {name: getattr(model.summary, name) for name in (*names, *gains)}


def _curves(predictions: pd.DataFrame) -> dict:
    """Calibration by deciles of predicted risk, and lift by the share of customers, riskiest first."""
    order = np.argsort(-predictions.probability.to_numpy(), kind="stable")
    churned = predictions.churned.to_numpy()[order]
    ends = [round(len(order) * k / N_LIFT) for k in range(1, N_LIFT + 1)]
    return {
        "calibration": [
            {
                "predicted": float(predictions.probability.iloc[b].mean()),
                "observed": float(predictions.churned.iloc[b].mean()),
                "customers": len(b),
            }
            for b in np.array_split(order[::-1], N_BINS)
            if len(b)
        ],
        "lift": [{"share": n / len(order), "lift": float(churned[:n].mean() / churned.mean())} for n in ends if n],
    }


def _forward(validation: pd.DataFrame) -> dict | None:
    """AUROC of each later snapshot beside that of the snapshot before, and the mean drop; None for one snapshot."""
    aurocs = [
        (str(as_of_date.date()), auroc_interval(part.churned.to_numpy(), part.probability.to_numpy())[0])
        for as_of_date, part in validation.groupby("as_of_date")
    ]
    snapshots = [
        {"as_of_date": date, "validation_auroc": before, "forward_auroc": now}
        for (_, before), (date, now) in pairwise(aurocs)
    ]
    if not snapshots:
        return None
    return {"mean_drop": -float(np.mean(np.diff([auroc for _, auroc in aurocs]))), "snapshots": snapshots}


def _policies() -> list[dict]:
    """Values of contact policies from the last build; empty without randomised contacts."""
    file = published("retention_policy_values")
    if not file.exists():
        return []
    with reading(file):
        values = pd.read_parquet(file)
    return values.assign(through_date=values.through_date.astype(str)).to_dict("records")
