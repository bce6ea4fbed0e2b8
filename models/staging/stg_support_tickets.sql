{{ churn_radar.staged_rows('support_tickets') }}
