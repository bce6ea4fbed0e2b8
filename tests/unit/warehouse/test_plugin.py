import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.environments import Environment
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.sparkpython.impl import _run_model
from dbt_common.exceptions import DbtRuntimeError

from inference.warehouse import plugin as plugin_module

REFUSES = """
from inference.errors import ChurnRadarError
class dbtObj:
    def __init__(self, load): pass
def model(dbt, session):
    raise ChurnRadarError("orders.amount: the column is missing")
"""
#: Two Python models of a build: one imports torch for the first time, one computes with scipy.
MODELS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from scipy.special import logsumexp
from inference.warehouse.plugin import import_torch

import_torch()
with ThreadPoolExecutor(2) as threads:
    models = threads.submit(__import__, "torch"), threads.submit(logsumexp, np.zeros(1))
print(models[1].result())
"""


@pytest.fixture
def plugin(churn_home: Path, monkeypatch) -> BasePlugin:
    monkeypatch.setattr(Environment, "run_python_job", Environment.run_python_job)
    return BasePlugin.create("inference.warehouse.plugin", config={"home": str(churn_home)})


def test_memory_is_bounded_by_a_variable(plugin, monkeypatch):
    monkeypatch.setenv("CHURN_MEMORY", "1GB")
    with duckdb.connect() as connection:
        plugin.configure_cursor(connection)
        assert connection.sql("select current_setting('memory_limit')").fetchone() == ("953.6 MiB",)


def test_a_session_has_the_salt(plugin, churn_home):
    with duckdb.connect() as connection:
        plugin.configure_cursor(connection)
        salt = connection.sql("select getvariable('churn_salt')").fetchone()
    assert salt == ((churn_home / "salt").read_text().strip(),)


def test_an_impossible_size_is_refused(plugin, monkeypatch):
    monkeypatch.setenv("CHURN_MEMORY", "80%")
    with duckdb.connect() as connection, pytest.raises(DbtRuntimeError, match="CHURN_MEMORY is 80%; expected a size"):
        plugin.configure_cursor(connection)


@pytest.mark.usefixtures("plugin")
def test_dbt_prints_one_line_of_a_python_model_that_refuses_its_input():
    with pytest.raises(DbtRuntimeError) as of_duckdb:
        Environment.run_python_job(duckdb.connect(), None, "m", REFUSES, DuckDBCredentials())
    node = {"alias": "m", "compiled_code": REFUSES, "original_file_path": "m.py"}
    with pytest.raises(DbtRuntimeError) as of_spark:
        _run_model(node, SimpleNamespace(table=None), duckdb.connect())
    for caught in (of_duckdb, of_spark):
        assert caught.value.msg == "orders.amount: the column is missing"


@pytest.mark.usefixtures("plugin")
def test_other_errors_of_a_python_model_keep_their_traceback():
    code = REFUSES.replace("ChurnRadarError(", "KeyError(")
    with pytest.raises(DbtRuntimeError, match="Traceback"):
        Environment.run_python_job(duckdb.connect(), None, "m", code, DuckDBCredentials())


def test_torch_is_imported_only_where_python_models_run(plugin, churn_home, monkeypatch):
    called = []
    monkeypatch.setattr(plugin_module, "get_flags", lambda: SimpleNamespace(WHICH="build"))
    monkeypatch.setattr(plugin_module, "gc", SimpleNamespace(set_threshold=lambda _: None, freeze=None))
    monkeypatch.setattr(plugin_module, "atexit", SimpleNamespace(register=lambda _: None))
    monkeypatch.setattr(plugin_module, "import_torch", lambda: called.append(True))
    plugin_module.prepare(churn_home)
    assert not called
    with pytest.raises(DbtRuntimeError):
        Environment.run_python_job(duckdb.connect(), None, "m", REFUSES, DuckDBCredentials())
    assert called == [True]


def test_scipy_computes_while_a_model_imports_torch():
    done = subprocess.run([sys.executable, "-c", MODELS], capture_output=True, text=True, check=True)
    assert done.stdout == "0.0\n"
