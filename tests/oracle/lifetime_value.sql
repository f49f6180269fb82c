-- What the published parameters say of each customer, where a model predicts: to be run on the published model_clv
-- and dim_user_clv.
WITH frequency_model AS (
    SELECT model, r, alpha_days AS alpha, a, b, CASE model WHEN 'mbg_nbd' THEN 1 ELSE 0 END AS more
    FROM model_clv
    WHERE fit = 'final' AND selected AND model <> 'gamma_gamma'
),
spend_model AS (
    SELECT p, q, v FROM model_clv WHERE fit = 'final' AND model = 'gamma_gamma'
),
customers AS (
    SELECT
        user_id,
        frequency,
        recency_days,
        age_days,
        sum(revenue) FILTER (event_date > first_date)::DOUBLE AS repeat_revenue
    FROM dim_user_clv
    JOIN (SELECT *, min(event_date) OVER (PARTITION BY user_id) AS first_date FROM purchase_days) USING (user_id)
    GROUP BY ALL
),
alive AS (
    SELECT
        *,
        alpha + age_days AS scale,
        CASE WHEN frequency + more = 0 THEN 1
             ELSE 1 / (1 + a / (b + frequency - 1 + more)
                         * ((alpha + age_days) / (alpha + recency_days)) ** (r + frequency)) END AS p_alive
    FROM customers
    CROSS JOIN frequency_model
)
SELECT
    user_id,
    p_alive,
    p_alive * (1 - (scale / (scale + 30)) ** (r + frequency)) AS p_purchase_30d,
    p_alive * (1 - (scale / (scale + 90)) ** (r + frequency)) AS p_purchase_90d,
    p_alive * (1 - (scale / (scale + 365)) ** (r + frequency)) AS p_purchase_365d,
    p * (v + coalesce(repeat_revenue, 0)) / (p * frequency + q - 1) AS expected_purchase_value,
    ntile(10) OVER (ORDER BY predicted_revenue_365d DESC, user_id) AS clv_decile
FROM alive
CROSS JOIN spend_model
JOIN (SELECT user_id, predicted_revenue_365d FROM dim_user_clv) USING (user_id)
