CREATE TABLE fct_sessions AS
WITH summed AS (
    SELECT
        session_id,
        max(user_id) AS user_id,
        min(event_time) AS session_start_time,
        max(event_time) AS session_end_time,
        date_diff('second', min(event_time), max(event_time)) AS session_length,
        count(*) AS event_count,
        count(DISTINCT product_id) AS unique_product_count,
        sum(is_view)::BIGINT AS view_count,
        sum(is_cart_add)::BIGINT AS cart_additions,
        sum(is_cart_remove)::BIGINT AS cart_removals,
        sum(is_purchase)::BIGINT AS purchase_count,
        sum(revenue) AS total_revenue
    FROM fct_events
    GROUP BY session_id
)
SELECT
    session_id,
    user_id,
    session_start_time,
    session_end_time,
    session_start_time::DATE AS session_start_date,
    session_length,
    event_count,
    unique_product_count,
    view_count,
    cart_additions,
    cart_removals,
    purchase_count,
    total_revenue,
    (view_count > 0)::BIGINT AS reached_view,
    (cart_additions > 0)::BIGINT AS reached_cart,
    (purchase_count > 0)::BIGINT AS reached_purchase,
    CASE WHEN purchase_count > 0 THEN 'purchase'
         WHEN cart_additions > 0 THEN 'cart'
         WHEN view_count > 0 THEN 'view'
         ELSE 'no_activity' END AS funnel_stage,
    (purchase_count > 0)::BIGINT AS is_converting_session,
    CASE WHEN session_length < 150 OR event_count < 3 THEN 'Low'
         WHEN session_length <= 600 AND event_count <= 10 THEN 'Medium'
         ELSE 'High' END AS session_quality_tier,
    CASE WHEN session_length <= 60 THEN 'Very Short (0-60s)'
         WHEN session_length <= 300 THEN 'Short (61-300s)'
         WHEN session_length <= 600 THEN 'Medium (301-600s)'
         ELSE 'Long (600+s)' END AS session_length_bucket
FROM summed;
