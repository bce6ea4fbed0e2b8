"""Draw the desk of a shop that was built, for docs/screenshots: python tests/web/screenshots.py [home]."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "integration"))  # as pytest does

import duckdb
from browser import browsing, desk
from shop import PROJECT

FOLDER = PROJECT / "docs" / "screenshots"
#: Tallest picture, in pixels, by width.
TALLEST = {1280: 1500, 390: 1800}


def draw(home: Path) -> None:
    """Write one picture per page and width."""
    file = home / "published" / "churn_scores.parquet"
    (customer,) = duckdb.sql(f"select arg_max(customer_id, (as_of_date, value_at_risk)) from '{file}'").fetchone()
    pages = {
        "today": "/",
        "customers": "/?page=Customers",
        "customer": f"/?page=Customer&id={customer}",
        "model": "/?page=Model",
        "experiment": "/?page=Experiment",
    }
    FOLDER.mkdir(exist_ok=True)
    with desk(home) as url, browsing(url) as visitor:
        for width, tallest in TALLEST.items():
            for name, address in pages.items():
                visitor.page.set_viewport_size({"width": width, "height": 800})
                visitor.open(address)
                visitor.settle()
                height = visitor.page.get_by_test_id("stMain").evaluate("e => e.scrollHeight")
                visitor.page.set_viewport_size({"width": width, "height": min(height, tallest)})
                visitor.page.wait_for_timeout(1000)  # charts are drawn anew
                picture = FOLDER / f"desk-{name}{'' if width > 1000 else '-phone'}.png"
                visitor.page.screenshot(path=picture)
                print(f"{picture}: {picture.stat().st_size // 1000} kB")


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["CHURN_HOME"]).resolve())
