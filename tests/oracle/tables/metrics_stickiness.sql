-- In an incomplete period users and share are so far; only is_complete says so.
CREATE TABLE metrics_stickiness AS
WITH by_user AS (
    SELECT activity, period, period_start, is_complete, user_id, count(*) AS active_days
    FROM activity_days
    JOIN calendar ON event_date BETWEEN period_start AND period_end AND period IN ('week', 'month')
    GROUP BY ALL
),
counted AS (
    SELECT activity, period, period_start, is_complete, active_days, count(*) AS users
    FROM by_user
    GROUP BY ALL
),
with_totals AS (
    SELECT
        *,
        sum(users) OVER (
            PARTITION BY activity, period, period_start ORDER BY active_days DESC
        )::BIGINT AS users_at_least,
        sum(users) OVER (PARTITION BY activity, period, period_start)::BIGINT AS active_users
    FROM counted
)
SELECT
    activity,
    period,
    period_start,
    active_days,
    users,
    users_at_least,
    rate(users, active_users) AS share,
    is_complete
FROM with_totals;
