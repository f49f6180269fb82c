CREATE TABLE metrics_churn AS
WITH customers AS (
    SELECT
        first_purchase_date,
        frequency_of(purchase_count, order_count) = 1
        OR last_purchase_date - first_purchase_date <= getvariable('cohort_observation_window_days')
        AS has_churned
    FROM dim_users
    WHERE has_purchase_history
    QUALIFY max(first_purchase_date) OVER () - first_purchase_date
            >= getvariable('cohort_observation_window_days')
),
counted AS (
    SELECT
        'cohort_overall' AS metric_level,
        'all_eligible_cohorts' AS time_period,
        count(*) AS total_customers,
        count(*) FILTER (WHERE has_churned) AS churned_customers,
        min(first_purchase_date) AS cohort_start,
        max(first_purchase_date) AS cohort_end
    FROM customers
    UNION ALL
    SELECT
        'by_cohort_month',
        strftime(first_purchase_date, '%Y-%m-01') AS cohort_month,
        count(*),
        count(*) FILTER (WHERE has_churned),
        min(first_purchase_date),
        max(first_purchase_date)
    FROM customers
    GROUP BY cohort_month
)
SELECT
    metric_level,
    time_period,
    total_customers,
    churned_customers,
    rate_of_four_decimals(churned_customers, total_customers) AS churn_rate,
    cohort_start,
    cohort_end
FROM counted;
