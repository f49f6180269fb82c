CREATE TABLE metrics_clv_predictions AS
WITH customers AS (
    SELECT *
    FROM dim_user_clv
    JOIN (SELECT user_id, rfm_segment FROM dim_user_rfm) USING (user_id)
),
grouped AS (
    SELECT 'overall' AS dimension, 'all' AS value, * FROM customers
    UNION ALL
    SELECT 'rfm_segment', rfm_segment, * FROM customers
    UNION ALL
    SELECT 'clv_decile', clv_decile::VARCHAR, * FROM customers WHERE clv_decile IS NOT NULL
)
SELECT
    dimension,
    value,
    count(*) AS customers,
    (sum(round(p_alive * 1e6)::BIGINT) || 'e-6')::DOUBLE AS expected_alive,
    (sum(round(expected_purchases_30d * 1e6)::BIGINT) || 'e-6')::DOUBLE AS expected_purchases_30d,
    (sum(round(expected_purchases_90d * 1e6)::BIGINT) || 'e-6')::DOUBLE AS expected_purchases_90d,
    (sum(round(expected_purchases_365d * 1e6)::BIGINT) || 'e-6')::DOUBLE AS expected_purchases_365d,
    NULL::DOUBLE AS expected_purchases_90d_low,
    NULL::DOUBLE AS expected_purchases_90d_high,
    sum(predicted_revenue_30d)::DECIMAL(38, 9) AS predicted_revenue_30d,
    sum(predicted_revenue_90d)::DECIMAL(38, 9) AS predicted_revenue_90d,
    sum(predicted_revenue_365d)::DECIMAL(38, 9) AS predicted_revenue_365d,
    sum(historic_revenue)::DECIMAL(38, 9) AS historic_revenue
FROM grouped
GROUP BY dimension, value;
