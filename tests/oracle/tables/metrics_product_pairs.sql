CREATE TABLE metrics_product_pairs AS
WITH items AS (
    SELECT DISTINCT 'order' AS basis, order_id AS basket, product_id::BIGINT AS product
    FROM purchases_in_orders
    UNION ALL
    SELECT DISTINCT 'session', session_id, product_id::BIGINT
    FROM fct_events
    WHERE is_purchase = 1
),
kept AS (
    SELECT *
    FROM items
    QUALIFY count(*) OVER (PARTITION BY basis, basket) <= 100
),
all_baskets AS (
    SELECT basis, count(DISTINCT basket) AS baskets
    FROM kept
    GROUP BY basis
),
of_product AS (
    SELECT basis, product, count(*) AS baskets
    FROM kept
    GROUP BY basis, product
),
pairs AS (
    SELECT a.basis, a.product AS product_a, b.product AS product_b, count(*) AS together
    FROM kept AS a
    JOIN kept AS b ON a.basis = b.basis AND a.basket = b.basket AND a.product < b.product
    GROUP BY ALL
    HAVING count(*) >= getvariable('min_pair_baskets')
),
counted AS (
    SELECT
        pairs.*,
        of_a.baskets AS baskets_a,
        of_b.baskets AS baskets_b,
        all_baskets.baskets
    FROM pairs
    JOIN all_baskets ON all_baskets.basis = pairs.basis
    JOIN of_product AS of_a ON of_a.basis = pairs.basis AND of_a.product = product_a
    JOIN of_product AS of_b ON of_b.basis = pairs.basis AND of_b.product = product_b
),
-- Each pair from the side of each of its products. x is better than y where x / y > 1, so lifts are compared by
-- their products crosswise; how many are better is the place.
sides AS (
    SELECT basis, product_a, product_b, product_a AS product, product_b AS other,
        together, together * baskets AS over, baskets_a * baskets_b AS under
    FROM counted
    UNION ALL
    SELECT basis, product_a, product_b, product_b, product_a,
        together, together * baskets, baskets_a * baskets_b
    FROM counted
),
places AS (
    SELECT
        sides.basis,
        sides.product_a,
        sides.product_b,
        count(better.product) AS place
    FROM sides
    LEFT JOIN sides AS better
        ON better.basis = sides.basis
        AND better.product = sides.product
        AND (
            better.together > sides.together
            OR better.together = sides.together
            AND better.over * sides.under > sides.over * better.under
            OR better.together = sides.together
            AND better.over * sides.under = sides.over * better.under
            AND better.other < sides.other
        )
    GROUP BY sides.basis, sides.product, sides.other, sides.product_a, sides.product_b
),
best AS (
    SELECT DISTINCT basis, product_a, product_b
    FROM places
    WHERE place < 20
)
SELECT
    basis,
    product_a::VARCHAR AS product_a,
    product_b::VARCHAR AS product_b,
    baskets_a,
    baskets_b,
    together,
    baskets,
    rate(together, baskets) AS support,
    rate(together, baskets_a) AS confidence_ab,
    rate(together, baskets_b) AS confidence_ba,
    rate(together * baskets, baskets_a * baskets_b) AS lift
FROM counted
JOIN best USING (basis, product_a, product_b);
