from inference.text.masking import masked_quotes


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key="text_id")
    texts = dbt.ref("int_texts").project("text_id, text").df()
    built = session.sql(f"select text_id, text_hash from {dbt.this}").df() if dbt.is_incremental else None
    return masked_quotes(texts, built)
