from inference.text_pools import pool_texts


def model(dbt, session):
    dbt.config(materialized="table")
    texts, embeddings = dbt.ref("int_texts").df(), dbt.ref("review_embeddings").df()
    return pool_texts(dbt.ref("int_customer_snapshots").df(), texts, embeddings)
