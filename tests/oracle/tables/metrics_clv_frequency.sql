CREATE TABLE metrics_clv_frequency AS
SELECT
    'past_rate' AS model,
    least(frequency, 7) AS frequency,
    count(*) AS customers,
    (sum(predicted_purchases)::HUGEINT || 'e-6')::DOUBLE AS predicted_purchases,
    sum(actual_purchases)::BIGINT AS actual_purchases,
    (sum(predicted_cents)::DECIMAL(36, 0) * 0.01)::DECIMAL(38, 9) AS predicted_revenue,
    sum(actual_revenue)::DECIMAL(38, 9) AS actual_revenue,
    rate(billionths(sum(actual_revenue)) * any_value(all_customers),
         billionths(any_value(all_revenue)) * count(*)) AS lift
FROM clv_test
CROSS JOIN (SELECT count(*) AS all_customers, sum(actual_revenue) AS all_revenue FROM clv_test)
GROUP BY least(frequency, 7);
