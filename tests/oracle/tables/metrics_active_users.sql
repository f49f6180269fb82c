CREATE TABLE metrics_active_users AS
WITH activities(activity) AS (
    VALUES ('visit'), ('purchase')
),
-- A day with activity is in the windows that end on it or on one of the next 27 days.
in_windows AS (
    SELECT activity, user_id, event_date + number::INTEGER AS window_end, number AS days_before_end
    FROM activity_days
    CROSS JOIN unnest(generate_series(0, 27)) AS numbers(number)
),
counted AS (
    SELECT
        activity,
        window_end,
        count(DISTINCT user_id) FILTER (WHERE days_before_end = 0) AS daily_users,
        count(DISTINCT user_id) FILTER (WHERE days_before_end <= 6) AS weekly_users,
        count(DISTINCT user_id) AS monthly_users
    FROM in_windows
    GROUP BY activity, window_end
),
series AS (
    SELECT
        activities.activity,
        day AS event_date,
        coalesce(daily_users, 0) AS daily_users,
        coalesce(weekly_users, 0) AS weekly_users,
        coalesce(monthly_users, 0) AS monthly_users,
        day - 6 >= first_date AS weekly_is_complete,
        day - 27 >= first_date AS monthly_is_complete
    FROM days
    CROSS JOIN activities
    LEFT JOIN counted ON counted.activity = activities.activity AND window_end = day
)
SELECT
    activity,
    event_date,
    daily_users,
    weekly_users,
    monthly_users,
    CASE WHEN monthly_is_complete THEN rate(daily_users, monthly_users) END AS stickiness,
    CASE WHEN weekly_is_complete THEN rate(daily_users, weekly_users) END AS daily_of_weekly,
    CASE WHEN weekly_is_complete AND monthly_is_complete
         THEN rate(weekly_users, monthly_users) END AS weekly_of_monthly,
    weekly_is_complete,
    monthly_is_complete
FROM series;
