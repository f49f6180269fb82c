CREATE TABLE metrics_user_segments AS
WITH dimension_values AS (
    SELECT 'overall' AS dimension, 'all' AS value, * FROM dim_users
    UNION ALL SELECT 'activity_status', activity_status, * FROM dim_users
    UNION ALL SELECT 'customer_lifecycle_stage', customer_lifecycle_stage, * FROM dim_users
),
totals AS (
    SELECT count(*) AS customers, coalesce(sum(total_revenue), 0) AS revenue
    FROM dim_users
),
summed AS (
    SELECT
        dimension,
        value,
        count(*) AS customers,
        count(*) FILTER (WHERE has_purchase_history) AS purchasers,
        sum(is_churned)::BIGINT AS churned_customers,
        sum(purchase_count)::BIGINT AS purchases,
        sum(session_count)::BIGINT AS sessions,
        coalesce(sum(total_revenue), 0)::DECIMAL(38, 9) AS revenue,
        sum(customer_ltv) AS sum_of_ltv,
        count(customer_ltv) AS customers_with_ltv
    FROM dimension_values
    GROUP BY dimension, value
)
SELECT
    dimension,
    value,
    summed.customers,
    purchasers,
    churned_customers,
    purchases,
    sessions,
    summed.revenue,
    rate(purchasers, summed.customers) AS purchaser_rate,
    rate(churned_customers, summed.customers) AS churn_rate,
    mean_money(sum_of_ltv, customers_with_ltv) AS avg_ltv,
    rate(summed.customers, totals.customers) AS customer_share,
    money_share(summed.revenue, totals.revenue) AS revenue_share
FROM summed
CROSS JOIN totals;
