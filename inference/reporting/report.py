"""The report: every member and baseline on the same later snapshots, what each input adds, and where it fails."""

import json
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.evaluation.metrics import auroc_interval, best_f1_threshold, evaluate, expected_maximum_profit
from inference.evaluation.paired_gain import paired_gain
from inference.evaluation.segments import segments
from inference.features.attributes import PREFIX
from inference.home import PROJECT_DIR, home, published
from inference.model.churn_model import ChurnModel, feature_matrix
from inference.model.level import anchored_shift, level_history
from inference.model.members import MEMBERS
from inference.model.words import WORDS_LOGIT, embedding_matrix, enough_words
from inference.progress import track
from inference.registry.registry import RegisteredModel
from inference.reporting.baselines import BASELINES
from inference.training.champion import training_rows
from inference.training.settings import TrainingSettings
from inference.training.train import LEAST_GAIN_OF_WORDS
from inference.training.validation import (
    eligible_members,
    fold_features,
    gain_of_words,
    losses_at_true_level,
    rolling_folds,
    rolling_validation,
)

#: Groups of features are the feature tables; these are left out one at a time.
FEATURE_TABLES = ("order", "engagement", "review", "support", "campaign", "forecast")
#: Bins of the calibration curve, and points of the lift curve.
N_BINS, N_LIFT = 10, 20


def make_report(current: RegisteredModel, labels: pd.DataFrame, compare: bool = True) -> dict:
    """Put together everything that the report shows.

    Parameters
    ----------
    current : RegisteredModel
        The champion; what it said of later snapshots was kept with it.
    labels : DataFrame
        ``churn_labels``.
    compare : bool
        Whether baselines, ablations and the shuffled control are trained, which takes minutes.

    Returns
    -------
    dict
        JSON: ``model``, ``members``, ``baselines``, ``ablations``, ``control``, ``curves``, ``segments``,
        ``forward``, ``costs``, ``policies``; ``note`` says what is left out, where something is.

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
    judged = _judged(model)
    said = _still_known(judged, rows, model.horizon_days)
    note = None
    if said.empty:  # snapshots move with the newest label, by weeks
        said = judged
        note = (
            "Segments and comparisons are left out: the last build labelled other snapshots than those on which "
            f"version {current.version} was validated. Train again to see them."
        )
    shifts = _Level(model, rows)
    report = {
        "model": _model(current, said),
        "members": _members(model, said, shifts),
        "curves": _curves(said),
        "segments": [] if note else segments(said, rows),
        "forward": _forward(model),
        "costs": model.summary.seconds,
        "baselines": [],
        "ablations": [],
        "control": None,
        "policies": _policies(),
        "note": note,
    }
    if compare and not note:
        bench = _Bench(model, rows, said, shifts)
        report["baselines"] = bench.baselines()
        report["ablations"] = bench.ablations()
        report["control"] = bench.shuffled_control()
    return report


def _policies() -> list[dict]:
    """Policies as the last build valued them on logged contacts; none where there was no random contact."""
    file = published("retention_policy_values")
    if not file.exists():
        return []
    values = pd.read_parquet(file)
    return values.assign(through_date=values.through_date.astype(str)).to_dict("records")


def champion_labels() -> pd.DataFrame:
    """Read the labels that the last build exported."""
    file = home() / "features" / "churn_labels.parquet"
    if not file.exists():
        raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    return pd.read_parquet(file).drop(columns="event_timestamp")


def write_report(report: dict, page: str) -> tuple[Path, Path]:
    """Write page and JSON to ``$CHURN_HOME/published``, beside and renamed."""
    folder = home() / "published"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.html": page, "report.json": json.dumps(_plain(report), indent=2, allow_nan=False)}
    for name, text in texts.items():
        (folder / f"{name}.partial").write_text(text, encoding="utf-8")
    return tuple((folder / f"{name}.partial").replace(folder / name) for name in texts)


def _plain(value: object) -> object:
    """Turn into what JSON can hold; a number that is none becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class _Level:
    """Puts any log-odds on the level that the champion's anchor expected of a snapshot."""

    def __init__(self, model: ChurnModel, rows: pd.DataFrame) -> None:
        self.model, self.history = model, level_history(rows, model.horizon_days)

    def probability(self, table: pd.DataFrame, logit: np.ndarray) -> np.ndarray:
        result = np.empty(len(table))
        for as_of_date, positions in table.groupby("as_of_date").indices.items():
            part, forecast = logit[positions], table.no_order_probability.iloc[positions]
            shift = anchored_shift(self.model.anchor, pd.Timestamp(as_of_date), self.history, part, forecast)
            result[positions] = expit(part + shift)
        return result


def _judged(model: ChurnModel) -> pd.DataFrame:
    """Validation rows of the snapshots on which every member ran."""
    said = model.validation
    # a young shop's first snapshots lack boosting; the transformer is judged on the newest ones
    ran = [c for c in said if c in MEMBERS or c.startswith("transformer_")]
    return said.dropna(subset=ran).reset_index(drop=True)


def _still_known(judged: pd.DataFrame, rows: pd.DataFrame, horizon_days: int) -> pd.DataFrame:
    """Validation rows whose features, and enough history before them, are still there."""
    every = TrainingSettings(validation_snapshots=len(rows))
    folds = rolling_folds(rows, rows.churned.to_numpy(dtype=int), horizon_days, every)
    known = [rows.loc[now, ["customer_id", "as_of_date"]] for _, now in folds]
    return judged.merge(pd.concat(known), on=["customer_id", "as_of_date"]) if known else judged.head(0)


def _model(current: RegisteredModel, said: pd.DataFrame) -> dict:
    model = current.model
    dates = [str(d.date()) for d in sorted(said.as_of_date.unique())]
    names = ("training_rows", "training_customers", "first_snapshot", "last_snapshot", "level_error", "words_gain")
    transformer = model.summary.transformer
    return {
        "version": current.version,
        "horizon_days": model.horizon_days,
        "average": model.names,
        "reads_words": model.reads_words,
        "anchor": model.anchor,
        "snapshots": dates,
        "customers": len(said),
        "transformer_gains": transformer.gains if transformer else None,
        "transformer_epochs": transformer.epochs if transformer else None,
    } | {name: getattr(model.summary, name) for name in names}


def _figures(name: str, about: str, said: pd.DataFrame, logit: np.ndarray, level: _Level) -> dict:
    """Figures of one score, on the level of the champion's anchor, and its gain over the champion's average."""
    probability = level.probability(said, logit)
    figures = evaluate(said.churned, probability, best_f1_threshold(said.churned, probability)).to_dict()
    figures["empc"] = expected_maximum_profit(said.churned, probability)
    loss = losses_at_true_level(said.assign(it=logit), ["it"])
    ours = losses_at_true_level(said, ["average"])
    aurocs = [
        auroc_interval(said.churned.to_numpy()[positions], logit[positions])
        for positions in said.groupby("as_of_date").indices.values()
    ]
    figures["auroc_by_snapshot"] = [auroc for auroc, _, _ in aurocs]
    figures["mean_auroc"] = float(np.mean(figures["auroc_by_snapshot"]))
    figures["newest"] = dict(zip(("auroc", "auroc_low", "auroc_high"), aurocs[-1], strict=True))
    return {"name": name, "about": about} | figures | {"against_average": paired_gain(ours - loss, said.customer_id)}


def _members(model: ChurnModel, said: pd.DataFrame, level: _Level) -> list[dict]:
    names = [name for name in MEMBERS if name in said]
    said["average"] = said[model.names].mean(axis=1)
    listed = [("Churn Radar", "average of " + ", ".join(model.names), said.average)]
    listed += [(name, "member alone", said[name]) for name in names]
    about = {
        "transformer_events": "events and numbers",
        "transformer_words": "words, events and numbers",
        "transformer_fine_tuned": "words by a fine-tuned encoder, events and numbers",
    }
    for column in [c for c in about if c in said]:
        listed.append((column.replace("_", ", "), about[column], said[column]))
        averaged = said[[*names, column]].mean(axis=1)
        listed.append((f"average with {column.replace('_', ', ')}", "all members", averaged))
    if about.keys() & set(said):
        listed.append(("average without transformer", ", ".join(names), said[names].mean(axis=1)))
    if "without_words" in said:
        listed.append(("average without words", "no text embeddings", said.without_words))
    return [_figures(name, text, said, logit.to_numpy(), level) for name, text, logit in listed]


def _curves(said: pd.DataFrame) -> dict:
    """Calibration by tenths of customers, and the share of churners among the riskiest."""
    order = np.argsort(-said.probability.to_numpy(), kind="stable")
    churned = said.churned.to_numpy()[order]
    bins = np.array_split(order[::-1], N_BINS)
    ends = [round(len(order) * k / N_LIFT) for k in range(1, N_LIFT + 1)]
    return {
        "calibration": [
            {
                "predicted": float(said.probability.iloc[b].mean()),
                "observed": float(said.churned.iloc[b].mean()),
                "customers": len(b),
            }
            for b in bins
            if len(b)
        ],
        "lift": [{"share": n / len(order), "lift": float(churned[:n].mean() / churned.mean())} for n in ends if n],
    }


def _forward(model: ChurnModel) -> dict | None:
    """How much lower AUROC was at each later snapshot than validation on the ones before had promised."""
    said = model.validation
    aurocs = {
        str(d.date()): auroc_interval(p.churned.to_numpy(), p.probability.to_numpy())[0]
        for d, p in said.groupby("as_of_date")
    }
    dates = list(aurocs)
    drops = [
        {"as_of_date": now, "validation_auroc": aurocs[before], "forward_auroc": aurocs[now]}
        for before, now in pairwise(dates)
    ]
    if not drops:
        return None
    mean = float(np.mean([d["validation_auroc"] - d["forward_auroc"] for d in drops]))
    return {"mean_drop": mean, "snapshots": drops}


class _Bench:
    """Trains what the champion is compared with, on the snapshots that judged it."""

    def __init__(self, model: ChurnModel, rows: pd.DataFrame, said: pd.DataFrame, level: _Level) -> None:
        rows = rows[rows.as_of_date <= said.as_of_date.max()].reset_index(drop=True)  # newer ones judged nobody
        self.model, self.rows, self.said, self.level = model, rows, said, level
        names = [name for name in model.features if name != WORDS_LOGIT]
        self.X, self.y = feature_matrix(rows, names), rows.churned.to_numpy(dtype=int)
        self.settings = TrainingSettings(validation_snapshots=said.as_of_date.nunique())
        self.folds = rolling_folds(rows, self.y, model.horizon_days, self.settings)
        self.embeddings = embedding_matrix(rows) if model.words is not None else None

    def baselines(self) -> list[dict]:
        """Every baseline, fitted on what was known before each snapshot."""
        listed = []
        for baseline in track(BASELINES, "Baselines"):
            started = time.monotonic()

            def logit(earlier: np.ndarray, now: np.ndarray, made: Callable = baseline) -> np.ndarray:
                fitted = made().fit(self.rows[earlier], self.X[earlier], self.y[earlier])
                return fitted.logit(self.rows[now], self.X[now])

            figures = _figures(baseline.name, baseline.description, self.said, self._over_folds(logit), self.level)
            listed.append(figures | {"seconds": time.monotonic() - started})
        return listed

    def ablations(self) -> list[dict]:
        """The tabular average, whole and without each group of features."""
        groups = {"nothing": []} | {f"{t} features": _columns_of(t) for t in FEATURE_TABLES}
        groups["words"] = [WORDS_LOGIT, *(c for c in self.X if "complaint" in c or c == "rating_words_gap")]
        if attributes := [c for c in self.X if c.startswith(PREFIX)]:
            groups["customer features"] = attributes
        listed = []
        for name, columns in track(list(groups.items()), "Ablations"):
            if columns and not set(columns) & {*self.X.columns, WORDS_LOGIT}:
                continue

            def logit(earlier: np.ndarray, now: np.ndarray, columns: list[str] = columns) -> np.ndarray:
                customers = self.rows.customer_id.to_numpy()
                X, X_now = fold_features(self.X, self.y, customers, self.embeddings, earlier, now)
                left = [c for c in X if c not in columns]
                members = eligible_members(self.rows[earlier], self.settings)
                members = [m for m in members if m.name in [k.name for k in self.model.members]] or members
                return np.mean([m.fit(X[left], self.y[earlier]).logit(X_now[left]) for m in members], axis=0)

            listed.append(
                _figures(f"without {name}", "tabular members", self.said, self._over_folds(logit), self.level)
            )
        return listed

    def shuffled_control(self) -> dict | None:
        """What words seem to add when every customer has another's: less than words must add to be read."""
        embeddings = embedding_matrix(self.rows)
        if not enough_words(embeddings, self.y):
            return None
        arguments = (self.rows, self.X, self.y, self.model.horizon_days, self.settings)
        chance, shuffled = np.random.default_rng(0), embeddings.copy()
        for positions in self.rows.groupby("as_of_date").indices.values():
            shuffled[positions] = embeddings[chance.permutation(positions)]
        without = rolling_validation(*arguments)
        gains = {
            name: gain_of_words(without, rolling_validation(*arguments, given))
            for name, given in (("own", embeddings), ("shuffled", shuffled))
        }
        return gains | {"least": LEAST_GAIN_OF_WORDS} if all(gains.values()) else None

    def _over_folds(self, logit: Callable) -> np.ndarray:
        """Log-odds in the order of the validation rows."""
        parts = [
            self.rows.loc[now, ["customer_id", "as_of_date"]].assign(it=logit(earlier, now))
            for earlier, now in self.folds
        ]
        key = ["customer_id", "as_of_date"]
        return self.said[key].merge(pd.concat(parts), on=key, how="left").it.to_numpy()


def _columns_of(table: str) -> list[str]:
    described = yaml.safe_load((PROJECT_DIR / "models" / "features" / f"{table}_features.yml").read_text())
    return [c["name"] for c in described["models"][0]["columns"] if c["name"] not in ("customer_id", "as_of_date")]
