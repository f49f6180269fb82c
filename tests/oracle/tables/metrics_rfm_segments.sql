CREATE TABLE metrics_rfm_segments AS
WITH summed AS (
    SELECT
        coalesce(rfm_segment, 'No RFM Score') AS rfm_segment,
        count(*) AS customers,
        sum(is_churned)::BIGINT AS churned_customers,
        sum(purchase_count)::BIGINT AS purchases,
        sum(session_count)::BIGINT AS sessions,
        coalesce(sum(total_revenue), 0)::DECIMAL(38, 9) AS revenue,
        sum(avg_order_value) AS sum_of_avg_order_value,
        count(avg_order_value) AS customers_with_avg_order_value,
        sum(customer_ltv) AS sum_of_ltv,
        count(customer_ltv) AS customers_with_ltv
    FROM dim_users
    LEFT JOIN dim_user_rfm USING (user_id)
    GROUP BY ALL
)
SELECT
    rfm_segment,
    customers,
    churned_customers,
    purchases,
    sessions,
    revenue,
    rate(churned_customers, customers) AS churn_rate,
    mean_money(sum_of_avg_order_value, customers_with_avg_order_value) AS avg_order_value,
    rate(purchases, customers) AS avg_purchase_count,
    rate(sessions, customers) AS avg_session_count,
    mean_money(sum_of_ltv, customers_with_ltv) AS avg_ltv,
    rate(customers, sum(customers) OVER ()) AS customer_share,
    money_share(revenue, sum(revenue) OVER ()) AS revenue_share
FROM summed;
