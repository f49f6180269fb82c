CREATE TABLE dim_user_clv AS
SELECT
    user_id,
    frequency,
    recency_days,
    age_days,
    CASE WHEN frequency > 0 THEN mean_money_in_cents(repeat_revenue, frequency) END AS avg_repeat_value,
    NULL::DOUBLE AS p_alive,
    NULL::DOUBLE AS p_purchase_30d,
    NULL::DOUBLE AS p_purchase_90d,
    NULL::DOUBLE AS p_purchase_365d,
    NULL::DOUBLE AS expected_purchases_30d,
    NULL::DOUBLE AS expected_purchases_90d,
    NULL::DOUBLE AS expected_purchases_365d,
    NULL::DECIMAL(38, 9) AS expected_purchase_value,
    NULL::DECIMAL(38, 9) AS predicted_revenue_30d,
    NULL::DECIMAL(38, 9) AS predicted_revenue_90d,
    NULL::DECIMAL(38, 9) AS predicted_revenue_365d,
    NULL::BIGINT AS clv_decile,
    historic_revenue,
    'mbg_nbd' AS model,
    status AS model_status
FROM clv_customers
CROSS JOIN clv_split
WHERE fit = 'final';
