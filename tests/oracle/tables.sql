-- Every table of the contract in plain DuckDB SQL: one statement per table, each after those it reads.
--
-- Reads   events_raw(event_time TIMESTAMP, event_type VARCHAR, product_id BIGINT, category_id BIGINT,
--         category_code VARCHAR, brand VARCHAR, price DECIMAL(38,9), user_id BIGINT, user_session VARCHAR):
--         the accepted rows, times in UTC, brand and category_code lower-cased.
-- Options SET VARIABLE churn_threshold_days, at_risk_threshold_days, declining_threshold_days,
--         session_outlier_ratio, session_timeout_seconds, cohort_observation_window_days;
--         as_of (DATE) may be left out.
--
-- DuckDB compares text by its bytes. Nothing that is divided here is negative, so rounding half up is
-- rounding half away from zero. Quotients are rounded as whole numbers; only the result becomes a DOUBLE,
-- through its decimal text, which gives the double nearest to the exact decimal.

CREATE MACRO divide_rounded(numerator, denominator) AS
    numerator::HUGEINT // nullif(denominator, 0)::HUGEINT
    + (2 * (numerator::HUGEINT % nullif(denominator, 0)::HUGEINT) >= denominator::HUGEINT)::HUGEINT;

-- Money as a whole number of billionths.
CREATE MACRO billionths(money) AS
    floor(money)::HUGEINT * 1000000000 + ((money - floor(money)) * 1000000000)::HUGEINT;

CREATE MACRO rate(numerator, denominator) AS
    (divide_rounded(numerator::HUGEINT * 1000000, denominator) || 'e-6')::DOUBLE;

CREATE MACRO rate_of_four_decimals(numerator, denominator) AS
    (divide_rounded(numerator::HUGEINT * 10000, denominator) || 'e-4')::DOUBLE;

CREATE MACRO mean_money(total, number) AS
    (divide_rounded(billionths(total), number::HUGEINT * 1000) || 'e-6')::DOUBLE;

CREATE MACRO money_share(part, whole) AS
    (divide_rounded(billionths(part) * 1000000, billionths(whole)) || 'e-6')::DOUBLE;

-- Money again, in whole cents.
CREATE MACRO mean_money_in_cents(total, number) AS
    (divide_rounded(billionths(total), number::HUGEINT * 10000000)::DECIMAL(36, 0) * 0.01)::DECIMAL(38, 9);


-- Cleaning 1: of the rows that are duplicates of each other, the first.
CREATE TABLE events_deduplicated AS
SELECT *
FROM events_raw
QUALIFY row_number() OVER (
    PARTITION BY event_time, event_type, product_id, user_id, user_session
    ORDER BY category_id NULLS LAST, category_code NULLS LAST, brand NULLS LAST, price
) = 1;

-- Cleaning 3: products with more than one brand, before rows without a session go.
CREATE TABLE multi_brand_products AS
SELECT product_id
FROM events_deduplicated
GROUP BY product_id
HAVING min(brand) <> max(brand);

CREATE TABLE fct_events AS
WITH kept AS (
    SELECT *
    FROM events_deduplicated
    WHERE product_id NOT IN (SELECT product_id FROM multi_brand_products)
      AND user_session IS NOT NULL
),
with_gaps AS (
    SELECT
        *,
        date_diff('second', lag(event_time) OVER (
            PARTITION BY user_session ORDER BY event_time
        ), event_time) AS gap_seconds
    FROM kept
),
-- The default frame holds all events of the same time, so that they share a session.
with_session_numbers AS (
    SELECT
        *,
        count(*) FILTER (WHERE gap_seconds > getvariable('session_timeout_seconds')) OVER (
            PARTITION BY user_session ORDER BY event_time
        ) AS session_number
    FROM with_gaps
)
SELECT
    md5(concat_ws(
        '|', strftime(event_time, '%Y-%m-%d %H:%M:%S'), event_type, user_id, product_id, user_session
    )) AS event_id,
    event_time,
    event_time::DATE AS event_date,
    event_type,
    user_id::VARCHAR AS user_id,
    user_session,
    CASE WHEN session_number = 0 THEN user_session
         ELSE user_session || '_timeout_' || session_number END AS session_id,
    product_id::VARCHAR AS product_id,
    brand,
    category_code,
    category_id::VARCHAR AS category_id,
    price,
    1::BIGINT AS quantity,
    (event_type = 'view')::BIGINT AS is_view,
    (event_type = 'cart')::BIGINT AS is_cart_add,
    (event_type = 'remove_from_cart')::BIGINT AS is_cart_remove,
    (event_type = 'purchase')::BIGINT AS is_purchase,
    CASE WHEN event_type = 'purchase' THEN price END AS revenue
FROM with_session_numbers;

-- One row: what became of the accepted rows.
CREATE TABLE event_counts AS
WITH counted AS (
    SELECT
        (SELECT count(*) FROM events_raw) AS accepted,
        (SELECT count(*) FROM events_deduplicated) AS deduplicated,
        (SELECT count(*) FROM events_deduplicated
         WHERE product_id NOT IN (SELECT product_id FROM multi_brand_products)) AS single_brand,
        (SELECT count(*) FROM fct_events) AS events_kept
)
SELECT
    accepted,
    events_kept,
    accepted - deduplicated AS duplicate,
    deduplicated - single_brand AS multi_brand_product,
    single_brand - events_kept AS missing_session,
    coalesce(getvariable('as_of')::DATE, (SELECT max(event_date) FROM fct_events)) AS as_of
FROM counted;

CREATE TABLE fct_sessions AS
WITH summed AS (
    SELECT
        session_id,
        max(user_id) AS user_id,
        min(event_time) AS session_start_time,
        max(event_time) AS session_end_time,
        date_diff('second', min(event_time), max(event_time)) AS session_length,
        count(*) AS event_count,
        count(DISTINCT product_id) AS unique_product_count,
        sum(is_view)::BIGINT AS view_count,
        sum(is_cart_add)::BIGINT AS cart_additions,
        sum(is_cart_remove)::BIGINT AS cart_removals,
        sum(is_purchase)::BIGINT AS purchase_count,
        sum(revenue) AS total_revenue
    FROM fct_events
    GROUP BY session_id
)
SELECT
    session_id,
    user_id,
    session_start_time,
    session_end_time,
    session_start_time::DATE AS session_start_date,
    session_length,
    event_count,
    unique_product_count,
    view_count,
    cart_additions,
    cart_removals,
    purchase_count,
    total_revenue,
    (view_count > 0)::BIGINT AS reached_view,
    (cart_additions > 0)::BIGINT AS reached_cart,
    (purchase_count > 0)::BIGINT AS reached_purchase,
    CASE WHEN purchase_count > 0 THEN 'purchase'
         WHEN cart_additions > 0 THEN 'cart'
         WHEN view_count > 0 THEN 'view'
         ELSE 'no_activity' END AS funnel_stage,
    (purchase_count > 0)::BIGINT AS is_converting_session,
    CASE WHEN session_length < 150 OR event_count < 3 THEN 'Low'
         WHEN session_length <= 600 AND event_count <= 10 THEN 'Medium'
         ELSE 'High' END AS session_quality_tier,
    CASE WHEN session_length <= 60 THEN 'Very Short (0-60s)'
         WHEN session_length <= 300 THEN 'Short (61-300s)'
         WHEN session_length <= 600 THEN 'Medium (301-600s)'
         ELSE 'Long (600+s)' END AS session_length_bucket
FROM summed;

CREATE TABLE dim_users AS
WITH from_events AS (
    SELECT
        user_id,
        min(event_time) AS first_event_time,
        max(event_time) AS last_event_time,
        count(*) AS event_count,
        sum(is_purchase)::BIGINT AS purchase_count,
        sum(revenue) AS total_revenue,
        min(event_date) FILTER (WHERE is_purchase = 1) AS first_purchase_date,
        max(event_date) FILTER (WHERE is_purchase = 1) AS last_purchase_date
    FROM fct_events
    GROUP BY user_id
),
from_sessions AS (
    SELECT user_id, count(*) AS session_count
    FROM fct_sessions
    GROUP BY user_id
),
joined AS (
    SELECT
        from_events.*,
        coalesce(session_count, 0) AS session_count,
        as_of - last_event_time::DATE AS days_since_last_activity,
        as_of - last_purchase_date AS days_since_last_purchase
    FROM from_events
    LEFT JOIN from_sessions USING (user_id)
    CROSS JOIN event_counts
),
with_status AS (
    SELECT
        *,
        CASE WHEN purchase_count = 0 THEN 'prospect'
             WHEN days_since_last_purchase > getvariable('churn_threshold_days')
              AND days_since_last_activity > getvariable('churn_threshold_days') THEN 'churned'
             WHEN days_since_last_purchase > getvariable('at_risk_threshold_days') THEN 'at_risk'
             WHEN days_since_last_purchase > getvariable('declining_threshold_days') THEN 'declining'
             ELSE 'active' END AS activity_status
    FROM joined
)
SELECT
    user_id,
    first_event_time,
    last_event_time,
    first_event_time::DATE AS first_event_date,
    last_event_time::DATE AS last_event_date,
    session_count,
    event_count,
    purchase_count,
    total_revenue,
    total_revenue AS customer_ltv,
    mean_money_in_cents(total_revenue, purchase_count) AS avg_order_value,
    first_purchase_date,
    last_purchase_date,
    CASE WHEN purchase_count > 0
         THEN greatest(1, last_purchase_date - first_purchase_date) END AS customer_lifespan_days,
    days_since_last_activity,
    days_since_last_purchase,
    activity_status,
    (activity_status = 'churned')::BIGINT AS is_churned,
    purchase_count > 0 AS has_purchase_history,
    CASE WHEN session_count = 0 THEN 'missing_sessions'
         WHEN event_count > getvariable('session_outlier_ratio') * session_count
         THEN 'anomalous_session_ratio' END AS data_quality_flag,
    CASE WHEN purchase_count = 0 THEN 'Prospect'
         WHEN purchase_count = 1 THEN 'First-Time Buyer'
         WHEN purchase_count <= 5 THEN 'Repeat Customer'
         ELSE 'Loyal Customer' END AS customer_lifecycle_stage
FROM with_status;

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

CREATE TABLE dim_categories AS
WITH categories AS (
    SELECT DISTINCT category_id
    FROM fct_events
    WHERE category_id IS NOT NULL
),
best_codes AS (
    SELECT category_id, category_code
    FROM fct_events
    WHERE category_id IS NOT NULL AND category_code IS NOT NULL
    GROUP BY category_id, category_code
    QUALIFY row_number() OVER (PARTITION BY category_id ORDER BY count(*) DESC, category_code) = 1
)
SELECT
    category_id AS raw_category_id,
    category_code,
    string_split(category_code, '.')[1] AS category_lvl_1,
    string_split(category_code, '.')[2] AS category_lvl_2,
    string_split(category_code, '.')[3] AS category_lvl_3,
    string_split(category_code, '.')[4] AS category_lvl_4
FROM categories
LEFT JOIN best_codes USING (category_id);

CREATE TABLE dim_products AS
WITH best_pairs AS (
    SELECT product_id, brand, category_id
    FROM fct_events
    GROUP BY product_id, brand, category_id
    QUALIFY row_number() OVER (
        PARTITION BY product_id
        ORDER BY count(*) DESC, brand NULLS LAST, category_id::BIGINT NULLS LAST
    ) = 1
)
SELECT
    product_id,
    brand,
    category_id,
    category_code,
    category_lvl_1,
    category_lvl_2,
    category_lvl_3,
    category_lvl_4
FROM best_pairs
LEFT JOIN dim_categories ON raw_category_id = category_id;

CREATE TABLE metrics_churn AS
WITH customers AS (
    SELECT
        first_purchase_date,
        purchase_count = 1
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

CREATE TABLE metrics_funnel AS
WITH sessions_of_users AS (
    SELECT
        fct_sessions.*,
        customer_lifecycle_stage,
        activity_status,
        coalesce(rfm_segment, 'No RFM Score') AS rfm_segment
    FROM fct_sessions
    JOIN dim_users USING (user_id)
    LEFT JOIN dim_user_rfm USING (user_id)
),
dimension_values AS (
    SELECT 'overall' AS dimension, 'all' AS value, * FROM sessions_of_users
    UNION ALL SELECT 'session_start_date', session_start_date::VARCHAR, * FROM sessions_of_users
    UNION ALL SELECT 'session_quality_tier', session_quality_tier, * FROM sessions_of_users
    UNION ALL SELECT 'session_length_bucket', session_length_bucket, * FROM sessions_of_users
    UNION ALL SELECT 'customer_lifecycle_stage', customer_lifecycle_stage, * FROM sessions_of_users
    UNION ALL SELECT 'activity_status', activity_status, * FROM sessions_of_users
    UNION ALL SELECT 'rfm_segment', rfm_segment, * FROM sessions_of_users
),
summed AS (
    SELECT
        dimension,
        value,
        count(*) AS sessions,
        sum(reached_view)::BIGINT AS sessions_reached_view,
        sum(reached_cart)::BIGINT AS sessions_reached_cart,
        sum(reached_purchase)::BIGINT AS sessions_reached_purchase,
        count(*) FILTER (WHERE event_count = 1) AS bounced_sessions,
        sum(event_count)::BIGINT AS events,
        sum(purchase_count)::BIGINT AS purchases,
        coalesce(sum(total_revenue), 0)::DECIMAL(38, 9) AS revenue
    FROM dimension_values
    GROUP BY dimension, value
)
SELECT
    *,
    rate(sessions_reached_cart, sessions_reached_view) AS view_to_cart_rate,
    rate(sessions_reached_purchase, sessions_reached_cart) AS cart_to_purchase_rate,
    rate(sessions_reached_purchase, sessions) AS conversion_rate,
    rate(bounced_sessions, sessions) AS bounce_rate,
    mean_money(revenue, sessions) AS revenue_per_session,
    mean_money(revenue, sessions_reached_purchase) AS revenue_per_purchasing_session
FROM summed;

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

CREATE TABLE metrics_categories AS
WITH events AS (
    SELECT
        coalesce(dim_products.category_lvl_1, 'unknown') AS category_lvl_1,
        dim_products.category_lvl_2 AS category_lvl_2,
        user_session,
        user_id,
        is_view,
        is_cart_add,
        is_purchase,
        revenue
    FROM fct_events
    JOIN dim_products USING (product_id)
),
summed AS (
    SELECT
        2 - grouping(category_lvl_2) AS level,
        category_lvl_1,
        category_lvl_2,
        count(*) AS events,
        sum(is_view)::BIGINT AS views,
        sum(is_cart_add)::BIGINT AS cart_adds,
        sum(is_purchase)::BIGINT AS purchases,
        count(DISTINCT user_session) AS user_sessions,
        count(DISTINCT user_id) AS users,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue
    FROM events
    GROUP BY GROUPING SETS ((category_lvl_1), (category_lvl_1, category_lvl_2))
)
SELECT
    *,
    rate(purchases, events) AS purchase_rate,
    rate(cart_adds, events) AS cart_add_rate,
    rate(views, user_sessions) AS avg_views_per_session
FROM summed;

CREATE TABLE metrics_category_rfm AS
SELECT
    coalesce(category_lvl_1, 'unknown') AS category_lvl_1,
    rfm_segment,
    count(*) AS purchases,
    sum(revenue) AS revenue
FROM fct_events
JOIN dim_products USING (product_id)
JOIN dim_user_rfm USING (user_id)
WHERE is_purchase = 1
GROUP BY ALL;

CREATE TABLE metrics_periods AS
WITH periods(period) AS (
    VALUES ('day'), ('week'), ('month')
),
by_day_and_user AS (
    SELECT
        event_date,
        user_id,
        count(*) AS events,
        sum(is_view) AS views,
        sum(is_cart_add) AS cart_adds,
        sum(is_purchase) AS purchases,
        sum(revenue) AS revenue
    FROM fct_events
    GROUP BY event_date, user_id
),
from_events AS (
    SELECT
        period,
        date_trunc(period, event_date)::DATE AS period_start,
        count(DISTINCT user_id) AS users,
        count(DISTINCT user_id) FILTER (WHERE purchases > 0) AS purchasing_users,
        sum(events)::BIGINT AS events,
        sum(views)::BIGINT AS views,
        sum(cart_adds)::BIGINT AS cart_adds,
        sum(purchases)::BIGINT AS purchases,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue
    FROM by_day_and_user
    CROSS JOIN periods
    GROUP BY ALL
),
from_sessions AS (
    SELECT
        period,
        date_trunc(period, session_start_date)::DATE AS period_start,
        count(*) AS sessions,
        sum(is_converting_session)::BIGINT AS converting_sessions
    FROM fct_sessions
    CROSS JOIN periods
    GROUP BY ALL
)
-- A session starts with an event, so no period has sessions only.
SELECT
    period,
    period_start,
    users,
    purchasing_users,
    events,
    views,
    cart_adds,
    purchases,
    coalesce(from_sessions.sessions, 0) AS sessions,
    coalesce(from_sessions.converting_sessions, 0) AS converting_sessions,
    revenue,
    rate(from_sessions.converting_sessions, from_sessions.sessions) AS conversion_rate,
    mean_money_in_cents(revenue, purchases) AS avg_order_value
FROM from_events
LEFT JOIN from_sessions USING (period, period_start);

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
