{{ churn_radar.days_from_to(
    '(select min(as_of_date) from ' ~ ref('latest_scores') ~ ')',
    '(select max(as_of_date) from ' ~ ref('latest_scores') ~ ')'
) }}
