CREATE TABLE metrics_funnel AS
WITH sessions_of_users AS (
    SELECT
        fct_sessions.*,
        customer_lifecycle_stage,
        activity_status,
        coalesce(rfm_segment, 'No RFM Score') AS rfm_segment
    FROM fct_sessions
    JOIN dim_users USING (user_id)
    LEFT JOIN dim_user_rfm USING (user_id)
),
dimension_values AS (
    SELECT 'overall' AS dimension, 'all' AS value, * FROM sessions_of_users
    UNION ALL SELECT 'session_start_date', session_start_date::VARCHAR, * FROM sessions_of_users
    UNION ALL SELECT 'session_quality_tier', session_quality_tier, * FROM sessions_of_users
    UNION ALL SELECT 'session_length_bucket', session_length_bucket, * FROM sessions_of_users
    UNION ALL SELECT 'customer_lifecycle_stage', customer_lifecycle_stage, * FROM sessions_of_users
    UNION ALL SELECT 'activity_status', activity_status, * FROM sessions_of_users
    UNION ALL SELECT 'rfm_segment', rfm_segment, * FROM sessions_of_users
),
summed AS (
    SELECT
        dimension,
        value,
        count(*) AS sessions,
        sum(reached_view)::BIGINT AS sessions_reached_view,
        sum(reached_cart)::BIGINT AS sessions_reached_cart,
        sum(reached_purchase)::BIGINT AS sessions_reached_purchase,
        count(*) FILTER (WHERE event_count = 1) AS bounced_sessions,
        sum(event_count)::BIGINT AS events,
        sum(purchase_count)::BIGINT AS purchases,
        coalesce(sum(total_revenue), 0)::DECIMAL(38, 9) AS revenue
    FROM dimension_values
    GROUP BY dimension, value
)
SELECT
    *,
    rate(sessions_reached_cart, sessions_reached_view) AS view_to_cart_rate,
    rate(sessions_reached_purchase, sessions_reached_cart) AS cart_to_purchase_rate,
    rate(sessions_reached_purchase, sessions) AS conversion_rate,
    rate(bounced_sessions, sessions) AS bounce_rate,
    mean_money(revenue, sessions) AS revenue_per_session,
    mean_money(revenue, sessions_reached_purchase) AS revenue_per_purchasing_session,
    rate(sessions_reached_purchase, sessions_reached_view) AS view_to_purchase_rate
FROM summed;
