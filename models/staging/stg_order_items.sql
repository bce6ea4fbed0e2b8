{{ churn_radar.staged_rows('order_items') }}
