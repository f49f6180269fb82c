-- What every table's SQL may use. There is a file for each table, plain DuckDB SQL; oracle.py lists them in
-- the order in which they are run, each after those it reads.
--
-- Reads   events_raw(event_time TIMESTAMP, event_type VARCHAR, product_id BIGINT, category_id BIGINT,
--         category_code VARCHAR, brand VARCHAR, price DECIMAL(38,9), user_id BIGINT, user_session VARCHAR):
--         the accepted rows, times in UTC, brand and category_code lower-cased.
-- Options SET VARIABLE churn_threshold_days, at_risk_threshold_days, declining_threshold_days,
--         session_outlier_ratio, session_timeout_seconds, cohort_observation_window_days;
--         as_of (DATE) may be left out.
--
-- DuckDB compares text by its bytes. Nothing that is divided here is negative, so rounding half up is
-- rounding half away from zero. Quotients are rounded as whole numbers; only the result becomes a DOUBLE,
-- through its decimal text, which gives the double nearest to the exact decimal.

CREATE MACRO divide_rounded(numerator, denominator) AS
    numerator::HUGEINT // nullif(denominator, 0)::HUGEINT
    + (2 * (numerator::HUGEINT % nullif(denominator, 0)::HUGEINT) >= denominator::HUGEINT)::HUGEINT;

-- Money as a whole number of billionths.
CREATE MACRO billionths(money) AS
    floor(money)::HUGEINT * 1000000000 + ((money - floor(money)) * 1000000000)::HUGEINT;

CREATE MACRO rate(numerator, denominator) AS
    (divide_rounded(numerator::HUGEINT * 1000000, denominator) || 'e-6')::DOUBLE;

CREATE MACRO rate_of_four_decimals(numerator, denominator) AS
    (divide_rounded(numerator::HUGEINT * 10000, denominator) || 'e-4')::DOUBLE;

CREATE MACRO mean_money(total, number) AS
    (divide_rounded(billionths(total), number::HUGEINT * 1000) || 'e-6')::DOUBLE;

CREATE MACRO money_share(part, whole) AS
    (divide_rounded(billionths(part) * 1000000, billionths(whole)) || 'e-6')::DOUBLE;

-- Money again, in whole cents.
CREATE MACRO mean_money_in_cents(total, number) AS
    (divide_rounded(billionths(total), number::HUGEINT * 10000000)::DECIMAL(36, 0) * 0.01)::DECIMAL(38, 9);
