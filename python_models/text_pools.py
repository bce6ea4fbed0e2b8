from inference.features.snapshots import snapshots_to_build
from inference.text.pooling import pool_texts, recent_texts_filter


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["customer_id", "as_of_date"])
    built = session.sql(f"select customer_id, as_of_date from {dbt.this}").df() if dbt.is_incremental else None
    snapshots = snapshots_to_build(dbt.ref("int_customer_snapshots").df(), built, dbt.config.get("lookback_days"))
    recent = recent_texts_filter(snapshots)
    texts = dbt.ref("int_texts").filter(recent).project("text_id, customer_id, written_at, known_at, superseded_at")
    embeddings = dbt.ref("review_embeddings").filter(recent).project("text_id, embedding, encoder_revision")
    return pool_texts(snapshots, texts.df(), embeddings.to_arrow_table())
