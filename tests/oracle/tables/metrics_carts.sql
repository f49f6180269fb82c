CREATE TABLE metrics_carts AS
WITH lines AS (
    SELECT fct_carts.*, coalesce(category_lvl_1, 'unknown') AS line_category
    FROM fct_carts
    JOIN dim_products USING (product_id)
),
grouped AS (
    SELECT 'all' AS period, NULL::DATE AS period_start, NULL::VARCHAR AS category_lvl_1, lines.*
    FROM lines
    UNION ALL
    SELECT 'all', NULL, line_category, lines.*
    FROM lines
    UNION ALL
    SELECT period, period_start_of(period, cart_date), NULL, lines.*
    FROM lines
    CROSS JOIN (VALUES ('day'), ('week'), ('month')) AS periods(period)
),
summed AS (
    SELECT
        period,
        period_start,
        category_lvl_1,
        count(*) AS lines,
        count(DISTINCT (user_id, session_id)) AS carts,
        count(DISTINCT user_id) AS users,
        count(*) FILTER (WHERE status = 'purchased') AS purchased,
        count(*) FILTER (WHERE status = 'removed') AS removed,
        count(*) FILTER (WHERE status = 'carried_over') AS carried_over,
        count(*) FILTER (WHERE status = 'recovered') AS recovered,
        count(*) FILTER (WHERE status = 'open') AS open,
        count(*) FILTER (WHERE status = 'abandoned') AS abandoned,
        coalesce(sum(price) FILTER (WHERE status NOT IN ('removed', 'carried_over')), 0)
            ::DECIMAL(38, 9) AS cart_value,
        coalesce(sum(price) FILTER (WHERE status = 'purchased'), 0)
            ::DECIMAL(38, 9) AS purchased_value,
        coalesce(sum(price) FILTER (WHERE status = 'recovered'), 0)
            ::DECIMAL(38, 9) AS recovered_value,
        coalesce(sum(price) FILTER (WHERE status = 'abandoned'), 0)
            ::DECIMAL(38, 9) AS abandoned_value
    FROM grouped
    GROUP BY period, period_start, category_lvl_1
)
SELECT
    *,
    rate(abandoned, purchased + recovered + abandoned) AS abandonment_rate,
    rate(recovered, recovered + abandoned) AS recovery_rate
FROM summed;
