"""Write tables and views of a shop in Spark to Parquet files: folder, then names."""

import sys
from pathlib import Path

from inference.warehouse import spark

folder, names = Path(sys.argv[1]), sys.argv[2:]
folder.mkdir(exist_ok=True)
for name in names:
    spark.export(f"select * from churn_radar.{name}", folder / f"{name}.parquet")
