-- The days on which a user was active: with any event, or with a purchase.
CREATE TABLE activity_days AS
SELECT 'visit' AS activity, user_id, event_date, purchases, orders, revenue
FROM fct_user_days
UNION ALL
SELECT 'purchase', user_id, event_date, purchases, orders, revenue
FROM fct_user_days
WHERE purchases > 0;
