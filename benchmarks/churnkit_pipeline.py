"""Raw tables to churn scores with churnkit: what ``benchmarks/churnkit.py`` runs in churnkit's own environment.

    python benchmarks/churnkit_pipeline.py RAW_DIR AS_OF SCORES

The library calls of churnkit's exploration notebooks, in their order and with their defaults; each function names its
notebook. ``benchmarks/churnkit.py`` says what was chosen and why.
"""

import argparse
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from customer_retention.analysis.auto_explorer import IntentDefaultsEngine, RecommendationRegistry
from customer_retention.analysis.auto_explorer.project_context import PredictionObjective, TemporalPosture
from customer_retention.core.config.column_config import DatasetGranularity
from customer_retention.generators.pipeline_generator.gold_transform_applicator import build_gold_steps
from customer_retention.stages.features.feature_selector import run_selection_pipeline
from customer_retention.stages.modeling.training_preparator import TrainingPreparator
from customer_retention.stages.profiling import (
    DistributionAnalyzer,
    TimeSeriesProfiler,
    TimeWindowAggregator,
    TransformationType,
    WindowRecommendationCollector,
    classify_activity_segments,
    classify_lifecycle_quadrants,
    create_recency_bucket_feature,
)
from customer_retention.stages.profiling.temporal_feature_engineer import (
    ReferenceMode,
    TemporalAggregationConfig,
    TemporalFeatureEngineer,
)
from customer_retention.stages.temporal import DatasetMergeInput, MergeConfig, TemporalMerger
from customer_retention.transforms import TransformExecutor
from customer_retention.transforms.artifact_store import ArtifactStore
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HORIZON_DAYS, ACTIVITY_DAYS, STEP_DAYS = 30, 90, 28
TARGET = "churned"
KEYS = ["entity_id", "as_of_date", TARGET]
#: Time column and numeric columns of each table of events.
EVENTS = {
    "orders": ("ordered_at", ["amount", "discount_amount"]),
    "order_items": ("ordered_at", ["quantity", "unit_price"]),
    "campaign_touches": ("touched_at", []),
}


def read_raw(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the raw tables; items get customer and time of their order."""
    tables = {file.stem: pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))}
    keys = tables["orders"][["order_id", "customer_id", "ordered_at"]]
    tables["order_items"] = tables["order_items"].merge(keys, on="order_id")
    return tables


def snapshots(orders: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Eligible customers of each training date and of the newest one, with what is known of their outcome."""
    newest = as_of - pd.Timedelta(days=HORIZON_DAYS)
    newest -= pd.Timedelta(days=newest.dayofweek)
    first = orders.ordered_at.min().normalize() + pd.Timedelta(days=ACTIVITY_DAYS)
    dates = [*pd.date_range(newest, first, freq=f"-{STEP_DAYS}D")[::-1], as_of]
    rows = []
    for day in dates:
        days_before = (day - orders.ordered_at) / pd.Timedelta(days=1)
        eligible = orders[(days_before > 0) & (days_before <= ACTIVITY_DAYS)].customer_id.unique()
        ordered = orders[(days_before <= 0) & (days_before > -HORIZON_DAYS)].customer_id
        churned = np.nan if day == as_of else (~pd.Series(eligible).isin(ordered)).astype(float)
        rows.append(pd.DataFrame({"entity_id": eligible, "as_of_date": day, TARGET: churned}))
    return pd.concat(rows, ignore_index=True)


def recommended_windows(events: pd.DataFrame, time: str, values: list[str]) -> list[str]:
    """Windows that churnkit recommends for a table (notebook 01a)."""
    profile = TimeSeriesProfiler("customer_id", time).profile(events)
    quadrants = classify_lifecycle_quadrants(profile.entity_lifecycles.rename(columns={"entity": "customer_id"}))
    collector = WindowRecommendationCollector(coverage_threshold=0.10)
    collector.add_segment_context(classify_activity_segments(profile.entity_lifecycles))
    collector.add_quadrant_context(quadrants)
    return collector.compute_union(
        quadrants.lifecycles, profile.time_span_days, value_columns=len(values), agg_funcs=4
    ).windows


def event_features(
    events: pd.DataFrame, time: str, values: list[str], windows: list[str], day: pd.Timestamp
) -> pd.DataFrame:
    """Features of a table of events at a date, from the rows before it (notebook 01d)."""
    known = events[events[time] < day]
    features = TimeWindowAggregator("customer_id", time).aggregate(
        known,
        windows=windows,
        value_columns=values,
        agg_funcs=["sum", "mean", "max", "count"],
        reference_date=day,
        include_event_count=True,
        include_recency=True,
        include_tenure=True,
    )
    lifecycles = TimeSeriesProfiler("customer_id", time).profile(known).entity_lifecycles
    quadrants = classify_lifecycle_quadrants(lifecycles.rename(columns={"entity": "customer_id"})).lifecycles
    features["lifecycle_quadrant"] = features.customer_id.map(quadrants.set_index("customer_id").lifecycle_quadrant)
    features = create_recency_bucket_feature(features)
    config = TemporalAggregationConfig(
        reference_mode=ReferenceMode.GLOBAL_DATE, global_reference_date=day.to_pydatetime()
    )
    temporal = TemporalFeatureEngineer(config).compute(known, "customer_id", time, values).features_df
    overlap = [c for c in temporal.columns if c in features.columns and c != "customer_id"]
    features = features.drop(columns=overlap).merge(temporal, on="customer_id", how="left")
    return features.assign(as_of_date=day).rename(columns={"customer_id": "entity_id"})


def silver(tables: dict[str, pd.DataFrame], spine: pd.DataFrame) -> pd.DataFrame:
    """All features of every customer and date (notebook 03)."""
    inputs = []
    for name, (time, values) in EVENTS.items():
        windows = recommended_windows(tables[name], time, values)
        print(f"{name}: windows {windows}")
        frames = [event_features(tables[name], time, values, windows, day) for day in spine.as_of_date.unique()]
        inputs.append(DatasetMergeInput(name, pd.concat(frames, ignore_index=True), DatasetGranularity.EVENT_LEVEL))
    customers = tables["customers"].drop(columns="signed_up_at").rename(columns={"customer_id": "entity_id"})
    inputs.append(DatasetMergeInput("customers", customers, DatasetGranularity.ENTITY_LEVEL))
    merged, report = TemporalMerger(MergeConfig()).merge_all(spine, inputs)
    print(f"silver: {len(merged):,} rows, {report.total_columns} columns")
    return merged


def gold(labelled: pd.DataFrame, scored: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transformations that churnkit recommends, fitted on the labelled rows (notebooks 04 and 08)."""
    registry = RecommendationRegistry()
    registry.init_gold(TARGET)
    numeric = [c for c in labelled.select_dtypes("number").columns if c not in KEYS]
    categorical = {c for c in labelled.select_dtypes("object").columns if c not in KEYS}
    analyzer = DistributionAnalyzer()
    for column, analysis in analyzer.analyze_dataframe(labelled, numeric).items():
        recommendation = analyzer.recommend_transformation(analysis)
        # notebook 08 leaves zero inflation out where nobody asked for it
        if recommendation and recommendation.recommended_transform not in (
            TransformationType.NONE,
            TransformationType.ZERO_INFLATION_HANDLING,
        ):
            registry.add_gold_transformation(
                column, recommendation.recommended_transform.value, recommendation.parameters, "", "04"
            )
    steps = build_gold_steps(registry, set(labelled.columns), categorical_columns=categorical, target_column=TARGET)
    store = ArtifactStore(folder)
    fitted = TransformExecutor().apply_all(labelled, steps, fit_mode=True, artifact_store=store)
    return fitted, TransformExecutor().apply_all(scored, steps, fit_mode=False, artifact_store=store)


def select(labelled: pd.DataFrame) -> list[str]:
    """Features that neither hardly vary nor repeat another one (notebook 05)."""
    chosen = run_selection_pipeline(
        labelled.drop(columns=KEYS[:2]), TARGET, variance_threshold=0.01, correlation_threshold=0.95
    )
    return [c for c in labelled.columns if c not in {*KEYS, *chosen.dropped_features}]


def train_and_score(labelled: pd.DataFrame, scored: pd.DataFrame, full_panel: bool) -> pd.DataFrame:
    """Train the three models, take the best on customers held out, score (notebook 08).

    Parameters
    ----------
    labelled, scored : DataFrame
        Rows to learn from and rows to score.
    full_panel : bool
        Fit the best model once more, to all labelled rows.

    Returns
    -------
    DataFrame
        ``customer_id`` and ``score``.
    """
    intent = IntentDefaultsEngine().suggest(
        PredictionObjective.IMMEDIATE_RISK, TemporalPosture.STABLE, prediction_horizon=HORIZON_DAYS
    )
    preparator = TrainingPreparator(TARGET, select(labelled), purge_gap_days=intent.config.purge_gap_days)
    prepared = preparator.prepare(labelled)
    names = prepared.feature_names
    models = {
        "logistic regression": LogisticRegression(max_iter=1000, random_state=42, class_weight="balanced"),
        "random forest": RandomForestClassifier(n_estimators=100, random_state=42, n_jobs=-1, class_weight="balanced"),
        "gradient boosting": GradientBoostingClassifier(n_estimators=100, random_state=42),
    }
    trained, aurocs = {}, {}
    for name, model in models.items():
        scaler = StandardScaler() if name == "logistic regression" else None
        trained[name] = make_pipeline(scaler, model).fit(prepared.X_train[names], prepared.y_train)
        aurocs[name] = roc_auc_score(prepared.y_test_np, trained[name].predict_proba(prepared.X_test[names])[:, 1])
    best = max(aurocs, key=aurocs.get)
    print(f"{prepared.split_info}\n{len(names)} features; AUROC of customers held out: {aurocs}; best: {best}")
    medians = labelled[names].median(numeric_only=True)
    complete, asked = (rows.reindex(columns=names).fillna(medians).fillna(0) for rows in (labelled, scored))
    if full_panel:
        trained[best].fit(complete, labelled[TARGET])
    return pd.DataFrame({"customer_id": scored.entity_id, "score": trained[best].predict_proba(asked)[:, 1]})


def main() -> None:
    """Read, build, train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw_dir", type=Path)
    parser.add_argument("as_of", type=date.fromisoformat)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--full-panel", action="store_true", help="fit the best model once more, to all labelled rows")
    arguments = parser.parse_args()
    tables = read_raw(arguments.raw_dir)
    spine = snapshots(tables["orders"], pd.Timestamp(arguments.as_of))
    panel = silver(tables, spine)
    known = panel[TARGET].notna()
    with tempfile.TemporaryDirectory() as folder:
        labelled, scored = gold(*(panel[part].reset_index(drop=True) for part in (known, ~known)), Path(folder))
    scores = train_and_score(labelled, scored, arguments.full_panel)
    scores.to_parquet(arguments.scores, index=False)


if __name__ == "__main__":
    main()
