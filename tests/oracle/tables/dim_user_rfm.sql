CREATE TABLE dim_user_rfm AS
WITH ranked AS (
    SELECT
        user_id,
        ntile(5) OVER (ORDER BY days_since_last_purchase DESC, user_id) AS recency_score,
        rank() OVER (ORDER BY purchase_count) - 1 AS users_below,
        count(*) OVER () - 1 AS other_users,
        ntile(5) OVER (ORDER BY total_revenue, user_id) AS monetary_score
    FROM dim_users
    WHERE has_purchase_history
),
-- users_below / other_users < 0.2 and so on, without a fraction; one user alone has the score 1.
scored AS (
    SELECT
        user_id,
        recency_score,
        CASE WHEN other_users = 0 OR 5 * users_below < 1 * other_users THEN 1
             WHEN 5 * users_below < 2 * other_users THEN 2
             WHEN 5 * users_below < 3 * other_users THEN 3
             WHEN 5 * users_below < 4 * other_users THEN 4
             ELSE 5 END::BIGINT AS frequency_score,
        monetary_score
    FROM ranked
)
SELECT
    user_id,
    recency_score,
    frequency_score,
    monetary_score,
    recency_score + frequency_score + monetary_score AS rfm_score,
    CASE WHEN recency_score >= 4 AND frequency_score >= 4 AND monetary_score >= 4 THEN 'Champions'
         WHEN recency_score <= 2 AND frequency_score >= 4 AND monetary_score >= 4 THEN 'At Risk'
         WHEN recency_score >= 4 AND frequency_score >= 3 THEN 'Loyal Customers'
         WHEN recency_score >= 3 AND frequency_score >= 3 THEN 'Potential Loyalists'
         WHEN recency_score >= 4 AND frequency_score < 3 THEN 'Recent Customers'
         WHEN recency_score = 3 AND frequency_score < 3 THEN 'Promising'
         WHEN recency_score <= 2 AND frequency_score >= 3 THEN 'About To Sleep'
         WHEN recency_score <= 2 AND frequency_score <= 2 AND monetary_score <= 2 THEN 'Lost'
         ELSE 'Needs Attention' END AS rfm_segment
FROM scored;
