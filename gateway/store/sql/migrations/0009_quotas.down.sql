ALTER TABLE principals DROP COLUMN requests_per_s, DROP COLUMN tokens_per_minute;
