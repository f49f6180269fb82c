CREATE TABLE metrics_funnels AS
WITH furthest AS (
    SELECT funnel, owner, held_values, max(level) AS level, arg_max(start_place, level) AS start_place
    FROM funnel_attempts
    GROUP BY funnel, owner, held_values
),
entities AS (
    SELECT
        furthest.*,
        starts.* EXCLUDE (funnel, owner, held_values, user_id),
        CASE scope WHEN 'session' THEN fct_sessions.user_id ELSE furthest.owner END AS user_id,
        session_quality_tier,
        session_length_bucket,
        level < step_count
            AND CASE WHEN window_seconds IS NULL
                     THEN session_end_time + to_seconds(getvariable('session_timeout_seconds'))
                     ELSE starts.event_time + to_seconds(window_seconds) END
                > (SELECT as_of + TIME '23:59:59' FROM event_counts) AS is_open
    FROM furthest
    JOIN funnels USING (funnel)
    JOIN funnel_events AS starts
      ON starts.funnel = furthest.funnel AND starts.owner = furthest.owner
     AND starts.held_values = furthest.held_values AND starts.place = start_place
    JOIN fct_sessions USING (session_id)
),
broken_down AS (
    SELECT
        breakdown,
        coalesce(CASE breakdown
            WHEN 'overall' THEN 'all'
            WHEN 'product_id' THEN product_id
            WHEN 'brand' THEN brand
            WHEN 'category_lvl_1' THEN category_lvl_1
            WHEN 'category_lvl_2' THEN category_lvl_2
            WHEN 'category_lvl_3' THEN category_lvl_3
            WHEN 'category_lvl_4' THEN category_lvl_4
            WHEN 'day' THEN event_date::VARCHAR
            WHEN 'week' THEN period_start_of('week', event_date)::VARCHAR
            WHEN 'month' THEN period_start_of('month', event_date)::VARCHAR
            WHEN 'session_quality_tier' THEN session_quality_tier
            WHEN 'session_length_bucket' THEN session_length_bucket
            WHEN 'rfm_segment' THEN coalesce(rfm_segment, 'No RFM Score')
            WHEN 'activity_status' THEN activity_status
            WHEN 'customer_lifecycle_stage' THEN customer_lifecycle_stage
            WHEN 'order_lifecycle_stage' THEN order_lifecycle_stage
        END, '(none)') AS value,
        entities.*
    FROM (
        SELECT funnel, unnest(list_prepend('overall', breakdowns)) AS breakdown FROM funnels
    )
    JOIN entities USING (funnel)
    JOIN dim_users USING (user_id)
    LEFT JOIN dim_user_rfm USING (user_id)
),
-- By the number of entities, then by the text of the value.
placed AS (
    SELECT
        funnel, breakdown, value,
        row_number() OVER (PARTITION BY funnel, breakdown ORDER BY count(*) DESC, value) AS place
    FROM broken_down
    GROUP BY funnel, breakdown, value
),
told AS (
    SELECT
        broken_down.* EXCLUDE (value),
        CASE WHEN placed.place <= getvariable('most_values') THEN value ELSE '(other)' END AS value
    FROM broken_down
    JOIN placed USING (funnel, breakdown, value)
),
rows_of_table AS (
    SELECT funnel, breakdown, value, number AS step_number, step_name
    FROM (
        SELECT DISTINCT funnel, breakdown, value FROM told
        UNION
        SELECT funnel, 'overall', 'all' FROM funnels
    )
    JOIN funnel_filters USING (funnel)
    WHERE kind = 'step'
),
counted AS (
    SELECT
        funnel, breakdown, value, step_number, step_name,
        count(told.owner) AS entities,
        count(DISTINCT told.user_id) AS users,
        count(*) FILTER (WHERE is_open) AS open_entities
    FROM rows_of_table
    LEFT JOIN told USING (funnel, breakdown, value)
    WHERE told.level IS NULL OR told.level >= step_number
    GROUP BY ALL
),
waited AS (
    SELECT
        funnel, breakdown, value, funnel_attempts.level AS step_number, seconds,
        count(*) OVER (
            PARTITION BY funnel, breakdown, value, funnel_attempts.level ORDER BY seconds
        ) AS within,
        count(*) OVER (PARTITION BY funnel, breakdown, value, funnel_attempts.level) AS at_all
    FROM told
    JOIN funnel_attempts USING (funnel, owner, held_values)
),
timed AS (
    SELECT
        funnel, breakdown, value, step_number,
        min(seconds) FILTER (WHERE 100 * within >= 25 * at_all) AS p25_seconds,
        min(seconds) FILTER (WHERE 100 * within >= 50 * at_all) AS median_seconds,
        min(seconds) FILTER (WHERE 100 * within >= 75 * at_all) AS p75_seconds,
        min(seconds) FILTER (WHERE 100 * within >= 90 * at_all) AS p90_seconds,
        mean_days(sum(seconds), count(*)) AS mean_seconds
    FROM waited
    GROUP BY funnel, breakdown, value, step_number
),
complete AS (
    SELECT
        rows_of_table.*,
        coalesce(entities, 0) AS entities,
        coalesce(users, 0) AS users,
        coalesce(open_entities, 0) AS open_entities,
        timed.* EXCLUDE (funnel, breakdown, value, step_number)
    FROM rows_of_table
    LEFT JOIN counted USING (funnel, breakdown, value, step_number)
    LEFT JOIN timed USING (funnel, breakdown, value, step_number)
),
with_first AS (
    SELECT
        *,
        first_value(entities) OVER of_value AS of_first,
        lag(entities) OVER of_value AS before,
        first_value(entities - open_entities) OVER of_value AS closed_of_first,
        1.959964::DOUBLE * 1.959964::DOUBLE AS square
    FROM complete
    WINDOW of_value AS (PARTITION BY funnel, breakdown, value ORDER BY step_number)
),
with_spread AS (
    SELECT
        *,
        1.959964::DOUBLE * sqrt(
            entities::DOUBLE * (of_first - entities)::DOUBLE / nullif(of_first, 0)::DOUBLE + square / 4
        ) AS spread
    FROM with_first
)
SELECT
    funnel,
    breakdown,
    value,
    step_number,
    step_name,
    entities,
    users,
    open_entities,
    rate(entities, of_first) AS conversion_from_start,
    rate(entities, before) AS conversion_from_previous,
    floor((entities::DOUBLE + square / 2 - spread) / (of_first::DOUBLE + square) * 1e6::DOUBLE + 0.5::DOUBLE)
        / 1e6::DOUBLE AS conversion_low,
    floor((entities::DOUBLE + square / 2 + spread) / (of_first::DOUBLE + square) * 1e6::DOUBLE + 0.5::DOUBLE)
        / 1e6::DOUBLE AS conversion_high,
    rate(entities - open_entities, closed_of_first) AS closed_conversion_from_start,
    p25_seconds,
    median_seconds,
    p75_seconds,
    p90_seconds,
    mean_seconds
FROM with_spread;
