-- Ranks and shares are of whole billionths, so that nothing is rounded before it is compared.
CREATE TABLE metrics_products AS
WITH sums AS (
    SELECT
        product_id,
        count(*) AS events,
        sum(is_view)::BIGINT AS views,
        sum(is_cart_add)::BIGINT AS cart_adds,
        sum(is_cart_remove)::BIGINT AS cart_removes,
        sum(is_purchase)::BIGINT AS purchases,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue,
        min(event_date) AS first_event_date,
        max(event_date) AS last_event_date,
        max(event_date) FILTER (WHERE is_purchase = 1) AS last_purchase_date,
        min(price) AS min_price,
        max(price) AS max_price
    FROM fct_events
    GROUP BY product_id
),
orders AS (
    SELECT product_id, count(DISTINCT order_id) AS orders
    FROM purchases_in_orders
    GROUP BY product_id
),
by_user AS (
    SELECT
        product_id,
        user_id,
        bool_or(has_carted) AS has_carted,
        count(DISTINCT purchase_date) AS purchase_days
    FROM sold_by_user
    GROUP BY product_id, user_id
),
users AS (
    SELECT
        product_id,
        count(*) FILTER (WHERE has_carted) AS carters,
        count(*) FILTER (WHERE purchase_days > 0) AS buyers,
        count(*) FILTER (WHERE has_carted AND purchase_days > 0) AS carted_buyers,
        count(*) FILTER (WHERE purchase_days > 1) AS repeat_buyers
    FROM by_user
    GROUP BY product_id
),
joined AS (
    SELECT
        *,
        row_number() OVER by_revenue AS revenue_rank,
        sum(billionths(revenue)::DECIMAL(38, 0)) OVER by_revenue AS up_to,
        sum(billionths(revenue)::DECIMAL(38, 0)) OVER () AS whole
    FROM dim_products
    JOIN sums USING (product_id)
    LEFT JOIN orders USING (product_id)
    LEFT JOIN users USING (product_id)
    WINDOW by_revenue AS (
        ORDER BY revenue DESC, product_id::BIGINT
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
)
SELECT
    product_id,
    brand,
    category_lvl_1,
    category_lvl_2,
    events,
    views,
    cart_adds,
    cart_removes,
    purchases,
    coalesce(orders, 0) AS orders,
    coalesce(carters, 0) AS carters,
    coalesce(buyers, 0) AS buyers,
    coalesce(repeat_buyers, 0) AS repeat_buyers,
    revenue,
    rate(cart_adds, views) AS view_to_cart_rate,
    rate(purchases, views) AS view_to_purchase_rate,
    rate(carted_buyers, coalesce(carters, 0)) AS cart_to_purchase_rate,
    rate(repeat_buyers, coalesce(buyers, 0)) AS repeat_buyer_rate,
    first_event_date,
    last_event_date,
    last_purchase_date,
    min_price,
    max_price,
    revenue_rank,
    share_of(billionths(revenue), whole) AS revenue_share,
    share_of(up_to, whole) AS cumulative_share,
    abc_class_of(billionths(revenue), up_to, whole) AS abc_class
FROM joined;
