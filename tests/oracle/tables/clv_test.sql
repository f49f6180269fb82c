-- What everybody's past rate predicts for the days of the test, in millionths of a purchase day and in cents, and
-- what came. A customer of the last day is taken for one day old.
CREATE TABLE clv_test AS
WITH came AS (
    SELECT user_id, count(*) AS purchases, sum(revenue) AS revenue
    FROM fct_user_days
    CROSS JOIN clv_split
    WHERE purchases > 0 AND event_date > calibration_end AND event_date <= as_of
    GROUP BY user_id
),
predicted AS (
    SELECT
        user_id,
        frequency,
        divide_rounded(frequency::HUGEINT * holdout_days * 1000000, greatest(age_days, 1)) AS predicted_purchases,
        divide_rounded(billionths(repeat_revenue) * holdout_days,
                       greatest(age_days, 1)::HUGEINT * 10000000) AS predicted_cents,
        coalesce(purchases, 0)::HUGEINT AS actual_purchases,
        coalesce(came.revenue, 0)::DECIMAL(38, 9) AS actual_revenue
    FROM clv_customers
    CROSS JOIN clv_split
    LEFT JOIN came USING (user_id)
    WHERE fit = 'calibration'
)
SELECT *, ntile(10) OVER (ORDER BY predicted_cents DESC, user_id) AS decile
FROM predicted;
