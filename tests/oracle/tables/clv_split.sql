-- One row: which days models are fitted on and which they are tested on; the test's are NULL without one.
CREATE TABLE clv_split AS
WITH bounds AS (
    SELECT
        (SELECT min(event_date) FROM fct_user_days WHERE purchases > 0) AS first_purchase,
        as_of
    FROM event_counts
),
lengths AS (
    SELECT
        *,
        CASE WHEN as_of - first_purchase >= 84
             THEN least(as_of - first_purchase,
                        coalesce(getvariable('clv_holdout_days')::BIGINT,
                                 greatest(28, least(182, (as_of - first_purchase) // 3)))) END AS holdout_days
    FROM bounds
)
SELECT
    *,
    (as_of - holdout_days::INTEGER)::DATE AS calibration_end,
    CASE WHEN first_purchase IS NULL OR holdout_days IS NOT NULL THEN 'too_few_customers'
         ELSE 'no_holdout' END AS status
FROM lengths;
