CREATE TABLE dim_user_rfm AS
WITH ranked AS (
    SELECT
        user_id,
        ntile(5) OVER (ORDER BY days_since_last_purchase DESC, user_id) AS recency_score,
        rank() OVER (ORDER BY frequency_of(purchase_count, order_count)) - 1 AS users_below,
        count(*) OVER () - 1 AS other_users,
        ntile(5) OVER (ORDER BY total_revenue, user_id) AS monetary_score
    FROM dim_users
    WHERE has_purchase_history
),
scored AS (
    SELECT
        user_id,
        recency_score,
        frequency_score_of(users_below, other_users) AS frequency_score,
        monetary_score
    FROM ranked
)
SELECT
    user_id,
    recency_score,
    frequency_score,
    monetary_score,
    recency_score + frequency_score + monetary_score AS rfm_score,
    rfm_segment_of(recency_score, frequency_score, monetary_score) AS rfm_segment
FROM scored;
