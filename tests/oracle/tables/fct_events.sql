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
