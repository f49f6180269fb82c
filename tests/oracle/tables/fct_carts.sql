CREATE TABLE fct_carts AS
WITH added AS (
    SELECT
        user_id,
        session_id,
        product_id,
        min(event_time) AS first_added_time,
        max(event_time) AS last_added_time,
        count(*) AS additions
    FROM fct_events
    WHERE is_cart_add = 1
    GROUP BY user_id, session_id, product_id
),
removed AS (
    SELECT
        user_id,
        session_id,
        product_id,
        max(event_time) AS last_removed_time,
        count(*) AS removals
    FROM fct_events
    WHERE is_cart_remove = 1
    GROUP BY user_id, session_id, product_id
),
priced AS (
    SELECT added.user_id, added.session_id, added.product_id, max(price) AS price
    FROM added
    JOIN fct_events
        ON fct_events.user_id = added.user_id
        AND fct_events.session_id = added.session_id
        AND fct_events.product_id = added.product_id
        AND event_time = last_added_time
    WHERE is_cart_add = 1
    GROUP BY ALL
),
bought AS (
    SELECT user_id, session_id, product_id, event_time FROM fct_events WHERE is_purchase = 1
),
in_session AS (
    SELECT added.user_id, added.session_id, added.product_id, min(event_time) AS purchased_time
    FROM added
    JOIN bought
        ON bought.user_id = added.user_id
        AND bought.session_id = added.session_id
        AND bought.product_id = added.product_id
        AND event_time >= first_added_time
    GROUP BY ALL
),
elsewhere AS (
    SELECT
        added.user_id,
        added.session_id,
        added.product_id,
        min(event_time) AS recovered_time
    FROM added
    JOIN bought
        ON bought.user_id = added.user_id
        AND bought.session_id <> added.session_id
        AND bought.product_id = added.product_id
        AND event_time > last_added_time
        AND event_time <= last_added_time + INTERVAL 7 DAY
    GROUP BY ALL
),
again AS (
    SELECT
        added.user_id,
        added.session_id,
        added.product_id,
        min(later.first_added_time) AS added_again_time
    FROM added
    JOIN added AS later
        ON later.user_id = added.user_id
        AND later.session_id <> added.session_id
        AND later.product_id = added.product_id
        AND later.first_added_time > added.last_added_time
        AND later.first_added_time <= added.last_added_time + INTERVAL 7 DAY
    GROUP BY ALL
),
with_status AS (
    SELECT
        *,
        CASE WHEN purchased_time IS NOT NULL THEN 'purchased'
             WHEN last_removed_time >= last_added_time THEN 'removed'
             WHEN added_again_time IS NOT NULL THEN 'carried_over'
             WHEN recovered_time IS NOT NULL THEN 'recovered'
             WHEN last_added_time + INTERVAL 7 DAY
                > as_of::TIMESTAMP + INTERVAL 86399 SECOND THEN 'open'
             ELSE 'abandoned' END AS status
    FROM added
    CROSS JOIN event_counts
    JOIN priced USING (user_id, session_id, product_id)
    LEFT JOIN removed USING (user_id, session_id, product_id)
    LEFT JOIN in_session USING (user_id, session_id, product_id)
    LEFT JOIN elsewhere USING (user_id, session_id, product_id)
    LEFT JOIN again USING (user_id, session_id, product_id)
)
SELECT
    user_id,
    session_id,
    product_id,
    first_added_time::DATE AS cart_date,
    first_added_time,
    last_added_time,
    additions,
    coalesce(removals, 0) AS removals,
    price,
    status,
    CASE status WHEN 'purchased' THEN purchased_time
                WHEN 'carried_over' THEN added_again_time
                WHEN 'recovered' THEN recovered_time END AS resolved_time
FROM with_status;
