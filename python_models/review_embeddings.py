from inference.text.embeddings import embed_new_texts


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key="text_id")
    texts = dbt.ref("int_texts").project("text_id, source_table, customer_id, written_at, text").df()
    stored = None
    if dbt.is_incremental:
        stored = session.sql(f"select text_id, text_hash, encoder_revision, aspects_revision from {dbt.this}").df()
    return embed_new_texts(texts, stored, dbt.ref("aspect_descriptions").df())
