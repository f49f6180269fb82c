-- Cleaning 3: products with more than one brand, before rows without a session go.
CREATE TABLE multi_brand_products AS
SELECT product_id
FROM events_deduplicated
GROUP BY product_id
HAVING min(brand) <> max(brand);
