"""The report as one HTML file: tables, and charts drawn into it."""

import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"

#: One colour for what Churn Radar says, one for what it is compared with.
OURS, THEIRS = "#b3402a", "#8a8f98"


def render(report: dict) -> str:
    """Draw the charts and fill the page in.

    Parameters
    ----------
    report : dict
        What ``report.make_report`` returned.

    Returns
    -------
    str
        HTML that needs no other file.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape())
    environment.filters["share"] = lambda value: f"{value:.1%}"
    return environment.get_template("report.html").render(
        report=report,
        calibration=calibration_chart(report["curves"]["calibration"]),
        lift=lift_chart(report["curves"]["lift"]),
        comparison=comparison_chart(report["members"] + report["baselines"]),
    )


def calibration_chart(bins: list[dict]) -> Markup:
    """Draw observed against predicted churn, as SVG; ``bins`` is ``curves.calibration`` of a report."""
    figure, axes = _axes("predicted churn", "observed churn")
    top = max(max(b["predicted"], b["observed"]) for b in bins) * 1.05
    axes.plot([0, top], [0, top], color=THEIRS, linewidth=1, linestyle="--")
    axes.plot([b["predicted"] for b in bins], [b["observed"] for b in bins], color=OURS, marker="o")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    return _svg(figure)


def lift_chart(points: list[dict]) -> Markup:
    """Draw how many churners are found among the riskiest, as SVG; ``points`` is ``curves.lift`` of a report."""
    figure, axes = _axes("share of customers, riskiest first", "churners found, against chance")
    axes.axhline(1, color=THEIRS, linewidth=1, linestyle="--")
    axes.plot([p["share"] for p in points], [p["lift"] for p in points], color=OURS, marker="o", markersize=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0.9)
    return _svg(figure)


def comparison_chart(scores: list[dict]) -> Markup:
    """Draw AUROC of members and baselines with its interval, as SVG; the first is drawn in Churn Radar's colour."""
    figure, axes = _axes("AUROC with its 95 % interval", "", height=0.4 + 0.32 * len(scores), width=8.2)
    for position, score in enumerate(reversed(scores)):
        colour = OURS if position == len(scores) - 1 else THEIRS
        axes.plot([score["auroc_low"], score["auroc_high"]], [position] * 2, color=colour, linewidth=2)
        axes.plot(score["auroc"], position, color=colour, marker="o")
    axes.set_ylim(-0.6, len(scores) - 0.4)
    axes.set_yticks(range(len(scores)), [score["name"] for score in reversed(scores)])
    axes.grid(axis="x", color="#e6e6e6")
    return _svg(figure)


def _axes(x: str, y: str, height: float = 3.4, width: float = 4.0):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure) -> Markup:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])  # drawn here, from numbers
