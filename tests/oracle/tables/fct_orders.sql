CREATE TABLE fct_orders AS
WITH with_gaps AS (
    SELECT
        user_id,
        session_id,
        event_time,
        product_id,
        revenue,
        date_diff('second', lag(event_time) OVER (
            PARTITION BY user_id, session_id ORDER BY event_time
        ), event_time) AS gap_seconds
    FROM fct_events
    WHERE is_purchase = 1
),
-- The default frame holds all events of the same time, so that they share an order.
numbered AS (
    SELECT
        *,
        count(*) FILTER (WHERE gap_seconds > getvariable('order_gap_seconds')) OVER (
            PARTITION BY user_id, session_id ORDER BY event_time
        ) AS number_in_session
    FROM with_gaps
),
orders AS (
    SELECT
        user_id,
        session_id,
        min(event_time) AS order_time,
        count(*) AS item_count,
        count(DISTINCT product_id) AS product_count,
        sum(revenue) AS revenue
    FROM numbered
    GROUP BY user_id, session_id, number_in_session
),
named AS (
    SELECT
        md5(concat_ws(
            '|', user_id, session_id, strftime(order_time, '%Y-%m-%d %H:%M:%S')
        )) AS order_id,
        *,
        order_time::DATE AS order_date
    FROM orders
),
with_order_numbers AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY user_id ORDER BY order_time, order_id) AS order_number,
        order_date - lag(order_date) OVER (
            PARTITION BY user_id ORDER BY order_time, order_id
        ) AS days_since_previous_order
    FROM named
)
-- The session is the whole one, whoever of its users it is counted for.
SELECT
    order_id,
    with_order_numbers.user_id,
    session_id,
    order_time,
    order_date,
    item_count,
    product_count,
    revenue,
    order_number,
    days_since_previous_order,
    date_diff('second', session_start_time, order_time) AS seconds_in_session,
    order_number = 1 AS is_first_order
FROM with_order_numbers
JOIN fct_sessions USING (session_id);
