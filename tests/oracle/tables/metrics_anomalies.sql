-- Whole millionths from here on; each figure is rounded before the next is made of it.
CREATE MACRO millionths(money) AS
    divide_rounded(billionths(money::DECIMAL(38, 9)), 1000);

-- The median of what is sorted.
CREATE MACRO median_of(sorted) AS
    divide_rounded(sorted[(len(sorted) + 1) // 2] + sorted[len(sorted) // 2 + 1], 2);

CREATE MACRO numeric_of(figure) AS
    (figure::DECIMAL(32, 0) * 0.000001)::DECIMAL(38, 9);

CREATE TABLE daily_figures AS
WITH by_day AS (
    FROM metrics_periods
    WHERE period = 'day'
),
category_events AS (
    SELECT coalesce(category_lvl_1, 'unknown') AS category, event_date, is_purchase, revenue
    FROM fct_events
    JOIN dim_products USING (product_id)
),
category_orders AS (
    SELECT
        coalesce(category_lvl_1, 'unknown') AS category,
        order_date AS event_date,
        count(DISTINCT order_id) AS orders
    FROM purchases_in_orders
    JOIN fct_orders USING (order_id)
    JOIN dim_products USING (product_id)
    GROUP BY ALL
),
category_days AS (
    SELECT
        category,
        event_date,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue,
        sum(is_purchase) AS purchases
    FROM category_events
    GROUP BY ALL
),
selling AS (
    SELECT category, period_start AS event_date
    FROM (SELECT category FROM category_events GROUP BY ALL HAVING sum(is_purchase) > 0)
    CROSS JOIN by_day
),
by_category AS (
    SELECT
        category,
        event_date,
        coalesce(revenue, 0)::DECIMAL(38, 9) AS revenue,
        coalesce(orders, 0) AS orders,
        coalesce(purchases, 0) AS purchases
    FROM selling
    LEFT JOIN category_days USING (category, event_date)
    LEFT JOIN category_orders USING (category, event_date)
),
figures AS (
    SELECT 'revenue' AS metric, 'overall' AS dimension, 'all' AS value, period_start AS event_date,
        millionths(revenue) AS actual FROM by_day
    UNION ALL SELECT 'orders', 'overall', 'all', period_start, 1000000 * orders FROM by_day
    UNION ALL SELECT 'purchases', 'overall', 'all', period_start, 1000000 * purchases FROM by_day
    UNION ALL SELECT 'sessions', 'overall', 'all', period_start, 1000000 * sessions FROM by_day
    UNION ALL SELECT 'users', 'overall', 'all', period_start, 1000000 * users FROM by_day
    UNION ALL SELECT 'events', 'overall', 'all', period_start, 1000000 * events FROM by_day
    UNION ALL SELECT 'conversion_rate', 'overall', 'all', period_start,
        divide_rounded(1000000 * converting_sessions, sessions) FROM by_day
    UNION ALL SELECT 'avg_basket_value', 'overall', 'all', period_start,
        millionths(avg_basket_value) FROM by_day
    UNION ALL SELECT 'view_to_cart_rate', 'overall', 'all', session_start_date,
        divide_rounded(1000000 * sum(reached_cart), sum(reached_view))
        FROM fct_sessions GROUP BY session_start_date
    UNION ALL SELECT 'revenue', 'category_lvl_1', category, event_date, millionths(revenue) FROM by_category
    UNION ALL SELECT 'orders', 'category_lvl_1', category, event_date, 1000000 * orders FROM by_category
    UNION ALL SELECT 'purchases', 'category_lvl_1', category, event_date, 1000000 * purchases FROM by_category
)
SELECT
    metric,
    dimension,
    value,
    event_date,
    actual::HUGEINT AS actual,
    metric IN ('orders', 'purchases', 'sessions', 'users', 'events') AS is_count,
    dayofweek(event_date) AS weekday,
    event_date = (SELECT max(event_date) FROM fct_events)
        AND (SELECT max(event_time) FROM fct_events)::TIME < TIME '23:00:00' AS is_incomplete,
    row_number() OVER (
        PARTITION BY metric, dimension, value, dayofweek(event_date) ORDER BY event_date
    ) AS number
FROM figures
WHERE actual IS NOT NULL;

-- Weekday by weekday, day after day: `usual` are the latest days that were not odd, the newest last.
CREATE TABLE metrics_anomalies AS
WITH RECURSIVE judged AS (
    SELECT DISTINCT
        metric, dimension, value, weekday, 0::BIGINT AS number, NULL::DATE AS event_date,
        NULL::HUGEINT AS actual, FALSE AS is_incomplete, []::HUGEINT[] AS usual_before,
        []::HUGEINT[] AS usual, NULL::HUGEINT AS expected, NULL::HUGEINT AS scale, FALSE AS is_anomaly
    FROM daily_figures
    UNION ALL
    SELECT
        metric, dimension, value, weekday, number, event_date, actual, is_incomplete, usual_before,
        CASE WHEN is_anomaly OR is_incomplete THEN usual_before
             ELSE list_append(usual_before, actual)[-8:] END,
        expected, scale, is_anomaly
    FROM (
        SELECT
            *,
            NOT is_incomplete AND coalesce(
                2 * divide_rounded(1000000 * abs(actual - expected), scale) > 7000000
                AND 5 * abs(actual - expected) >= expected,
                FALSE
            ) AS is_anomaly
        FROM (
            SELECT
                *,
                greatest(
                    divide_rounded(14826 * median_of(list_sort([abs(day - expected) for day in usual_before])), 10000),
                    divide_rounded(expected, 20),
                    CASE WHEN is_count THEN round(sqrt((1000000 * expected)::DOUBLE))::HUGEINT ELSE 0 END
                ) AS scale
            FROM (
                SELECT
                    daily_figures.*,
                    judged.usual AS usual_before,
                    CASE WHEN len(judged.usual) >= 4 THEN median_of(list_sort(judged.usual)) END AS expected
                FROM judged
                JOIN daily_figures USING (metric, dimension, value, weekday)
                WHERE daily_figures.number = judged.number + 1
            )
        )
    )
),
with_bounds AS (
    SELECT *, greatest(divide_rounded(7 * scale, 2), divide_rounded(expected, 5)) AS off
    FROM (SELECT * REPLACE (CASE WHEN expected IS NOT NULL THEN scale END AS scale) FROM judged)
    WHERE number > 0
)
SELECT
    metric,
    dimension,
    value,
    event_date,
    numeric_of(actual) AS actual,
    len(usual_before)::BIGINT AS baseline_days,
    numeric_of(expected) AS expected,
    numeric_of(scale) AS scale,
    CASE WHEN expected IS NOT NULL THEN numeric_of(greatest(expected - off, 0)) END AS lower,
    numeric_of(expected + off) AS upper,
    CASE WHEN NOT is_incomplete THEN
        (CASE WHEN actual < expected THEN -1 ELSE 1 END
         * (divide_rounded(1000000 * abs(actual - expected), scale) || 'e-6')::DOUBLE)
    END AS score,
    is_anomaly,
    CASE WHEN is_anomaly AND actual > expected THEN 'high' WHEN is_anomaly THEN 'low' END AS direction,
    CASE WHEN is_incomplete THEN 'incomplete_day'
         WHEN len(usual_before) < 4 THEN 'too_little_history'
         WHEN is_anomaly THEN 'anomaly'
         ELSE 'ok' END AS status
FROM with_bounds;
