import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from inference.erasure import erase as erasing
from inference.erasure import scrubbing
from inference.erasure.erase import erase
from inference.errors import ChurnRadarError
from inference.home import EFFECTS, GRAPHS
from inference.pseudonyms import duckdb_salt_sql, pseudonym, salted_hash
from inference.text.cleaning import hash_text
from inference.text.encoder.vector_cache import cached_vectors
from inference.text.sentences import sentences, without_sentence

LEAVER = "customer-000042"
OTHERS = ("customer-000041", "customer-000043")
#: Three sentences, so that vectors of parts are kept as well.
THEIRS = "The zebra-striped kettle hums oddly. It's my third one! Never again, said customer-000042."
SHARED = "It came late, and nobody answered my letters."


@pytest.fixture
def shop(churn_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with every kind of file that holds customers."""
    monkeypatch.setenv("DBT_TARGET_PATH", str(churn_home / "target"))
    monkeypatch.setenv("DBT_LOG_PATH", str(churn_home / "logs"))
    for folder in ("raw", "features", "published", "target", "logs", "feast", "mlflow/artifacts/model"):
        (churn_home / folder).mkdir(parents=True)
    write_raw(churn_home / "raw")
    write_warehouse(churn_home)
    write_online_store(churn_home / "feast" / "online.db")
    cached_vectors("encoder", {hash_text(t): t for t in texts_that_are_encoded()}, encode)
    (churn_home / "logs" / "dbt.log").write_text(f"found '{LEAVER}' and {OTHERS[0]}\nkept: {THEIRS}\nlast line\n")
    (churn_home / "target" / "manifest.json").write_text(json.dumps({"text": THEIRS, "by": LEAVER, "and": OTHERS[1]}))
    (churn_home / "target" / "partial_parse.msgpack").write_bytes(b"\x00\xffvars" + LEAVER.encode())
    (churn_home / "features" / "tmp_half.parquet").write_bytes(b"PAR1" + LEAVER.encode())
    (churn_home / "published" / "report.html").write_text("<p>It&#39;s my third one!</p>")
    return churn_home


def write_raw(folder: Path) -> None:
    customers = [*OTHERS, LEAVER]
    tables = {
        "orders": pd.DataFrame({"order_id": ["o1", "o2", "o3"], "customer_id": customers, "amount": [1.0, 2.0, 3.0]}),
        "order_items": pd.DataFrame({"order_id": ["o1", "o2", "o3", "o3"], "product_id": list("abcd")}),
        "reviews": pd.DataFrame(
            {
                "review_id": ["r1", "r2", "r3"],
                "customer_id": [OTHERS[0], LEAVER, LEAVER],
                "review_text": [SHARED, THEIRS, SHARED],
            }
        ),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


def write_warehouse(folder: Path) -> None:
    with duckdb.connect(folder / "churn_radar.duckdb") as connection:
        connection.execute(
            f"""
            create table churn_predictions (customer_id varchar not null, churn_probability double default 0.5);
            insert into churn_predictions select unnest(['{LEAVER}', '{OTHERS[0]}', '{OTHERS[1]}']), 0.25;
            comment on table churn_predictions is 'built with these settings';
            create table sequence_features as
                select customer_id, list(review_text) as texts from '{folder}/raw/reviews.parquet' group by 1;
            create view int_texts as
                select 'reviews:' || review_id as text_id, customer_id, review_text as text
                from '{folder}/raw/reviews.parquet';
            create view churn_scores as select * from churn_predictions;
            create table review_embeddings as
                select text_id, customer_id, sha256(text)[:32] as text_hash from int_texts;
            create table text_quotes as select text_id, text as quote from int_texts;
            create table stg_rejected_rows as
                select 'orders' as source_table, '{{"customer_id":"{LEAVER}"}}' as row_content
                union all select 'order_items', '{{"order_id":"o3"}}'
                union all select 'order_items', '{{"order_id":"o1"}}';
            copy (select * from churn_predictions) to '{folder}/published/churn_scores.parquet';
            copy (select * from sequence_features) to '{folder}/features/sequence_features.parquet';
            copy (select * from churn_predictions) to '{folder}/mlflow/artifacts/model/validation.parquet';
            """
        )


def write_online_store(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for view in ("scores", "texts"):
            connection.execute(
                f"create table {view} (entity_key blob, feature_name text, value blob, value_text text, "
                "primary key (entity_key, feature_name))"
            )
        for customer in (*OTHERS, LEAVER):
            row = (online_key("customer_id", customer), "churn_probability", Value(double_val=0.5).SerializeToString())
            connection.execute("insert into scores values (?, ?, ?, null)", row)
        # r9 is a review that the shop itself deleted since it was materialised
        for text, customer, quote in (("r1", OTHERS[0], SHARED), ("r2", LEAVER, THEIRS), ("r9", LEAVER, "gone")):
            for name, value in (("customer_id", customer), ("quote", quote)):
                row = (
                    online_key("text_id", f"reviews:{text}"),
                    name,
                    Value(string_val=value).SerializeToString(),
                    value,
                )
                connection.execute("insert into texts values (?, ?, ?, ?)", row)
        connection.commit()


def online_key(name: str, value: str) -> bytes:
    return serialize_entity_key(EntityKey(join_keys=[name], entity_values=[Value(string_val=value)]), 3)


def texts_that_are_encoded() -> list[str]:
    return [SHARED, THEIRS, *(without_sentence(THEIRS, *span) for span in sentences(THEIRS))]


def encode(texts: list[str]) -> np.ndarray:
    return np.ones((len(texts), 2), np.float32)


def bytes_of(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def values_of(folder: Path) -> str:
    """Every value of every Parquet file, DuckDB table and online row, as text."""
    values = [pq.read_table(file).to_pydict() for file in sorted(folder.rglob("*.parquet"))]
    with duckdb.connect(folder / "churn_radar.duckdb") as connection:
        connection.execute(duckdb_salt_sql("0" * 16))
        values += [connection.sql(f"from {t}").fetchall() for (t,) in connection.sql("show tables").fetchall()]
    with closing(sqlite3.connect(folder / "feast" / "online.db")) as connection:
        values += [connection.execute(f"select * from {view}").fetchall() for view in ("scores", "texts")]
    return repr(values)


def assert_gone(folder: Path) -> None:
    for trace in (LEAVER, "zebra-striped", "hums oddly", "my third one"):
        assert trace.encode() not in bytes_of(folder), trace
        assert trace not in values_of(folder), trace
    for kept in (*OTHERS, SHARED):
        assert kept in values_of(folder), kept


def test_nothing_is_left_of_the_customer_and_everything_of_others(shop):
    done = erase(LEAVER)
    assert_gone(shop)
    assert pq.read_table(shop / "raw" / "order_items.parquet")["order_id"].to_pylist() == ["o1", "o2"]
    assert "kept: [erased]\nlast line" in (shop / "logs" / "dbt.log").read_text()
    assert json.loads((shop / "target" / "manifest.json").read_text())["by"] == "[erased]"
    assert not (shop / "target" / "partial_parse.msgpack").exists()
    (part,) = (shop / "embeddings" / "encoder").glob("*.parquet")
    assert pq.read_table(part)["text_hash"].to_pylist() == [hash_text(SHARED)]
    assert done.removed["raw/order_items.parquet"] == 2
    assert done.removed["churn_radar.duckdb:stg_rejected_rows"] == 2


def test_the_warehouse_keeps_views_comments_and_constraints(shop):
    erase(LEAVER)
    with duckdb.connect(shop / "churn_radar.duckdb") as connection:
        assert connection.sql("select comment from duckdb_tables() where comment is not null").fetchall() == [
            ("built with these settings",)
        ]
        assert connection.sql("select count(*) from churn_scores").fetchall() == [(2,)]
        connection.execute("insert into churn_predictions (customer_id) values ('new')")
        with pytest.raises(duckdb.ConstraintException):
            connection.execute("insert into churn_predictions (customer_id) values (null)")


def test_the_receipt_does_not_identify_the_customer(shop):
    done = erase(LEAVER)
    receipt = json.loads(done.receipt.read_text())
    assert done.receipt.parent == shop / "erasures"
    assert receipt["customer_hash"] == salted_hash("erased", LEAVER)
    assert receipt["removed"]["raw/orders.parquet"] == 1
    assert receipt["searched"]["files"] > 10
    assert receipt["found_afterwards"] == 0
    assert LEAVER not in done.receipt.read_text()
    assert pseudonym(LEAVER) not in done.receipt.read_text()
    assert (shop / "salt").stat().st_mode & 0o777 == 0o600


def test_an_unknown_customer_is_refused_and_nothing_changes(shop):
    with pytest.raises(ChurnRadarError, match=r"customer customer-000099 is not in .*; nothing was changed"):
        erase("customer-000099")
    assert not (shop / "erased_customers.parquet").exists()
    assert not (shop / "erasures").exists()
    assert LEAVER.encode() in bytes_of(shop)


def test_erasing_again_searches_again(shop):
    erase(LEAVER)
    again = erase(LEAVER)
    assert again.removed == {}
    assert again.receipt.exists()
    assert len(pq.read_table(shop / "erased_customers.parquet")) == 1


def test_a_run_after_a_killed_one_finishes(shop, monkeypatch):
    replaced, max_files = [], 0

    @contextmanager
    def replace_a_few_files(file: Path) -> Iterator[Path]:
        partial = file.with_name(f"{file.name}.killed.partial")
        file.parent.mkdir(exist_ok=True)
        yield partial
        if len(replaced) == max_files:
            raise KeyboardInterrupt  # and the partial file stays
        replaced.append(file)
        partial.replace(file)

    for module in (scrubbing, erasing):
        monkeypatch.setattr(module, "whole_file", replace_a_few_files)
    (shop / "published" / "churn_scores.parquet.erasing").write_bytes(b"PAR1" + LEAVER.encode())  # of an older version
    n_kills = 0
    while not list(shop.glob("erasures/*.json")) and n_kills < 30:
        # none at first, then the list of the erased; later two, as the warehouse is rewritten in each run
        replaced.clear()
        max_files = min(n_kills, 2)
        try:
            erase(LEAVER)
        except KeyboardInterrupt:
            n_kills += 1
    assert 5 < n_kills < 30
    assert_gone(shop)
    assert not [*shop.rglob("*.erasing"), *shop.rglob("*.partial*")]


def test_files_that_cannot_be_scrubbed_are_named_and_there_is_no_receipt(shop):
    (shop / "notes.bin").write_bytes(b"\x00\x01" + LEAVER.encode())
    with pytest.raises(ChurnRadarError, match=r"still found in 1 places, and no receipt was written: notes.bin \(1\)"):
        erase(LEAVER)
    assert not (shop / "erasures").exists()
    (shop / "notes.bin").unlink()
    assert erase(LEAVER).receipt.exists()
    assert_gone(shop)


@pytest.mark.parametrize("times", [1, erasing.MAX_REWRITES, erasing.MAX_REWRITES + 1])
def test_a_database_in_which_bytes_are_left_is_rewritten(shop, monkeypatch, times):
    """As DuckDB leaves them at times between its blocks, of what its memory held before."""
    left = iter(range(times))

    def scrub(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, int]:
        removed = scrubbing.scrub_duckdb(connection, file)
        if next(left, None) is not None:
            with file.open("ab") as opened:
                opened.write(bytes(50) + LEAVER.encode() + bytes(50))
        return removed

    monkeypatch.setattr(erasing, "scrub_duckdb", scrub)
    if times > erasing.MAX_REWRITES:
        with pytest.raises(ChurnRadarError, match=r"still found in 1 places.*: churn_radar.duckdb \(1\)"):
            erase(LEAVER)
    else:
        receipt = json.loads(erase(LEAVER).receipt.read_text())
        assert receipt["searched"]["files"] < 40
        assert_gone(shop)


def test_damaged_files_that_were_set_aside_are_removed(shop):
    (shop / "feast" / "online.db.damaged").write_bytes(b"\0" + LEAVER.encode())
    erase(LEAVER)
    assert_gone(shop)


def test_a_running_build_is_not_disturbed(shop):
    holds = f"import duckdb; c = duckdb.connect('{shop}/churn_radar.duckdb'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as build:
        assert build.stdout.readline() == b"open\n"
        with pytest.raises(ChurnRadarError, match="cannot be opened; expected nobody who has it open"):
            erase(LEAVER)
        build.communicate(b"\n")
    assert LEAVER.encode() in bytes_of(shop / "logs")


def test_tables_of_the_shop_outside_the_home_are_named_and_not_changed(shop, tmp_path, monkeypatch):
    (shop / "raw").rename(tmp_path / "lake")
    (shop / "raw").mkdir()
    monkeypatch.setenv("CHURN_RAW_DIR", str(tmp_path / "lake"))
    done = erase(LEAVER, {"churn__events_source": "web.visits"})
    (note,) = done.notes
    assert f"{tmp_path}/lake/orders.parquet, {tmp_path}/lake/reviews.parquet, web.visits" in note
    assert "order_items" not in note or f"{tmp_path}/lake/order_items.parquet" in note
    for trace in (LEAVER, "zebra-striped"):
        assert trace.encode() not in bytes_of(shop)
    assert LEAVER in pq.read_table(tmp_path / "lake" / "orders.parquet")["customer_id"].to_pylist()


def test_renamed_columns_are_found(shop):
    orders = pd.read_parquet(shop / "raw" / "orders.parquet")
    renamed = orders.rename(columns={"customer_id": "buyer", "order_id": "no"})
    renamed.to_parquet(shop / "raw" / "orders.parquet", index=False)
    mapping = {"customer_id": "buyer", "order_id": "no"}
    done = erase(LEAVER, {"churn__orders_columns": mapping})
    assert done.removed["raw/orders.parquet"] == 1
    assert done.removed["raw/order_items.parquet"] == 2
    assert_gone(shop)


def test_a_pseudonymised_customer_is_found_by_the_shops_own_id(shop):
    hidden = pseudonym(LEAVER)
    with duckdb.connect(shop / "churn_radar.duckdb") as connection:
        connection.execute(f"update churn_predictions set customer_id = '{hidden}' where customer_id = '{LEAVER}'")
        connection.execute(f"copy churn_predictions to '{shop}/published/churn_scores.parquet'")
    done = erase(LEAVER)
    assert done.removed["churn_radar.duckdb:churn_predictions"] == 1
    assert done.removed["published/churn_scores.parquet"] == 1
    assert hidden not in values_of(shop)
    assert hidden.encode() not in bytes_of(shop)


def test_a_short_number_is_not_taken_for_a_quantity(shop):
    with duckdb.connect(shop / "churn_radar.duckdb") as connection:
        connection.execute("insert into churn_predictions values ('12', 12), ('312', 1), ('120', 1)")
        connection.execute("create table stock as select '12' as product_id, 12 as quantity, 'shelf 12' as place")
    (shop / "logs" / "dbt.log").write_text("12 rows in 0.12 s\nno such customer '12'\n")
    vocabulary = shop / "mlflow" / "artifacts" / "model" / "tokenizer.json"
    vocabulary.write_text('{"vocab": {"12": 2260}}')
    for folder in (EFFECTS, GRAPHS):
        (shop / folder).mkdir(parents=True)
        (shop / folder / "learned.json").write_text('{"12": 0.5}')
    erase("12")
    assert vocabulary.read_text() == '{"vocab": {"12": 2260}}'
    assert not (shop / EFFECTS).exists()
    assert not (shop / GRAPHS).exists()
    with duckdb.connect(shop / "churn_radar.duckdb") as connection:
        assert connection.sql("select customer_id from churn_predictions where length(customer_id) < 4").fetchall() == [
            ("312",),
            ("120",),
        ]
        assert connection.sql("from stock").fetchall() == [("12", 12, "shelf 12")]
    assert (shop / "logs" / "dbt.log").read_text() == "12 rows in 0.12 s\nno such customer '[erased]'\n"


def test_without_a_home_folder_the_setting_is_named(churn_home):
    with pytest.raises(ChurnRadarError, match="no such folder; expected the shop's state: set CHURN_HOME"):
        erase(LEAVER)


def test_an_empty_id_is_refused(shop):
    with pytest.raises(ChurnRadarError, match="--customer is empty"):
        erase(" ")


def test_tables_in_postgresql_are_refused(shop, monkeypatch):
    monkeypatch.setenv("CHURN_ONLINE_SCHEMA", "feast")
    with pytest.raises(ChurnRadarError, match="expected no dbt or Feast in PostgreSQL"):
        erase(LEAVER)
    monkeypatch.delenv("CHURN_ONLINE_SCHEMA")
    manifest = json.dumps({"metadata": {"adapter_type": "postgrespython"}})
    (shop / "target" / "manifest.json").write_text(manifest)
    with pytest.raises(ChurnRadarError, match="expected no dbt or Feast in PostgreSQL"):
        erase(LEAVER)
