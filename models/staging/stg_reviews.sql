{{ churn_radar.staged_rows('reviews') }}
