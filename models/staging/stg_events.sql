{{ churn_radar.staged_rows('events') }}
