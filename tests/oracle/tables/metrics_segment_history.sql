CREATE TABLE metrics_segment_history AS
WITH states AS (
    SELECT
        state_date AS snapshot_date,
        user_id,
        is_churned,
        purchase_count,
        order_count,
        revenue,
        purchase_count - lag(purchase_count, 1, 0) OVER of_user AS purchases_since,
        revenue - coalesce(lag(revenue) OVER of_user, 0) AS revenue_since,
        rfm_segment,
        activity_status,
        customer_lifecycle_stage
    FROM user_states
    WHERE is_snapshot
    WINDOW of_user AS (PARTITION BY user_id ORDER BY state_date)
),
dimension_values AS (
    SELECT 'overall' AS dimension, 'all' AS value, * FROM states
    UNION ALL SELECT 'rfm_segment', rfm_segment, * FROM states
    UNION ALL SELECT 'activity_status', activity_status, * FROM states
    UNION ALL SELECT 'customer_lifecycle_stage', customer_lifecycle_stage, * FROM states
),
-- A user who is once there is in every later snapshot: the row before is that of the snapshot before.
compared AS (
    SELECT
        *,
        value IS DISTINCT FROM lag(value) OVER (
            PARTITION BY dimension, user_id ORDER BY snapshot_date
        ) AS has_entered
    FROM dimension_values
),
summed AS (
    SELECT
        snapshot_date,
        dimension,
        value,
        count(*) AS customers,
        sum(is_churned)::BIGINT AS churned_customers,
        sum(purchase_count)::BIGINT AS purchases,
        sum(order_count)::BIGINT AS orders,
        sum(revenue)::DECIMAL(38, 9) AS revenue,
        sum(purchases_since)::BIGINT AS purchases_since,
        sum(revenue_since)::DECIMAL(38, 9) AS revenue_since,
        count(*) FILTER (WHERE has_entered) AS entered
    FROM compared
    GROUP BY snapshot_date, dimension, value
)
SELECT
    *,
    rate(customers, sum(customers) OVER of_all) AS customer_share,
    money_share(revenue, sum(revenue) OVER of_all) AS revenue_share
FROM summed
WINDOW of_all AS (PARTITION BY snapshot_date, dimension);
