-- Quotas: how much a principal may ask for.

ALTER TABLE principals
    -- Null for the service's default, 0 for no limit.
    ADD COLUMN requests_per_s    double precision CHECK (requests_per_s BETWEEN 0 AND 1000000),
    ADD COLUMN tokens_per_minute bigint CHECK (tokens_per_minute BETWEEN 0 AND 1000000000000);

GRANT UPDATE (requests_per_s, tokens_per_minute) ON principals TO duovec_admin;
