-- The order of each purchase: the last of its user and session that begins by then.
CREATE TABLE purchases_in_orders AS
SELECT
    order_id,
    fct_events.user_id,
    fct_events.session_id,
    product_id,
    event_date
FROM fct_events
ASOF JOIN fct_orders
    ON fct_events.user_id = fct_orders.user_id
    AND fct_events.session_id = fct_orders.session_id
    AND fct_events.event_time >= fct_orders.order_time
WHERE is_purchase = 1;

-- Who carted and who bought what: a row for each time, with the date of a purchase.
CREATE TABLE sold_by_user AS
SELECT
    product_id,
    coalesce(dim_products.brand, 'unknown') AS brand,
    user_id,
    is_cart_add = 1 AS has_carted,
    CASE is_purchase WHEN 1 THEN event_date END AS purchase_date
FROM fct_events
JOIN dim_products USING (product_id)
WHERE is_cart_add = 1 OR is_purchase = 1;
