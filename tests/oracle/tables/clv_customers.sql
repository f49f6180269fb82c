-- What is known of each customer at the end of the calibration and at as_of.
CREATE TABLE clv_customers AS
WITH cutoffs AS (
    SELECT 'calibration' AS fit, calibration_end AS cutoff_date FROM clv_split
    UNION ALL
    SELECT 'final', as_of FROM clv_split
),
known AS (
    SELECT
        fit,
        cutoff_date,
        user_id,
        event_date,
        revenue,
        min(event_date) OVER (PARTITION BY fit, user_id) AS first_date
    FROM cutoffs
    JOIN fct_user_days ON event_date <= cutoff_date
    WHERE purchases > 0
)
SELECT
    fit,
    user_id,
    count(*) - 1 AS frequency,
    (max(event_date) - first_date)::BIGINT AS recency_days,
    (any_value(cutoff_date) - first_date)::BIGINT AS age_days,
    coalesce(sum(revenue) FILTER (event_date > first_date), 0)::DECIMAL(38, 9) AS repeat_revenue,
    sum(revenue)::DECIMAL(38, 9) AS historic_revenue
FROM known
GROUP BY fit, user_id, first_date;
