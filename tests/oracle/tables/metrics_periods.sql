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
),
from_orders AS (
    SELECT
        period,
        date_trunc(period, order_date)::DATE AS period_start,
        count(*) AS orders
    FROM fct_orders
    CROSS JOIN periods
    GROUP BY ALL
)
-- A session and an order start with an event, so no period has sessions or orders only. An order is of the
-- period in which it starts, its items and their revenue are of the periods of their events: of an order over
-- midnight the next day has revenue and no order, and then no averages.
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
    mean_money_in_cents(revenue, purchases) AS avg_order_value,
    coalesce(from_orders.orders, 0) AS orders,
    mean_money_in_cents(revenue, from_orders.orders) AS avg_basket_value,
    rate(purchases, from_orders.orders) AS items_per_order
FROM from_events
LEFT JOIN from_sessions USING (period, period_start)
LEFT JOIN from_orders USING (period, period_start);
