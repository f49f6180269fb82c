CREATE TABLE dim_products AS
WITH best_pairs AS (
    SELECT product_id, brand, category_id
    FROM fct_events
    GROUP BY product_id, brand, category_id
    QUALIFY row_number() OVER (
        PARTITION BY product_id
        ORDER BY count(*) DESC, brand NULLS LAST, category_id::BIGINT NULLS LAST
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
