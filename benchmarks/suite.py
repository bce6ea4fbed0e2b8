"""Shared code of the benchmarks: measure a command, print a table, store the figures, draw them.

    python benchmarks/suite.py

draws ``docs/benchmarks.md`` from the newest figures of each benchmark on each machine in ``benchmarks/results``.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.table import Table

from inference.home import PROJECT_DIR
from inference.reporting import tables

RESULTS = Path(__file__).with_name("results")
PAGE = PROJECT_DIR / "docs" / "benchmarks.md"
#: Maximum length of a bar, as a multiple of the target.
MAX_DRAWN = 2
#: Interval at which a command's memory is measured.
EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Figure:
    """One quantity, measured for Churn Radar and the peer in the same run.

    Parameters
    ----------
    what : str
        Name of the quantity.
    ours, peer : float
        Medians of Churn Radar and of the peer.
    unit : str
        Unit of both.
    ratio : float
        Ratio of ``ours`` and ``peer``, in the direction of the target.
    target : str
        Target of the ratio, ``at least`` or ``at most`` a number; empty without a target.
    """

    what: str
    ours: float
    peer: float
    unit: str
    ratio: float
    target: str = ""

    @property
    def reached(self) -> float | None:
        """Ratio relative to the target: 1 if it is just met, more if it is exceeded; None without a target."""
        if not self.target:
            return None
        bound = float(self.target.split()[-1])
        return self.ratio / bound if self.target.startswith("at least") else bound / self.ratio


@dataclass(frozen=True)
class Measured:
    """Cost of a command: wall and CPU seconds, and peak memory of all its processes in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(command: Sequence[str | Path], env: dict[str, str], log: Path) -> Measured:
    """Run a command in the project's folder; its output goes to a file."""
    peak, used = 0, _cpu_seconds()
    started = time.monotonic()
    with log.open("a") as output:
        process = subprocess.Popen(command, cwd=PROJECT_DIR, env=os.environ | env, stdout=output, stderr=output)
        root = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, resident(root))
            time.sleep(EVERY_SECONDS)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"{command[0]} failed:\n{log.read_text()[-2000:]}")
    return Measured(seconds, _cpu_seconds() - used, peak / 1e6)


def report(
    benchmark: str,
    title: str,
    peer: str,
    figures: Sequence[Figure],
    runs: int = 1,
    forget: bool = False,
    device: str = "cpu",
    curve: bool = False,
) -> None:
    """Print a benchmark's figures and append them to ``benchmarks/results``.

    Parameters
    ----------
    benchmark : str
        Name of the file of results.
    title : str
        What was measured, on what.
    peer : str
        Name of the peer.
    figures : sequence of Figure
        Medians.
    runs : int
        Number of runs.
    forget : bool
        Print only.
    device : str
        ``cpu`` or ``cuda``; each has its own file of results.
    curve : bool
        Draw the figures as a curve.
    """
    on = machine(device)
    if device != "cpu":  # targets are for CPU against CPU
        figures = [replace(figure, target="") for figure in figures]
    table = Table(title=title, caption=f"medians of {runs} runs; {on}" if runs > 1 else f"one run; {on}")
    for heading, justify in (("", "left"), ("Churn Radar", "right"), (peer, "right"), ("ratio", "right")):
        table.add_column(heading, justify=justify)
    table.add_column("target")
    for f in figures:
        table.add_row(f.what, f"{f.ours:,.5g} {f.unit}", f"{f.peer:,.5g} {f.unit}", f"{f.ratio:.3g}", f.target)
    tables.console().print(table)
    if forget:
        return
    RESULTS.mkdir(exist_ok=True)
    result = {
        "benchmark": benchmark,
        "title": title,
        "peer": peer,
        "runs": runs,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": on,
        "curve": curve,
        "figures": [asdict(figure) for figure in figures],
    }
    with (RESULTS / f"{benchmark}{'' if device == 'cpu' else f'_{device}'}.jsonl").open("a") as output:
        output.write(json.dumps(result) + "\n")


def arguments_of(description: str, device: bool = False) -> argparse.ArgumentParser:
    """Parser with the shared options of benchmarks; ``device`` adds --device."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forget", action="store_true", help="print the figures without storing them")
    if device:
        parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser


def machine(device: str = "cpu") -> str:
    """Processor, cores, memory and system of this machine, and its GPU where that was measured."""
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    cpu = {name.strip(): value.strip() for name, value in lines}
    model = cpu.get("model name", platform.processor())
    if "cpu family" in cpu:  # clouds hide the exact model, although generations differ twofold in speed
        model += f" family {cpu['cpu family']} model {cpu['model']}"
    memory = psutil.virtual_memory().total / 2**30
    name = f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}"
    if device == "cuda":
        import torch

        name = f"{torch.cuda.get_device_name()}; {name}"
    return name


def draw(results: Sequence[dict]) -> str:
    """Make the page of all benchmarks, a table and a chart of targets each."""
    parts = [
        "# Benchmarks",
        "Made by `python benchmarks/suite.py` from the newest line of each machine in each file of "
        "`benchmarks/results`; each line was appended by the benchmark of that name (`make bench`, or with "
        "`--device cuda`). Both sides of a ratio were measured in the same run on "
        "the same data; machines are shared, so ratios say more than seconds.",
    ]
    for result in results:
        figures = [Figure(**figure) for figure in result["figures"]]
        parts.append(f"## {result['title']}")
        runs = f"Medians of {result['runs']} runs" if result["runs"] > 1 else "One run"
        parts.append(f"{runs}, {result['measured_at'][:10]}, commit {result['commit']}; {result['machine']}.")
        rows = [f"| | Churn Radar | {result['peer']} | ratio | target |", "|---|---:|---:|---:|---|"]
        rows += [
            f"| {f.what} | {f.ours:,.5g} {f.unit} | {f.peer:,.5g} {f.unit} | **{f.ratio:.3g}** | {f.target} |"
            for f in figures
        ]
        parts.append("\n".join(rows))
        if result.get("curve"):
            names = ", ".join(f'"{f.what}"' for f in figures)
            parts.append(
                f'```mermaid\nxychart-beta\n    title "{figures[0].unit}: Churn Radar (bars) and its peer (line)"\n'
                f"    x-axis [{names}]\n    bar [{', '.join(f'{f.ours:.4g}' for f in figures)}]\n"
                f"    line [{', '.join(f'{f.peer:.4g}' for f in figures)}]\n```"
            )
        if with_target := [f for f in figures if f.reached is not None]:
            names = ", ".join(f'"{f.what.strip()}"' for f in with_target)
            # long bars are cut, so that missed targets are visible
            bars = ", ".join(f"{min(f.reached, MAX_DRAWN):.3g}" for f in with_target)
            parts.append(
                f'```mermaid\nxychart-beta horizontal\n    title "Targets, reached from 1 on"\n    x-axis [{names}]\n'
                f"    y-axis 0 --> {MAX_DRAWN}\n    bar [{bars}]\n```"
            )
    return "\n\n".join(parts) + "\n"


def newest() -> list[dict]:
    """Return the newest result of each benchmark on each machine, by name of the benchmark."""
    results = [json.loads(line) for file in sorted(RESULTS.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return list({(result["benchmark"], result["machine"]): result for result in results}.values())


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT_DIR, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _cpu_seconds() -> float:
    """CPU time of all finished commands and their child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident(root: psutil.Process) -> int:
    """Resident memory of a process and its children, in bytes."""
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    PAGE.write_text(draw(newest()))
    print(PAGE)
