-- The events that take part in the funnels, those of an entity in their order.
-- Reads funnels and funnel_filters, which the configuration gives: see oracle.py.
CREATE TABLE funnel_events AS
WITH events AS (
    SELECT
        fct_events.*,
        string_split(category_code, '.')[1] AS category_lvl_1,
        string_split(category_code, '.')[2] AS category_lvl_2,
        string_split(category_code, '.')[3] AS category_lvl_3,
        string_split(category_code, '.')[4] AS category_lvl_4
    FROM fct_events
),
matches AS (
    SELECT funnel, event_id, kind, number
    FROM events
    JOIN funnel_filters AS wanted
      ON (wanted.event IS NULL OR list_contains(wanted.event, event_type))
     AND (wanted.product_id IS NULL OR list_contains(wanted.product_id, events.product_id))
     AND (wanted.brand IS NULL OR list_contains(wanted.brand, events.brand))
     AND (wanted.category_id IS NULL OR list_contains(wanted.category_id, events.category_id))
     AND (wanted.category_lvl_1 IS NULL OR list_contains(wanted.category_lvl_1, events.category_lvl_1))
     AND (wanted.category_lvl_2 IS NULL OR list_contains(wanted.category_lvl_2, events.category_lvl_2))
     AND (wanted.category_lvl_3 IS NULL OR list_contains(wanted.category_lvl_3, events.category_lvl_3))
     AND (wanted.category_lvl_4 IS NULL OR list_contains(wanted.category_lvl_4, events.category_lvl_4))
     AND (wanted.price_min IS NULL OR price >= wanted.price_min)
     AND (wanted.price_max IS NULL OR price <= wanted.price_max)
),
matched AS (
    SELECT
        funnel,
        event_id,
        coalesce(list(number) FILTER (WHERE kind = 'step'), []) AS steps,
        coalesce(list(number) FILTER (WHERE kind = 'exclude'), []) AS exclusions
    FROM matches
    GROUP BY funnel, event_id
),
held AS (
    SELECT
        funnels.funnel,
        step_order,
        events.*,
        CASE scope WHEN 'session' THEN session_id ELSE user_id END AS owner,
        list_transform(hold, lambda name: CASE name
            WHEN 'product_id' THEN product_id
            WHEN 'brand' THEN brand
            WHEN 'category_id' THEN category_id
            WHEN 'category_lvl_1' THEN category_lvl_1
            WHEN 'category_lvl_2' THEN category_lvl_2
            WHEN 'category_lvl_3' THEN category_lvl_3
            WHEN 'category_lvl_4' THEN category_lvl_4
        END) AS held_values
    FROM events
    CROSS JOIN funnels
)
SELECT
    held.*,
    coalesce(steps, []) AS steps,
    coalesce(exclusions, []) AS exclusions,
    coalesce(list_min(steps), 11) AS first_step,
    row_number() OVER (
        PARTITION BY funnel, owner, held_values
        ORDER BY event_time,
                 CASE WHEN len(exclusions) > 0 THEN 0 ELSE coalesce(list_min(steps), 11) END,
                 event_id
    ) AS place
FROM held
LEFT JOIN matched USING (funnel, event_id)
WHERE (matched.event_id IS NOT NULL OR step_order = 'strict')
  AND len(list_filter(held_values, lambda value: value IS NULL)) = 0;
