import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from dbt.adapters.sparkpython.column import SparkPythonColumn
from dbt.adapters.sparkpython.connections import PLAN, SparkPythonCredentials
from debian import debian_program

from inference import cli
from inference.pseudonyms import salt
from inference.warehouse import spark

#: Less to compile, and less to wait for.
SMALL = "spark.sql.codegen.wholeStage=false spark.sql.shuffle.partitions=1 'spark.driver.extraJavaOptions={}'"
JAVA = "-XX:TieredStopAtLevel=1 -Dderby.system.durability=test -Dderby.stream.error.file=/dev/null"


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Iterator[object]:
    """A session in a home folder of its own, with a schema."""
    java = debian_program("java", "openjdk-17-jre-headless", "usr/lib/jvm/java-17*/bin")
    variables = {
        "JAVA_HOME": str(Path(java).resolve().parents[1]),
        "CHURN_HOME": str(tmp_path_factory.mktemp("spark")),
        "CHURN_SPARK_CONF": SMALL.format(JAVA),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        started = spark.session()
        started.sql("create schema shop")
        yield started
        started.stop()


def rows(session, query: str) -> list[tuple]:
    return [tuple(row) for row in session.sql(query).collect()]


def names(session) -> set[str]:
    return {row.tableName for row in session.sql("show tables in shop").collect()}


@pytest.mark.parametrize(
    ("contract", "type_name"),
    [
        ("varchar", "string"),
        ("varchar[]", "array<string>"),
        ("float[]", "array<float>"),
        ("blob", "binary"),
        ("double", "double"),
        ("bigint", "bigint"),
    ],
)
def test_contracts_name_types_as_duckdb_does(contract, type_name):
    assert SparkPythonColumn.translate_type(contract) == type_name


def test_ansi_mode_is_not_turned_off():
    assert SparkPythonCredentials(schema="shop").server_side_parameters == {}
    assert spark.settings(Path("home"))["spark.sql.ansi.enabled"] == "true"


def test_errors_end_before_the_plan():
    message = "[UNRESOLVED_COLUMN] `x` cannot be resolved. SQLSTATE: 42703; line 1 pos 7;\n'Project ['x]\n+- OneRow"
    assert PLAN.split(message)[0] == "[UNRESOLVED_COLUMN] `x` cannot be resolved. SQLSTATE: 42703; line 1 pos 7"


def test_settings_of_a_cluster_replace_those_of_this_machine(monkeypatch, tmp_path):
    assert spark.settings(tmp_path)["spark.master"] == "local[2]"
    monkeypatch.setenv("CHURN_SPARK_CONF", "spark.master=spark://host:7077 'spark.app.x=a b' spark.sql.ansi.enabled=no")
    settings = spark.settings(tmp_path)
    assert (settings["spark.master"], settings["spark.app.x"]) == ("spark://host:7077", "a b")
    assert settings["spark.sql.ansi.enabled"] == "true"  # SQL gives the same results everywhere
    monkeypatch.delenv("CHURN_SPARK_CONF")
    (tmp_path / "spark-defaults.conf").write_text("spark.master yarn\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert "spark.master" not in spark.settings(tmp_path)


def test_an_unknown_engine_is_refused_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["churn-radar", "score", "--engine", "flink"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "churn-radar: --engine is flink; expected local or spark\n"


def test_nanoseconds_are_read_as_microseconds(session, tmp_path):
    moment = pd.Timestamp("2024-02-29 12:00:00.123456789")
    pd.DataFrame({"at": [moment, pd.NaT], "n": [1, 2]}).to_parquet(tmp_path / "ns.parquet")
    assert pq.read_schema(tmp_path / "ns.parquet").field("at").type.unit == "ns"
    relation = spark.file_relation(tmp_path / "ns.parquet")
    assert spark.column_types(relation) == {"at": "TIMESTAMP_NTZ", "n": "BIGINT"}
    assert rows(session, f"select * from {relation} order by n") == [(moment.floor("us").to_pydatetime(), 1), (None, 2)]


def test_what_is_not_there_has_no_columns(session, tmp_path):
    assert spark.column_types(spark.file_relation(tmp_path / "none.parquet")) is None
    assert spark.column_types("shop.none") is None
    assert spark.column_types("(select 1 as A)") == {"a": "INT"}


def test_a_table_is_rewritten_from_itself_and_keeps_its_comment(session):
    session.sql("create table shop.rewritten using parquet as select explode(sequence(1, 3)) as n")
    session.sql("comment on table shop.rewritten is 'built with this'")
    spark.rewrite("shop.rewritten", "select n from shop.rewritten where n <> 2")
    assert rows(session, "select n from shop.rewritten order by n") == [(1,), (3,)]
    assert spark.table_comment("shop.rewritten") == "built with this"
    assert {name for name in names(session) if name.startswith("rewritten")} == {"rewritten"}


def test_a_table_takes_the_place_of_a_view(session):
    session.sql("create view shop.changed as select 1 as n")
    session.sql("create table shop.changed__dbt_new using parquet as select 2 as n")
    spark.put_in_place("shop.changed")
    assert rows(session, "select n from shop.changed") == [(2,)]


def test_what_a_killed_build_left_is_mended(session):
    for name in ("gone__dbt_old", "gone__dbt_new", "there", "there__dbt_old", "there__dbt_new__dbt_new"):
        session.sql(f"create table shop.{name} using parquet as select '{name}' as was")
    spark.mend(session, "shop")
    assert rows(session, "select was from shop.gone") == [("gone__dbt_old",)]
    assert rows(session, "select was from shop.there") == [("there",)]
    assert not [name for name in names(session) if "__dbt" in name]
    spark.mend(session, "no_such_schema")


def test_a_query_is_exported_in_its_order_with_its_types(session, tmp_path):
    query = "select n, cast('2024-01-01' as timestamp) as at, array(cast(n as float)) as a from "
    spark.export(query + "(select explode(sequence(1, 9)) as n) order by n desc", tmp_path / "rows.parquet")
    with duckdb.connect() as connection:
        exported = connection.read_parquet(str(tmp_path / "rows.parquet"))
        assert [str(kind) for kind in exported.types] == ["INTEGER", "TIMESTAMP", "FLOAT[]"]
        assert [row[0] for row in exported.fetchall()] == list(range(9, 0, -1))
    assert not (tmp_path / "tmp_rows.parquet").exists()


def test_python_models_read_relations_and_the_names_of_tables(session, tmp_path):
    session.sql("create table shop.named using parquet as select 1 as n")
    with duckdb.connect() as memory:
        model_session = spark.ModelSession(memory, tmp_path)
        assert model_session.table("shop.named").filter("n = 1").fetchall() == [(1,)]
        query = "select table_name from information_schema.tables where table_schema = 'shop'"
        assert ("named",) in model_session.sql(query).fetchall()


def test_views_hash_with_the_salt_and_do_not_contain_it(session, tmp_path):
    folder = Path(os.environ["CHURN_HOME"])
    spark.write_salt(folder)
    file = folder / "spark" / "salt"
    assert file.stat().st_mode & 0o777 == 0o600
    session.sql(f"create view shop.salted as select max(value) = 'x' as n from {spark.salt_relation(folder)}")
    assert rows(session, f"select value from {spark.salt_relation(folder)}") == [(salt(folder),)]
    description = rows(session, "describe extended shop.salted")
    assert not [row for row in description if salt(folder) in str(row)]
