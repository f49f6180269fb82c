-- What DuckDB does faster than by the textbook SQL of tests/oracle/tables: a statement here takes the
-- place of the oracle's statement of that name; a statement of another name is run before the next one.
--
-- Reads events_raw as the oracle does, with price a DECIMAL(18,9), event_type an ENUM and a column
-- session_number of zeros. It is cleaned in place: deleting and updating the few rows concerned is
-- cheaper than writing the table anew, and halves the memory.

-- Hashing finds the few rows that may have duplicates; only these are partitioned and sorted.
CREATE TABLE surplus_duplicates AS
WITH doubled AS (
    SELECT hash(event_time, event_type, product_id, user_id, user_session) AS key_hash
    FROM events_raw
    GROUP BY key_hash
    HAVING count(*) > 1
)
SELECT rowid AS surplus
FROM events_raw
WHERE hash(event_time, event_type, product_id, user_id, user_session) IN (FROM doubled)
QUALIFY row_number() OVER (
    PARTITION BY event_time, event_type, product_id, user_id, user_session
    ORDER BY category_id NULLS LAST, category_code NULLS LAST, brand NULLS LAST, price
) > 1;

DELETE FROM events_raw WHERE rowid IN (FROM surplus_duplicates);

CREATE VIEW events_deduplicated AS FROM events_raw;

CREATE TABLE multi_brand_products AS
SELECT product_id
FROM events_deduplicated
GROUP BY product_id
HAVING min(brand) <> max(brand);

DELETE FROM events_raw
WHERE user_session IS NULL OR product_id IN (FROM multi_brand_products);

-- A user_session that lasts no longer than the timeout is one session; only the others are sorted.
CREATE TABLE later_sessions AS
WITH longer AS (
    SELECT user_session
    FROM events_raw
    GROUP BY user_session
    HAVING date_diff('second', min(event_time), max(event_time)) > getvariable('session_timeout_seconds')
),
with_gaps AS (
    SELECT
        rowid AS event,
        user_session,
        event_time,
        date_diff('second', lag(event_time) OVER (
            PARTITION BY user_session ORDER BY event_time
        ), event_time) AS gap_seconds
    FROM events_raw
    WHERE user_session IN (FROM longer)
)
SELECT
    event,
    count(*) FILTER (WHERE gap_seconds > getvariable('session_timeout_seconds')) OVER (
        PARTITION BY user_session ORDER BY event_time
    ) AS session_number
FROM with_gaps
QUALIFY session_number > 0;

UPDATE events_raw
SET session_number = later_sessions.session_number
FROM later_sessions
WHERE events_raw.rowid = event;

-- A view: every statement computes the columns that it reads, and none is kept in memory twice.
CREATE VIEW fct_events AS
SELECT
    md5(concat_ws(
        '|', strftime(event_time, '%Y-%m-%d %H:%M:%S'), event_type, user_id, product_id, user_session
    )) AS event_id,
    event_time,
    event_time::DATE AS event_date,
    event_type::VARCHAR AS event_type,
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
FROM events_raw;

CREATE TABLE event_counts AS
SELECT coalesce(getvariable('as_of')::DATE, max(event_time)::DATE) AS as_of
FROM events_raw;

-- Grouped by the two columns that make the session_id, whose text is then made once a session.
CREATE TABLE fct_sessions AS
WITH summed AS (
    SELECT
        user_session,
        session_number,
        max(user_id::VARCHAR) AS user_id,
        min(event_time) AS session_start_time,
        max(event_time) AS session_end_time,
        date_diff('second', min(event_time), max(event_time)) AS session_length,
        count(*) AS event_count,
        count(DISTINCT product_id) AS unique_product_count,
        count(*) FILTER (WHERE event_type = 'view') AS view_count,
        count(*) FILTER (WHERE event_type = 'cart') AS cart_additions,
        count(*) FILTER (WHERE event_type = 'remove_from_cart') AS cart_removals,
        count(*) FILTER (WHERE event_type = 'purchase') AS purchase_count,
        sum(price) FILTER (WHERE event_type = 'purchase') AS total_revenue
    FROM events_raw
    GROUP BY user_session, session_number
)
SELECT
    CASE WHEN session_number = 0 THEN user_session
         ELSE user_session || '_timeout_' || session_number END AS session_id,
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

-- All that is asked of products and categories, in one pass over the events.
CREATE TABLE product_sums AS
SELECT
    product_id,
    brand,
    category_id,
    category_code,
    count(*) AS events,
    count(*) FILTER (WHERE event_type = 'view') AS views,
    count(*) FILTER (WHERE event_type = 'cart') AS cart_adds,
    count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
    sum(price) FILTER (WHERE event_type = 'purchase') AS revenue
FROM events_raw
GROUP BY product_id, brand, category_id, category_code;

CREATE TABLE dim_categories AS
WITH best_codes AS (
    SELECT category_id, category_code
    FROM product_sums
    WHERE category_id IS NOT NULL
    GROUP BY category_id, category_code
    QUALIFY row_number() OVER (
        PARTITION BY category_id
        ORDER BY category_code IS NULL, sum(events) DESC, category_code
    ) = 1
)
SELECT
    category_id::VARCHAR AS raw_category_id,
    category_code,
    string_split(category_code, '.')[1] AS category_lvl_1,
    string_split(category_code, '.')[2] AS category_lvl_2,
    string_split(category_code, '.')[3] AS category_lvl_3,
    string_split(category_code, '.')[4] AS category_lvl_4
FROM best_codes;

CREATE TABLE dim_products AS
WITH best_pairs AS (
    SELECT
        product_id::VARCHAR AS product_id,
        brand,
        category_id::VARCHAR AS category_id
    FROM product_sums
    GROUP BY product_sums.product_id, brand, product_sums.category_id
    QUALIFY row_number() OVER (
        PARTITION BY product_sums.product_id
        ORDER BY sum(events) DESC, brand NULLS LAST, product_sums.category_id NULLS LAST
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

-- Who touched what is far less than the events, and the distinct counts need no more.
CREATE TABLE touches AS
SELECT DISTINCT
    coalesce(category_lvl_1, 'unknown') AS category_lvl_1,
    category_lvl_2,
    user_session,
    user_id
FROM events_raw
JOIN (
    SELECT product_id::BIGINT AS product_id, category_lvl_1, category_lvl_2 FROM dim_products
) USING (product_id);

CREATE TABLE metrics_categories AS
WITH distinct_counts AS (
    SELECT
        2 - grouping(category_lvl_2) AS level,
        category_lvl_1,
        category_lvl_2,
        count(DISTINCT user_session) AS user_sessions,
        count(DISTINCT user_id) AS users
    FROM touches
    GROUP BY GROUPING SETS ((category_lvl_1), (category_lvl_1, category_lvl_2))
),
summed AS (
    SELECT
        2 - grouping(category_lvl_2) AS level,
        coalesce(category_lvl_1, 'unknown') AS category_lvl_1,
        category_lvl_2,
        sum(events)::BIGINT AS events,
        sum(views)::BIGINT AS views,
        sum(cart_adds)::BIGINT AS cart_adds,
        sum(purchases)::BIGINT AS purchases,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue
    FROM product_sums
    JOIN dim_products ON dim_products.product_id = product_sums.product_id::VARCHAR
    GROUP BY GROUPING SETS (
        (coalesce(category_lvl_1, 'unknown')), (coalesce(category_lvl_1, 'unknown'), category_lvl_2)
    )
)
SELECT
    summed.level,
    summed.category_lvl_1,
    summed.category_lvl_2,
    events,
    views,
    cart_adds,
    purchases,
    user_sessions,
    users,
    revenue,
    rate(purchases, events) AS purchase_rate,
    rate(cart_adds, events) AS cart_add_rate,
    rate(views, user_sessions) AS avg_views_per_session
FROM summed
JOIN distinct_counts
  ON summed.level = distinct_counts.level
 AND summed.category_lvl_1 = distinct_counts.category_lvl_1
 AND summed.category_lvl_2 IS NOT DISTINCT FROM distinct_counts.category_lvl_2;
