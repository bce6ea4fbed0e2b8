{%- set zero = churn_radar.zero_if_present('support_tickets') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

support_tickets as (
    select
        stg_support_tickets.*,
        {%- for aspect in churn_radar.aspects() %}
        review_embeddings.{{ aspect }}_score,
        {%- endfor %}
        review_embeddings.complaint_score
    from {{ ref('stg_support_tickets') }} as stg_support_tickets
    left join {{ ref('review_embeddings') }} as review_embeddings
        on 'support_tickets:' || stg_support_tickets.ticket_id = review_embeddings.text_id
),

known_tickets as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        support_tickets.opened_at,
        -- closing time and satisfaction are known only after the ticket was closed
        case when support_tickets.closed_at < cast(snapshots.as_of_date as timestamp) then support_tickets.closed_at end as closed_at,
        case
            when support_tickets.closed_at < cast(snapshots.as_of_date as timestamp)
                then {{ churn_radar.fixed_point('support_tickets.satisfaction') }}
        end as satisfaction,
        {%- for aspect in churn_radar.aspects() %}
        support_tickets.{{ aspect }}_score,
        {%- endfor %}
        support_tickets.complaint_score,
        {{ churn_radar.days_between('cast(support_tickets.opened_at as date)', 'snapshots.as_of_date') }} as days_ago
    from snapshots
    inner join support_tickets
        on
            snapshots.customer_id = support_tickets.customer_id
            and cast(snapshots.as_of_date as timestamp) > support_tickets.opened_at
            and {{ churn_radar.add_days('snapshots.as_of_date', '-' ~ var('churn__history_days')) }}
            <= cast(support_tickets.opened_at as date)
),

ticket_history as (
    select
        customer_id,
        as_of_date,
        count(case when days_ago <= 30 then 1 end) as tickets_30d,
        count(case when days_ago <= 90 then 1 end) as tickets_90d,
        count(case when closed_at is null then 1 end) as open_tickets,
        {{ churn_radar.mean(churn_radar.seconds_between('opened_at', 'closed_at')) }} / 3600 as hours_to_close_mean,
        {{ churn_radar.mean('satisfaction') }} as satisfaction_mean,
        min(days_ago) as days_since_last_ticket,
        {%- for aspect in churn_radar.aspects() %}
        max(case when days_ago <= 90 then {{ aspect }}_score end) as {{ aspect }}_complaint_90d,
        {%- endfor %}
        max(case when days_ago <= 90 then complaint_score end) as complaint_max_90d
    from known_tickets
    group by customer_id, as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast(coalesce(ticket_history.tickets_30d, {{ zero }}) as bigint) as tickets_30d,
    cast(coalesce(ticket_history.tickets_90d, {{ zero }}) as bigint) as tickets_90d,
    cast(coalesce(ticket_history.open_tickets, {{ zero }}) as bigint) as open_tickets,
    ticket_history.hours_to_close_mean,
    ticket_history.satisfaction_mean,
    cast(ticket_history.days_since_last_ticket as bigint) as days_since_last_ticket,

    -- complaint scores of the texts
    {%- for aspect in churn_radar.aspects() %}
    cast(ticket_history.{{ aspect }}_complaint_90d as double) as ticket_{{ aspect }}_complaint_90d,
    {%- endfor %}
    cast(ticket_history.complaint_max_90d as double) as ticket_complaint_90d
from snapshots
left join ticket_history
    on snapshots.customer_id = ticket_history.customer_id and snapshots.as_of_date = ticket_history.as_of_date
