-- One row: what became of the accepted rows.
CREATE TABLE event_counts AS
WITH counted AS (
    SELECT
        (SELECT count(*) FROM events_raw) AS accepted,
        (SELECT count(*) FROM events_raw
         WHERE event_time::DATE > getvariable('as_of')::DATE) AS after_as_of,
        (SELECT count(*) FROM events_deduplicated) AS deduplicated,
        (SELECT count(*) FROM events_deduplicated
         WHERE product_id NOT IN (SELECT product_id FROM multi_brand_products)) AS single_brand,
        (SELECT count(*) FROM fct_events) AS events_kept
)
SELECT
    accepted,
    events_kept,
    after_as_of,
    accepted - after_as_of - deduplicated AS duplicate,
    deduplicated - single_brand AS multi_brand_product,
    single_brand - events_kept AS missing_session,
    coalesce(getvariable('as_of')::DATE, (SELECT max(event_date) FROM fct_events)) AS as_of
FROM counted;
