"""How many threads libraries use, how they wait for each other, and trainings side by side in processes."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joblib import Parallel, cpu_count, delayed, parallel_config

from inference.errors import ChurnRadarError


def prepare_threads() -> None:
    """Set how many threads OpenMP uses and how they wait, before the first library with OpenMP is loaded.

    A thread that waits for others spins, by default for milliseconds. On a busy machine that takes the core from the
    thread it waits for, and training becomes ten times slower. 20,000 turns are too few to be felt there, and keep
    nearly all of the speed of a quiet machine. Values that the user set are kept.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(n_threads()))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def n_threads() -> int:
    """Return ``CHURN_THREADS``, else ``OMP_NUM_THREADS``, else the cores that this process and its container may use.

    Raises ChurnRadarError where ``CHURN_THREADS`` is no positive whole number.
    """
    if wanted := os.environ.get("CHURN_THREADS"):
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ChurnRadarError(f"CHURN_THREADS is {wanted}; expected a whole number, 1 or more")
        return int(wanted)
    by_openmp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list has one number per nesting level
    return int(by_openmp) if by_openmp.isdecimal() and int(by_openmp) else cpu_count()


def side_by_side(function: Callable[..., Any], tasks: Sequence[tuple], n_processes: int) -> Iterator[Any]:
    """Call a function of a module with each tuple of arguments; yield the results in order.

    With more than one process, each has one thread, so that they do not take cores from each other.
    """
    if n_processes == 1 or len(tasks) == 1:
        yield from (function(*task) for task in tasks)
        return
    with parallel_config("loky", n_jobs=min(n_processes, len(tasks)), inner_max_num_threads=1):
        calls = [delayed(_in_process)(os.getpid(), function, task) for task in tasks]
        yield from Parallel(return_as="generator", max_nbytes=None)(calls)


def _in_process(parent: int, function: Callable[..., Any], task: tuple) -> Any:
    """Call a function in a process that ends with its parent, also when that is killed."""

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ["TTY_COMPATIBLE"] = "0"  # rich draws no bar, which would be drawn over those of other processes
    return function(*task)
