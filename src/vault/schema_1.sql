-- Version 1. TEXT, BIGINT and BYTES only (libraries that speak to both engines know no more);
-- BYTES becomes BLOB or BYTEA. Times are milliseconds since 1970; 0 and 1 are false and true.
-- Lists and maps that are never searched are JSON text.

CREATE TABLE master_key (
    id TEXT NOT NULL PRIMARY KEY,
    sealed BYTES NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE revision (
    id BIGINT NOT NULL PRIMARY KEY,
    latest BIGINT NOT NULL,
    pruned BIGINT NOT NULL
);
INSERT INTO revision (id, latest, pruned) VALUES (1, 0, 0);

CREATE TABLE change (
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (revision, kind, subject)
);

CREATE TABLE member (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT,
    oidc_subject TEXT UNIQUE,
    disabled_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE project (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    app_name TEXT,
    support_email TEXT,
    require_key_test BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE external_user (
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    environment TEXT NOT NULL,
    external_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (project, environment, external_id)
);

CREATE TABLE oauth_client (
    id TEXT NOT NULL PRIMARY KEY,
    app TEXT NOT NULL,
    auth TEXT NOT NULL,
    name TEXT NOT NULL,
    client_id TEXT NOT NULL,
    secrets BYTES NOT NULL,
    secrets_key TEXT NOT NULL,
    redirect_uri TEXT,
    scopes TEXT NOT NULL,
    fields TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX oauth_client_app ON oauth_client (app);

CREATE TABLE account (
    id TEXT NOT NULL PRIMARY KEY,
    nickname TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL,
    auth TEXT NOT NULL,
    member TEXT REFERENCES member (id),
    external_user TEXT REFERENCES external_user (id),
    oauth_client TEXT REFERENCES oauth_client (id),
    fields TEXT NOT NULL,
    scopes TEXT NOT NULL,
    identity TEXT,
    version BIGINT NOT NULL,
    credentials BYTES NOT NULL,
    credentials_key TEXT NOT NULL,
    dead BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    error_at BIGINT,
    expires_at BIGINT,
    refresh_expires_at BIGINT,
    obtained_at BIGINT,
    last_refreshed_at BIGINT,
    next_refresh_at BIGINT,
    last_used_at BIGINT,
    lease_owner TEXT,
    lease_until BIGINT,
    attempt TEXT,
    attempt_at BIGINT,
    committed_attempt TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX account_app ON account (app);
CREATE INDEX account_member ON account (member);
CREATE INDEX account_external_user ON account (external_user);
CREATE INDEX account_oauth_client ON account (oauth_client);
CREATE INDEX account_lease_owner ON account (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX account_due ON account (next_refresh_at) WHERE dead = 0 AND next_refresh_at IS NOT NULL;

-- With whom an account is shared; an empty member is the whole workspace.
CREATE TABLE account_access (
    account TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    member TEXT NOT NULL,
    granted_by TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, member)
);
CREATE INDEX account_access_member ON account_access (member);

CREATE TABLE caller (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT NOT NULL,
    mode TEXT,
    rate TEXT,
    max_concurrent BIGINT,
    rules TEXT NOT NULL,
    created_by TEXT,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE caller_token (
    id TEXT NOT NULL PRIMARY KEY,
    caller TEXT NOT NULL REFERENCES caller (name) ON DELETE CASCADE,
    digest TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX caller_token_caller ON caller_token (caller);

CREATE TABLE binding (
    caller TEXT NOT NULL REFERENCES caller (name) ON DELETE CASCADE,
    account TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    is_default BIGINT NOT NULL,
    paths TEXT NOT NULL,
    created_by TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, account)
);
CREATE INDEX binding_account ON binding (account);

CREATE TABLE api_client (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    project TEXT REFERENCES project (id) ON DELETE CASCADE,
    secret_digest TEXT NOT NULL,
    scopes TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE connect_token (
    digest TEXT NOT NULL PRIMARY KEY,
    session_id BIGINT NOT NULL UNIQUE,
    external_user TEXT NOT NULL REFERENCES external_user (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    allowed_origins TEXT NOT NULL,
    success_redirect_uri TEXT,
    error_redirect_uri TEXT,
    webhook_uri TEXT,
    app TEXT,
    oauth_client TEXT,
    progressive_scopes BIGINT NOT NULL,
    spent_at BIGINT,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX connect_token_expires ON connect_token (expires_at);
CREATE INDEX connect_token_user ON connect_token (external_user);

-- Of members (web) and of API clients (bearer tokens).
CREATE TABLE session (
    digest TEXT NOT NULL PRIMARY KEY,
    member TEXT REFERENCES member (id) ON DELETE CASCADE,
    api_client TEXT REFERENCES api_client (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    user_agent TEXT,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX session_expires ON session (expires_at);

CREATE TABLE pending_flow (
    state_digest TEXT NOT NULL PRIMARY KEY,
    details TEXT NOT NULL,
    secrets BYTES NOT NULL,
    secrets_key TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX pending_flow_expires ON pending_flow (expires_at);

CREATE TABLE lease (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);

CREATE TABLE webhook (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX webhook_next ON webhook (next_attempt_at);

CREATE TABLE sealed_item (
    name TEXT NOT NULL PRIMARY KEY,
    secret BYTES NOT NULL,
    secret_key TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Acts of administration on their way into the audit of some server.
CREATE TABLE note (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    actor TEXT NOT NULL
);
CREATE INDEX note_at ON note (at)
