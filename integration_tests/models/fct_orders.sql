{{ config(materialized='table') }}
select *
from {{ ref('stg_orders') }}
where receipt is not null
