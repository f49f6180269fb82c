-- One row per entity and level that it reached: the event that begins, when the level was first reached.
CREATE TABLE funnel_attempts AS
WITH RECURSIVE chains AS (
    SELECT funnel, owner, held_values, 1 AS level, [place] AS places, event_time AS start_time
    FROM funnel_events
    WHERE step_order <> 'unordered' AND list_contains(steps, 1)
    UNION ALL
    SELECT
        chains.funnel, chains.owner, chains.held_values, level + 1, list_append(places, place), start_time
    FROM chains
    JOIN funnels ON funnels.funnel = chains.funnel
    JOIN funnel_events AS next
      ON next.funnel = chains.funnel
     AND next.owner = chains.owner
     AND next.held_values = chains.held_values
     AND list_contains(next.steps, level + 1)
     AND CASE funnels.step_order WHEN 'strict' THEN next.place = places[-1] + 1
                                 ELSE next.place > places[-1] END
     AND (window_seconds IS NULL OR date_diff('second', start_time, next.event_time) <= window_seconds)
    WHERE NOT EXISTS (
        SELECT 1
        FROM funnel_filters AS excluded
        JOIN funnel_events AS between_them
          ON between_them.funnel = chains.funnel
         AND between_them.owner = chains.owner
         AND between_them.held_values = chains.held_values
         AND list_contains(between_them.exclusions, excluded.number)
         AND between_them.place > places[excluded.after_step]
         AND between_them.place < next.place
        WHERE excluded.funnel = chains.funnel
          AND excluded.kind = 'exclude'
          AND excluded.after_step <= level
          AND excluded.before_step > level
    )
),
of_chains AS (
    SELECT
        funnel, owner, held_values, level,
        min(places[-1]) AS end_place,
        max(places[1]) FILTER (WHERE places[-1] = first_end) AS start_place
    FROM (
        SELECT *, min(places[-1]) OVER (PARTITION BY funnel, owner, held_values, level) AS first_end
        FROM chains
    )
    GROUP BY funnel, owner, held_values, level
),
-- In any order: from each event on, when each step is first taken within the window.
first_taken AS (
    SELECT
        starts.funnel, starts.owner, starts.held_values, starts.place, taken.first_step,
        min(date_diff('second', starts.event_time, taken.event_time)) AS seconds
    FROM funnel_events AS starts
    JOIN funnels USING (funnel)
    JOIN funnel_events AS taken
      ON taken.funnel = starts.funnel
     AND taken.owner = starts.owner
     AND taken.held_values = starts.held_values
     AND taken.event_time >= starts.event_time
     AND (window_seconds IS NULL
          OR date_diff('second', starts.event_time, taken.event_time) <= window_seconds)
    WHERE starts.step_order = 'unordered'
    GROUP BY ALL
),
in_turn AS (
    SELECT
        funnel, owner, held_values, place, seconds,
        row_number() OVER (
            PARTITION BY funnel, owner, held_values, place ORDER BY seconds, first_step
        ) AS level
    FROM first_taken
)
SELECT
    of_chains.funnel, of_chains.owner, of_chains.held_values, level, start_place,
    date_diff('second', starts.event_time, ends.event_time) AS seconds
FROM of_chains
JOIN funnel_events AS starts
  ON starts.funnel = of_chains.funnel AND starts.owner = of_chains.owner
 AND starts.held_values = of_chains.held_values AND starts.place = start_place
JOIN funnel_events AS ends
  ON ends.funnel = of_chains.funnel AND ends.owner = of_chains.owner
 AND ends.held_values = of_chains.held_values AND ends.place = end_place
UNION ALL
SELECT funnel, owner, held_values, level, min(place), arg_min(seconds, place)
FROM in_turn
GROUP BY funnel, owner, held_values, level;
