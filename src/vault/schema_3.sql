-- Version 3: what connecting by a page, by API and by program needs.

-- What came of an attempt with a connect token, for the window that waits for it and for whoever
-- comes back to it. `state_digest` and `browser` are those of a flow through a provider.
CREATE TABLE connect_outcome (
    token TEXT NOT NULL REFERENCES connect_token (digest) ON DELETE CASCADE,
    attempt TEXT NOT NULL,
    state_digest TEXT,
    browser TEXT,
    account TEXT,
    trouble TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token, attempt)
);
CREATE INDEX connect_outcome_state ON connect_outcome (state_digest);

-- Of a webhook's body: what is put in when it is sent.
ALTER TABLE webhook ADD COLUMN secrets BYTES;
ALTER TABLE webhook ADD COLUMN secrets_key TEXT;

-- A data URL of an image.
ALTER TABLE project ADD COLUMN logo TEXT;

-- Public keys by which API clients prove themselves (RFC 7523), and the assertions that were used.
CREATE TABLE api_client_key (
    client TEXT NOT NULL REFERENCES api_client (id) ON DELETE CASCADE,
    kid TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (client, kid)
);
CREATE TABLE used_assertion (
    digest TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- Limits that API clients set for themselves.
CREATE TABLE rate_limit (
    digest TEXT NOT NULL PRIMARY KEY,
    client TEXT NOT NULL REFERENCES api_client (id) ON DELETE CASCADE,
    window_seconds BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    created_at BIGINT NOT NULL
)
