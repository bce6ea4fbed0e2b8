"""The report as one HTML file with tables and charts."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from inference.reporting.charts import calibration, comparison, lift, svg

TEMPLATES = Path(__file__).parent / "templates"


def render(report: dict) -> str:
    """Fill the page in.

    Parameters
    ----------
    report : dict
        As ``report.make_report`` returns it.

    Returns
    -------
    str
        HTML without references to other files.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape())
    environment.filters["share"] = lambda value: f"{value:.1%}"
    scores = report["members"] + report["baselines"]
    return environment.get_template("report.html").render(
        report=report,
        calibration=svg(calibration(report["curves"]["calibration"]), 330, 280),
        lift=svg(lift(report["curves"]["lift"]), 330, 280),
        comparison=svg(comparison(scores), 500, 28 * len(scores)),
    )
