-- First what is after as_of goes, as if it had not happened yet. Cleaning 1: of the rows that are duplicates of each other, the first.
CREATE TABLE events_deduplicated AS
SELECT *
FROM events_raw
WHERE coalesce(event_time::DATE <= getvariable('as_of')::DATE, true)
QUALIFY row_number() OVER (
    PARTITION BY event_time, event_type, product_id, user_id, user_session
    ORDER BY category_id NULLS LAST, category_code NULLS LAST, brand NULLS LAST, price
) = 1;
