from inference.snapshots import snapshots_to_build
from inference.text_pools import pool_texts


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["customer_id", "as_of_date"])
    built = session.sql(f"select customer_id, as_of_date from {dbt.this}").df() if dbt.is_incremental else None
    snapshots = snapshots_to_build(dbt.ref("int_customer_snapshots").df(), built, dbt.config.get("lookback_days"))
    texts = dbt.ref("int_texts").project("text_id, customer_id, written_at, known_at, superseded_at").df()
    embeddings = dbt.ref("review_embeddings").project("text_id, embedding, encoder_revision").df()
    return pool_texts(snapshots, texts, embeddings)
