CREATE TABLE metrics_rfm_grid AS
SELECT
    recency_score,
    frequency_score,
    count(*) AS customers,
    sum(purchase_count)::BIGINT AS purchases,
    sum(total_revenue) AS revenue,
    mean_money_in_cents(sum(total_revenue), sum(purchase_count)) AS avg_order_value
FROM dim_user_rfm
JOIN dim_users USING (user_id)
GROUP BY recency_score, frequency_score;
