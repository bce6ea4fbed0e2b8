{{ churn_radar.staged_rows('orders') }}
