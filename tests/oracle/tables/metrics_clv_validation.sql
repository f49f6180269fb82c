-- Gini: customers of equal predictions are one point of the Lorenz curve, the most predicted first. Of N customers
-- who bought A, with n of them who bought v in a group and b before it: sum(n * (2b + v)) - N * A, over the same
-- with what they bought as the prediction.
CREATE MACRO signed_rate(numerator, denominator) AS
    CASE WHEN numerator < 0 THEN -rate(-numerator, denominator) ELSE rate(numerator, denominator) END;

CREATE MACRO concentration(rows) AS (
    WITH groups AS (
        SELECT prediction, count(*)::HUGEINT AS number, sum(actual)::HUGEINT AS bought
        FROM (SELECT unnest(rows, recursive := true))
        GROUP BY prediction
    ),
    ordered AS (
        SELECT number, bought, sum(bought) OVER (ORDER BY prediction DESC) - bought AS before
        FROM groups
    )
    SELECT (sum(number * (2 * before + bought)) - sum(number) * sum(bought))::HUGEINT FROM ordered
);

CREATE TABLE metrics_clv_validation AS
WITH sums AS (
    SELECT
        count(*) AS customers,
        coalesce(sum(actual_purchases), 0)::HUGEINT AS actual_purchases,
        coalesce(sum(actual_revenue), 0)::DECIMAL(38, 9) AS actual_revenue,
        sum(predicted_purchases)::HUGEINT AS predicted_purchases,
        sum(predicted_cents)::HUGEINT AS predicted_cents,
        sum(abs(predicted_purchases - actual_purchases * 1000000))::HUGEINT AS errors,
        sum((predicted_purchases - actual_purchases * 1000000) ** 2)::DOUBLE AS squares,
        list({'prediction': predicted_purchases, 'actual': actual_purchases}) AS by_purchases,
        list({'prediction': actual_purchases, 'actual': actual_purchases}) AS by_bought,
        list({'prediction': predicted_cents, 'actual': billionths(actual_revenue)}) AS by_revenue,
        list({'prediction': billionths(actual_revenue), 'actual': billionths(actual_revenue)}) AS by_spent
    FROM clv_test
),
-- Once each: a macro writes out its arguments as often as it uses them.
curves AS MATERIALIZED (
    SELECT
        *,
        concentration(by_purchases) AS of_purchases,
        concentration(by_bought) AS of_bought,
        concentration(by_revenue) AS of_revenue,
        concentration(by_spent) AS of_spent
    FROM sums
),
measured AS (
    SELECT
        customers,
        actual_purchases,
        actual_revenue,
        (predicted_purchases || 'e-6')::DOUBLE AS predicted_purchases,
        signed_rate(predicted_purchases - actual_purchases * 1000000, actual_purchases * 1000000) AS bias,
        (divide_rounded(errors, customers) || 'e-6')::DOUBLE AS mae,
        (floor(sqrt(squares / customers) + 0.5)::HUGEINT || 'e-6')::DOUBLE AS rmse,
        signed_rate(of_purchases, of_bought) AS gini,
        (predicted_cents::DECIMAL(36, 0) * 0.01)::DECIMAL(38, 9) AS predicted_revenue,
        signed_rate(predicted_cents * 10000000 - billionths(actual_revenue), billionths(actual_revenue))
            AS revenue_bias,
        signed_rate(of_revenue, of_spent) AS revenue_gini
    FROM curves
)
SELECT
    model,
    CASE WHEN is_tested THEN first_purchase END AS calibration_start,
    calibration_end,
    CASE WHEN is_tested THEN as_of END AS holdout_end,
    holdout_days,
    customers,
    CASE WHEN is_tested THEN actual_purchases::BIGINT END AS actual_purchases,
    CASE WHEN is_baseline THEN predicted_purchases END AS predicted_purchases,
    CASE WHEN is_baseline THEN bias END AS bias,
    CASE WHEN is_baseline THEN mae END AS mae,
    CASE WHEN is_baseline THEN rmse END AS rmse,
    CASE WHEN is_baseline THEN gini END AS gini,
    CASE WHEN is_tested THEN actual_revenue END AS actual_revenue,
    CASE WHEN is_baseline THEN predicted_revenue END AS predicted_revenue,
    CASE WHEN is_baseline THEN revenue_bias END AS revenue_bias,
    CASE WHEN is_baseline THEN revenue_gini END AS revenue_gini,
    NULL::DOUBLE AS total_low,
    NULL::DOUBLE AS total_high,
    false AS selected,
    CASE WHEN NOT is_baseline THEN false END AS passed,
    CASE WHEN NOT is_baseline OR NOT is_tested THEN status END AS reasons
FROM (VALUES ('bg_nbd', false), ('mbg_nbd', false), ('past_rate', true)) AS models(model, is_baseline)
CROSS JOIN (SELECT *, holdout_days IS NOT NULL AS is_tested FROM clv_split)
CROSS JOIN measured;
