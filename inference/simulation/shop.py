"""Write a simulated shop to Parquet, one block of customers at a time so that memory stays bounded."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
from inference.progress import track
from inference.simulation.lives import CAMPAIGN_SHARES, SEASON_SWING, live
from inference.simulation.tables import Block
from inference.simulation.words import LANGUAGES

#: The history ends before this day.
END = pd.Timestamp("2025-07-01")
CUSTOMERS_PER_BLOCK = 2000


@dataclass(frozen=True)
class SimulationSettings:
    """Settings of a simulated shop.

    Raises
    ------
    ChurnRadarError
        If a value is out of range.
    """

    #: Number of customers over the whole history, and its length; it ends at ``END``.
    customers: int = 5000
    days: int = 540
    #: The same settings and seed give the same files.
    seed: int = 1
    #: ``en`` or ``zh``.
    language: str = "en"
    #: Amplitude of demand over the year, and size of the effects of campaigns: ``none``, ``mild`` or ``strong``.
    season: str = "mild"
    campaigns: str = "mild"
    #: Mean days between a customer's visits without an order.
    visit_every_days: float = 8.0

    def __post_init__(self) -> None:
        if self.customers < 1:
            raise ChurnRadarError(f"--customers is {self.customers}; expected at least 1")
        if self.days < 60:
            raise ChurnRadarError(f"--days is {self.days}; expected at least 60")
        if not self.visit_every_days > 0:
            raise ChurnRadarError(f"--visit-every-days is {self.visit_every_days:g}; expected more than 0")
        for name, choices in (("language", LANGUAGES), ("season", SEASON_SWING), ("campaigns", CAMPAIGN_SHARES)):
            if getattr(self, name) not in choices:
                raise ChurnRadarError(f"--{name} is {getattr(self, name)}; expected one of {', '.join(choices)}")


def simulate(settings: SimulationSettings, raw: Path, truth: Path) -> dict[str, int]:
    """Write the raw tables and the true parameters behind them as Parquet.

    ``raw`` gets the seven raw tables, ``truth`` what no model may read. Files are moved there at the end, so that a
    killed simulation leaves none. Returns the rows per raw table.
    """
    partial = raw.with_name(f"{raw.name}.partial"), truth.with_name(f"{truth.name}.partial")
    for folder in partial:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    writers: dict[Path, pq.ParquetWriter] = {}
    counts: dict[str, int] = {}
    start = END - pd.Timedelta(days=settings.days)
    blocks = range(0, settings.customers, CUSTOMERS_PER_BLOCK)
    for number, first in enumerate(track(blocks, "Simulating")):
        rng = np.random.default_rng([settings.seed, number])
        size = min(CUSTOMERS_PER_BLOCK, settings.customers - first)
        people = live(size, settings.days, start.day_of_year, settings.season, rng, settings.campaigns)
        bank = LANGUAGES[settings.language]
        block = Block(people, number, first, start, settings.days, bank, rng, settings.visit_every_days)
        for folder, tables in zip(partial, block.tables(), strict=True):
            for name, table in tables.items():
                _append(writers, folder / f"{name}.parquet", table)
                if folder == partial[0]:
                    counts[name] = counts.get(name, 0) + len(table)
    for writer in writers.values():
        writer.close()
    for folder, target in zip(partial, (raw, truth), strict=True):
        target.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            file.replace(target / file.name)
        folder.rmdir()
    return counts


def _append(writers: dict[Path, pq.ParquetWriter], path: Path, table: pd.DataFrame) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
    # the first block sets the column types; a column that is null there would have none
    fields = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in arrow.schema]
    arrow = arrow.cast(pa.schema(fields))
    if path not in writers:
        writers[path] = pq.ParquetWriter(path, arrow.schema, compression="zstd")
    writers[path].write_table(arrow.cast(writers[path].schema))
