-- Training: runs that the gateway queues and workers claim, schedules that queue runs, and publications of checkpoints.
-- Administrators' only: a run reads every codebase that it names, and what people searched for.

CREATE TABLE training_schedules (
    schedule_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What the runs get, as in training_runs.
    recipe             text NOT NULL CHECK (char_length(recipe) BETWEEN 1 AND 65536),
    encoder            text NOT NULL CHECK (encoder ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    codebase_ids       text[] NOT NULL CHECK (cardinality(codebase_ids) <= 100),
    seed               integer CHECK (seed >= 0),
    device             text NOT NULL CHECK (device ~ '^(auto|cpu|cuda(:[0-9]{1,3})?)$'),
    precision          text CHECK (precision IN ('fp32', 'bf16', 'fp16')),
    publish            boolean NOT NULL,
    -- A run is queued when so many judgements on hits are newer than those that the run before was queued for.
    min_feedback_count integer NOT NULL CHECK (min_feedback_count BETWEEN 1 AND 1000000),
    counted_until      timestamptz NOT NULL DEFAULT '-infinity',
    principal_id       text NOT NULL,
    create_time        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE training_runs (
    run_id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id        bigint REFERENCES training_schedules ON DELETE SET NULL,
    -- TOML, as it was sent; seed and precision stand in place of the recipe's where they are not null.
    recipe             text NOT NULL CHECK (char_length(recipe) BETWEEN 1 AND 65536),
    encoder            text NOT NULL CHECK (encoder ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    -- What the data may come from; empty for every codebase.
    codebase_ids       text[] NOT NULL CHECK (cardinality(codebase_ids) <= 100),
    seed               integer CHECK (seed >= 0),
    device             text NOT NULL CHECK (device ~ '^(auto|cpu|cuda(:[0-9]{1,3})?)$'),
    precision          text CHECK (precision IN ('fp32', 'bf16', 'fp16')),
    publish            boolean NOT NULL,
    -- Who asked. No reference: the record outlives the principal.
    principal_id       text NOT NULL,
    state              text NOT NULL DEFAULT 'QUEUED'
                       CHECK (state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    stage              text CHECK (stage IN ('mine', 'train', 'evaluate', 'export', 'build_space', 'reembed', 'activate')),
    cancel_requested   boolean NOT NULL DEFAULT false,
    -- Grows with every claim: what a worker writes with an older number is refused.
    attempt            integer NOT NULL DEFAULT 0,
    worker             text,
    lease_until        timestamptz,
    -- Of the stage: steps done and in all, and what training said last.
    step               bigint NOT NULL DEFAULT 0,
    step_count         bigint NOT NULL DEFAULT 0,
    loss               double precision,
    tokens_per_s       double precision,
    error_reason       text,
    error              text,
    -- Where the result comes from: data_sha256, recipe_sha256, code, checkpoint_sha256.
    lineage            jsonb NOT NULL DEFAULT '{}',
    metrics            jsonb,
    -- Of the space that it led to.
    space              text,
    create_time        timestamptz NOT NULL DEFAULT now(),
    start_time         timestamptz,
    finish_time        timestamptz,
    CHECK ((state = 'RUNNING') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')) = (finish_time IS NOT NULL)),
    CHECK ((state = 'FAILED') = (error IS NOT NULL AND error_reason IS NOT NULL))
);

CREATE INDEX training_runs_open ON training_runs (run_id) WHERE state IN ('QUEUED', 'RUNNING');
CREATE INDEX training_runs_schedule ON training_runs (schedule_id);
-- A schedule has one run at a time.
CREATE UNIQUE INDEX training_runs_scheduled ON training_runs (schedule_id) WHERE state IN ('QUEUED', 'RUNNING');

-- One row for everything that decides a publication: asked for again, it goes on where it was.
CREATE TABLE training_publications (
    publication_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    inputs_sha256  bytea NOT NULL UNIQUE CHECK (octet_length(inputs_sha256) = 32),
    run_id         bigint REFERENCES training_runs ON DELETE SET NULL,
    state          text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'SUCCEEDED', 'REFUSED')),
    -- What each finished step found, by its name: evaluate, export, build_space, reembed, activate.
    steps          jsonb NOT NULL DEFAULT '{}',
    error          text,
    -- Checkpoints, data, recipes, code, by their digests.
    lineage        jsonb NOT NULL,
    create_time    timestamptz NOT NULL DEFAULT now(),
    update_time    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX training_publications_run ON training_publications (run_id);

GRANT SELECT, INSERT, DELETE ON training_schedules TO duovec_admin;
GRANT SELECT, INSERT, UPDATE (state, cancel_requested, finish_time) ON training_runs TO duovec_admin;
GRANT SELECT ON training_publications TO duovec_admin;

ALTER TABLE training_schedules ENABLE ROW LEVEL SECURITY;
ALTER TABLE training_runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE training_publications ENABLE ROW LEVEL SECURITY;

CREATE POLICY admin_all ON training_schedules TO duovec_admin USING (true);
CREATE POLICY admin_all ON training_runs TO duovec_admin USING (true);
CREATE POLICY admin_all ON training_publications TO duovec_admin USING (true);
