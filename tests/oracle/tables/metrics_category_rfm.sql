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
