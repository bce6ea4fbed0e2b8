from inference.masking import masked_quotes


def model(dbt, session):
    dbt.config(materialized="table")
    return masked_quotes(dbt.ref("int_texts").df())
