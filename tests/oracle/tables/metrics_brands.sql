-- An event counts for the brand that dim_products gives its product.
CREATE TABLE metrics_brands AS
WITH sums AS (
    SELECT
        coalesce(dim_products.brand, 'unknown') AS brand,
        count(DISTINCT product_id) AS products,
        count(*) AS events,
        sum(is_view)::BIGINT AS views,
        sum(is_cart_add)::BIGINT AS cart_adds,
        sum(is_cart_remove)::BIGINT AS cart_removes,
        sum(is_purchase)::BIGINT AS purchases,
        coalesce(sum(revenue), 0)::DECIMAL(38, 9) AS revenue,
        min(event_date) AS first_event_date,
        max(event_date) AS last_event_date,
        max(event_date) FILTER (WHERE is_purchase = 1) AS last_purchase_date
    FROM fct_events
    JOIN dim_products USING (product_id)
    GROUP BY 1
),
orders AS (
    SELECT
        coalesce(dim_products.brand, 'unknown') AS brand,
        count(DISTINCT order_id) AS orders
    FROM purchases_in_orders
    JOIN dim_products USING (product_id)
    GROUP BY 1
),
by_user AS (
    SELECT
        brand,
        user_id,
        bool_or(has_carted) AS has_carted,
        count(DISTINCT purchase_date) AS purchase_days
    FROM sold_by_user
    GROUP BY brand, user_id
),
users AS (
    SELECT
        brand,
        count(*) FILTER (WHERE has_carted) AS carters,
        count(*) FILTER (WHERE purchase_days > 0) AS buyers,
        count(*) FILTER (WHERE has_carted AND purchase_days > 0) AS carted_buyers,
        count(*) FILTER (WHERE purchase_days > 1) AS repeat_buyers
    FROM by_user
    GROUP BY brand
),
joined AS (
    SELECT
        *,
        row_number() OVER by_revenue AS revenue_rank,
        sum(billionths(revenue)::DECIMAL(38, 0)) OVER by_revenue AS up_to,
        sum(billionths(revenue)::DECIMAL(38, 0)) OVER () AS whole
    FROM sums
    LEFT JOIN orders USING (brand)
    LEFT JOIN users USING (brand)
    WINDOW by_revenue AS (
        ORDER BY revenue DESC, brand
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
)
SELECT
    brand,
    products,
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
    revenue_rank,
    share_of(billionths(revenue), whole) AS revenue_share,
    share_of(up_to, whole) AS cumulative_share,
    abc_class_of(billionths(revenue), up_to, whole) AS abc_class
FROM joined;
