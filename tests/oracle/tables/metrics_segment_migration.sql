CREATE TABLE metrics_segment_migration AS
WITH steps AS (
    SELECT period, period_start - 1 AS date_before, period_end AS snapshot_date
    FROM calendar
    WHERE is_complete
      AND NOT is_left_censored
      AND (period = 'week' AND getvariable('history') IN ('day', 'week')
           OR period = 'month' AND getvariable('history') <> 'none')
),
dimension_values AS (
    SELECT 'rfm_segment' AS dimension, rfm_segment AS value, * FROM user_states
    UNION ALL SELECT 'activity_status', activity_status, * FROM user_states
),
moves AS (
    SELECT
        period,
        snapshot_date,
        after.dimension,
        coalesce(before.value, 'New') AS from_value,
        after.value AS to_value,
        after.purchase_count - coalesce(before.purchase_count, 0) AS purchases,
        after.revenue - coalesce(before.revenue, 0) AS revenue
    FROM steps
    JOIN dimension_values AS after ON after.state_date = snapshot_date
    LEFT JOIN dimension_values AS before
        ON before.state_date = date_before
        AND before.dimension = after.dimension
        AND before.user_id = after.user_id
),
summed AS (
    SELECT
        period,
        snapshot_date,
        dimension,
        from_value,
        to_value,
        count(*) AS customers,
        sum(purchases)::BIGINT AS purchases,
        sum(revenue)::DECIMAL(38, 9) AS revenue
    FROM moves
    GROUP BY ALL
)
SELECT
    *,
    rate(
        customers, sum(customers) OVER (PARTITION BY period, snapshot_date, dimension, from_value)
    ) AS from_share,
    rate(
        customers, sum(customers) OVER (PARTITION BY period, snapshot_date, dimension, to_value)
    ) AS to_share
FROM summed;
