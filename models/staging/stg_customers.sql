{{ churn_radar.staged_rows('customers') }}
