{{ churn_radar.staged_rows('campaign_touches') }}
