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
