"""Rows of the tables that the desk reads, as queries; as_of, customers and dates are variables of the session."""

#: Customers whose probabilities follow from their number, a little different at each date.
SCORES = """
    with

    customers as (
        select
            'c' || lpad(cast(i as varchar), 6, '0') as customer_id,
            hash(i) % 1000003 / 1000003 as luck,
            cast(1 + hash(i, 'last') % 88 as integer) as silent_days,
            5 + i % 30 as usual_days,
            cast(20 + hash(i, 'spend') % 8000 / 100 as double) as expected_spend,
            week,
            getvariable('as_of') - cast(7 * week as integer) as as_of_date
        from range(getvariable('customers')) as numbers (i), range(getvariable('dates')) as weeks (week)
    ),

    scored as (
        select
            *,
            1 / (1 + exp(4.5 - silent_days / 25 - 3 * luck + 0.2 * week * (luck - 0.4))) as churn_probability
        from customers
    )

    select
        *,
        30 as horizon_days,
        case
            when churn_probability >= 0.7 then 'critical'
            when churn_probability >= 0.4 then 'high'
            when churn_probability >= 0.2 then 'medium'
            else 'low'
        end as risk_band,
        percent_rank() over (partition by week order by churn_probability) as risk_percentile,
        churn_probability * expected_spend as value_at_risk,
        format('last order {} days ago; usually every {}', silent_days, usual_days) as reason_1,
        case
            when luck > 0.8
                then 'review of 2 February: “The parcel came three weeks late & <b>nobody</b> answered.”'
        end as reason_2,
        case when luck > 0.5 then 'last visit ' || silent_days || ' days ago' end as reason_3,
        null as transformer_probability,
        null as boosting_probability,
        churn_probability as logistic_probability,
        '1' as model_version,
        as_of_date as feature_snapshot_at,
        as_of_date + interval 1 hour as scored_at
    from scored
"""

#: What happened with them, packed as online_histories packs it.
HISTORIES = """
    with

    customers as (
        select
            'c' || lpad(cast(i as varchar), 6, '0') as customer_id,
            cast(1 + hash(i, 'last') % 88 as integer) as silent_days,
            5 + i % 30 as usual_days,
            range(2 + i % 8) as orders,
            range(3 + i % 12) as visits,
            epoch_us(cast(getvariable('as_of') as timestamp)) as midnight,
            cast(86400000000 as bigint) as day
        from range(getvariable('customers')) as numbers (i)
    ),

    moments as (
        select
            *,
            [midnight - day * (silent_days + k * usual_days) + 43200000000 for k in orders] as ordered_at,
            [midnight - day * (3 + silent_days + k * 6) + 39600000000 for k in visits] as visited_at
        from customers
    )

    select
        customer_id,
        getvariable('as_of') as as_of_date,
        0 as through,
        cast([0.6, 0.8] as float[]) as text_vectors,
        getvariable('as_of') as event_timestamp,
        to_json({
            'first_order_date': null,
            'order_days': null,
            'orders_before': null,
            'attributes': null,
            'orders': {
                'order_id': [customer_id || '-' || k for k in orders],
                'ordered_at': ordered_at,
                'known_at': ordered_at,
                'status': ['completed' for k in orders],
                'amount': [20 + k * 7.5 for k in orders],
                'discount_amount': [0 for k in orders],
                'has_coupon': [k % 4 = 1 for k in orders],
                'items': [1 + k % 3 for k in orders],
                'category': ['garden' for k in orders]
            },
            'items': null,
            'last_visit_date': null,
            'visit_days': {
                'occurred_at': visited_at,
                'events': [2 + k % 4 for k in visits],
                'sessions': [1 for k in visits],
                'view_events': [2 for k in visits],
                'search_events': [k % 2 for k in visits],
                'cart_add_events': [0 for k in visits],
                'cart_remove_events': [0 for k in visits],
                'wishlist_events': [0 for k in visits],
                'login_events': [0 for k in visits]
            },
            'events': null,
            'reviews': {
                'review_id': [customer_id],
                'text_id': ['reviews:' || customer_id],
                'reviewed_at': [ordered_at[1] + 3600000000],
                'known_at': [ordered_at[1] + 3600000000],
                'rating': [2],
                'text': ['The parcel came three weeks late and nobody answered.'],
                'subject': ['garden'],
                'delivery_score': [0.4],
                'quality_score': [0],
                'price_score': [0],
                'service_score': [0.2],
                'returns_score': [0],
                'complaint_score': [0.4]
            },
            'tickets': {
                'ticket_id': [customer_id],
                'text_id': [null],
                'opened_at': [ordered_at[1] + 7200000000],
                'closed_at': [null],
                'satisfaction': [null],
                'topic': ['delivery'],
                'text': [null],
                'delivery_score': [null],
                'quality_score': [null],
                'price_score': [null],
                'service_score': [null],
                'returns_score': [null],
                'complaint_score': [null]
            },
            'contacts': {
                'touch_id': [customer_id, customer_id || '-2'],
                'action': ['coupon', 'holdout'],
                'touched_at': [midnight - 60 * day, midnight - 30 * day],
                'redeemed_at': [null, null]
            },
            'pooled': {'text_id': ['reviews:' || customer_id]}
        }) as history
    from moments
"""

TEXTS = """
    select
        'reviews:' || customer_id as text_id,
        getvariable('as_of') as as_of_date,
        customer_id,
        'review' as kind,
        getvariable('as_of') as written_at,
        'The parcel came three weeks late & <b>nobody</b> answered.' as quote,
        0.4 as delivery_score,
        0 as quality_score,
        0 as price_score,
        0.2 as service_score,
        0 as returns_score,
        0.4 as complaint_score,
        'r' as encoder_revision,
        cast([0.6, 0.8] as float[]) as embedding
    from (select customer_id from scores where as_of_date = getvariable('as_of'))
"""

ACTIONS = """
    select
        *,
        'spring' as campaign_id,
        ['none', 'coupon', 'service_call', 'holdout'][cast(1 + hash(customer_id) % 4 as integer)] as action,
        action as intended_action,
        action = 'holdout' as is_holdout,
        false as is_exploration,
        case when hash(customer_id) % 4 in (1, 2) then 'e-mail' end as channel,
        expected_spend as value,
        0.05 as effect,
        'segment' as effect_source,
        0.05 * expected_spend - 1 as expected_profit,
        expected_profit - 2 as expected_profit_low,
        expected_profit + 2 as expected_profit_high,
        1 as contact_cost,
        0.25 as assignment_probability,
        'would spend ' || round(expected_spend) as reason
    from scores
    where as_of_date = getvariable('as_of')
"""

#: Of three actions one keeps customers; one campaign reached nine customers only.
EXPERIMENT = """
    select
        *,
        churn_rate_holdout - churn_rate_contacted as effect,
        effect - 0.02 as effect_low,
        effect + 0.02 as effect_high,
        30 * effect - 1 as profit_per_contact,
        30 * (effect - 0.02) - 1 as profit_low,
        30 * (effect + 0.02) - 1 as profit_high,
        getvariable('as_of') as through_date
    from (
        values
            ('coupon', 'all', 'all', 4000, 4100, 0.31, 0.36),
            ('coupon', 'all', 'critical', 900, 950, 0.70, 0.78),
            ('coupon', 'spring', 'all', 4000, 4100, 0.31, 0.36),
            ('service_call', 'all', 'all', 800, 810, 0.35, 0.36),
            ('service_call', 'autumn', 'all', 9, 300, 0.111, 0.36)
    ) as t (action, campaign_id, segment, contacts, holdouts, churn_rate_contacted, churn_rate_holdout)
"""

PERFORMANCE = """
    select
        getvariable('as_of') - cast(30 + 7 * week as integer) as as_of_date,
        '1' as model_version,
        30 as horizon_days,
        case when week = 5 then 9 else 90000 + week end as customers,
        0.31 + week / 500 as churn_rate,
        0.31 as mean_probability,
        0.84 - week / 500 as auroc,
        auroc - 0.01 as auroc_low,
        auroc + 0.01 as auroc_high,
        0.45 as log_loss,
        0.01 as ece,
        2.4 as top_decile_lift,
        0.85 as promised_auroc,
        0.44 as promised_log_loss,
        0.01 as promised_ece,
        0.85 - auroc as auroc_below_promise,
        false as breaks_promise
    from range(6) as weeks (week)
"""

SCORE_DRIFT = """
    select
        as_of_date,
        model_version,
        count(*) as customers,
        avg(churn_probability) as mean_probability,
        median(churn_probability) as median_probability,
        0.25 as low_share,
        0.25 as medium_share,
        0.25 as high_share,
        0.25 as critical_share,
        0.02 as psi,
        'stable' as band,
        0.01 as psi_by_chance,
        0.05 as usual_psi,
        false as is_unusual,
        count(*) as reference_customers,
        min(as_of_date) as reference_date
    from scores
    group by as_of_date, model_version
"""

FEATURE_DRIFT = """
    select
        getvariable('as_of') as as_of_date,
        '1' as model_version,
        'feature_' || i as feature,
        true as is_read,
        i / 100 as psi,
        case when i < 10 then 'stable' when i < 25 then 'shifted' else 'drifted' end as band,
        0.01 as psi_by_chance,
        0.2 as usual_psi,
        i > 25 as is_unusual,
        0.1 as missing_rate,
        0.1 as reference_missing_rate,
        getvariable('customers') as customers,
        getvariable('customers') as reference_customers,
        getvariable('as_of') as reference_date
    from range(30) as features (i)
"""
