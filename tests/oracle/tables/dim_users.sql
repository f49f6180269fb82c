CREATE TABLE dim_users AS
WITH from_events AS (
    SELECT
        user_id,
        min(event_time) AS first_event_time,
        max(event_time) AS last_event_time,
        count(*) AS event_count,
        sum(is_purchase)::BIGINT AS purchase_count,
        sum(revenue) AS total_revenue,
        min(event_date) FILTER (WHERE is_purchase = 1) AS first_purchase_date,
        max(event_date) FILTER (WHERE is_purchase = 1) AS last_purchase_date,
        count(DISTINCT event_date) FILTER (WHERE is_purchase = 1) AS purchase_day_count
    FROM fct_events
    GROUP BY user_id
),
from_sessions AS (
    SELECT user_id, count(*) AS session_count
    FROM fct_sessions
    GROUP BY user_id
),
from_orders AS (
    SELECT
        user_id,
        count(*) AS order_count,
        sum(revenue) FILTER (WHERE is_first_order) AS first_order_value
    FROM fct_orders
    GROUP BY user_id
),
joined AS (
    SELECT
        from_events.*,
        coalesce(session_count, 0) AS session_count,
        coalesce(order_count, 0) AS order_count,
        first_order_value,
        as_of - last_event_time::DATE AS days_since_last_activity,
        as_of - last_purchase_date AS days_since_last_purchase
    FROM from_events
    LEFT JOIN from_sessions USING (user_id)
    LEFT JOIN from_orders USING (user_id)
    CROSS JOIN event_counts
),
with_status AS (
    SELECT
        *,
        activity_status_of(
            purchase_count, days_since_last_purchase, days_since_last_activity
        ) AS activity_status
    FROM joined
)
SELECT
    user_id,
    first_event_time,
    last_event_time,
    first_event_time::DATE AS first_event_date,
    last_event_time::DATE AS last_event_date,
    session_count,
    event_count,
    purchase_count,
    total_revenue,
    total_revenue AS customer_ltv,
    mean_money_in_cents(total_revenue, purchase_count) AS avg_order_value,
    first_purchase_date,
    last_purchase_date,
    CASE WHEN purchase_count > 0
         THEN greatest(1, last_purchase_date - first_purchase_date) END AS customer_lifespan_days,
    days_since_last_activity,
    days_since_last_purchase,
    activity_status,
    (activity_status = 'churned')::BIGINT AS is_churned,
    purchase_count > 0 AS has_purchase_history,
    CASE WHEN session_count = 0 THEN 'missing_sessions'
         WHEN event_count > getvariable('session_outlier_ratio') * session_count
         THEN 'anomalous_session_ratio' END AS data_quality_flag,
    lifecycle_stage_of(frequency_of(purchase_count, order_count)) AS customer_lifecycle_stage,
    order_count,
    purchase_day_count,
    mean_money_in_cents(total_revenue, order_count) AS avg_basket_value,
    rate(purchase_count, order_count) AS avg_items_per_order,
    first_order_value,
    first_purchase_date - first_event_time::DATE AS days_to_first_purchase,
    lifecycle_stage_of(order_count) AS order_lifecycle_stage
FROM with_status;
