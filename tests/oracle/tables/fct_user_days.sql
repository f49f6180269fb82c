-- A session is counted for its user on the day it starts; where that user has no event on that day (somebody
-- else began the session) there is no row to count it in.
CREATE TABLE fct_user_days AS
WITH from_events AS (
    SELECT
        user_id,
        event_date,
        count(*) AS events,
        sum(is_view)::BIGINT AS views,
        sum(is_cart_add)::BIGINT AS cart_adds,
        sum(is_cart_remove)::BIGINT AS cart_removes,
        sum(is_purchase)::BIGINT AS purchases,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue
    FROM fct_events
    GROUP BY user_id, event_date
),
from_orders AS (
    SELECT user_id, order_date AS event_date, count(*) AS orders
    FROM fct_orders
    GROUP BY user_id, order_date
),
from_sessions AS (
    SELECT user_id, session_start_date AS event_date, count(*) AS sessions
    FROM fct_sessions
    GROUP BY user_id, session_start_date
)
SELECT
    user_id,
    event_date,
    events,
    views,
    cart_adds,
    cart_removes,
    purchases,
    coalesce(orders, 0) AS orders,
    coalesce(sessions, 0) AS sessions,
    revenue
FROM from_events
LEFT JOIN from_orders USING (user_id, event_date)
LEFT JOIN from_sessions USING (user_id, event_date);
