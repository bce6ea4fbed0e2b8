"""How the cost of each stage grows: one shop against one of ten times the customers.

    python benchmarks/stages.py
    python benchmarks/stages.py --customers 500

Two simulated shops of a year are built from nothing, one model at a time (each uses all cores), without
the transformer, whose scoring ``scoring.py`` measures and whose training reads a number of rows that is bounded. The
seconds of dbt's models are added up by stage. ``materialise.py`` measures the online store.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

import suite

from inference.simulation.shop import SimulationSettings, simulate
from inference.warehouse import dbt

TIMES = 10
#: Python models by stage; all other models are SQL.
STAGES = {
    "reading texts": ("review_embeddings",),
    "pooling and quoting them": ("text_pools", "text_quotes"),
    "purchase forecasts": ("purchase_forecasts",),
    "packing features": ("packed_features",),
    "training": ("churn_model", "churn_drift_reference"),
    "scoring": ("churn_predictions", "newcomer_predictions"),
    "decisions": ("recommendation_candidates", "retention_choices", "retention_policy_estimates"),
}


#: What all of a build cost, beside its stages.
WHOLE, MEMORY = "the whole build", "  memory"


def build(customers: int) -> dict[str, float]:
    """Seconds of each stage of a shop's first build, and of all of it; the most memory that it took, in MB."""
    with tempfile.TemporaryDirectory(prefix="churn-radar-stages-") as folder:
        home = Path(folder)
        settings = SimulationSettings(customers, 365, visit_every_days=60)
        simulate(settings, home / "raw", home / "truth")
        command = [
            *(Path(sys.executable).with_name("dbt"), "build", "--threads", "1"),
            *("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"),
            *("--vars", json.dumps({"churn__transformer": False})),
        ]
        measured = suite.measure(command, dbt.environment(home), home / "benchmark.log")
        results = json.loads((home / "target" / "run_results.json").read_text())["results"]
    seconds = {
        result["unique_id"].rpartition(".")[2]: result["execution_time"]
        for result in results
        if result["unique_id"].startswith("model.")
    }
    stages = {stage: sum(seconds.pop(model) for model in models) for stage, models in STAGES.items()}
    whole = {WHOLE: measured.seconds, MEMORY: measured.peak_mb}
    return {"all SQL": sum(seconds.values())} | stages | whole


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__)
    parser.add_argument("--customers", type=int, default=4000, help="of the smaller shop")
    parser.add_argument("--runs", type=int, default=5, help="number of runs, of which medians are reported")
    arguments = parser.parse_args()
    # one after the other, so that a machine that slows down slows both
    runs = [(build(arguments.customers), build(TIMES * arguments.customers)) for _ in range(arguments.runs)]
    figures = []
    for stage in runs[0][0]:
        few, many = (statistics.median(run[size][stage] for run in runs) for size in (0, 1))
        unit, target = ("MB", "") if stage == MEMORY else ("s", "at most 11")
        figures.append(suite.Figure(stage, many, few, unit, many / few, target))
    title = f"Stages: {TIMES * arguments.customers:,} customers against {arguments.customers:,}"
    suite.report("stages", title, f"{arguments.customers:,} customers", figures, arguments.runs, arguments.forget)


if __name__ == "__main__":
    main()
