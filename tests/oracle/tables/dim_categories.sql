CREATE TABLE dim_categories AS
WITH categories AS (
    SELECT DISTINCT category_id
    FROM fct_events
    WHERE category_id IS NOT NULL
),
best_codes AS (
    SELECT category_id, category_code
    FROM fct_events
    WHERE category_id IS NOT NULL AND category_code IS NOT NULL
    GROUP BY category_id, category_code
    QUALIFY row_number() OVER (PARTITION BY category_id ORDER BY count(*) DESC, category_code) = 1
)
SELECT
    category_id AS raw_category_id,
    category_code,
    string_split(category_code, '.')[1] AS category_lvl_1,
    string_split(category_code, '.')[2] AS category_lvl_2,
    string_split(category_code, '.')[3] AS category_lvl_3,
    string_split(category_code, '.')[4] AS category_lvl_4
FROM categories
LEFT JOIN best_codes USING (category_id);
