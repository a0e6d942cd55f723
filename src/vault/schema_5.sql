-- Version 5: what a product decides for the accounts of its users beforehand.

-- A named set of field values of an app, none of them a secret, and perhaps an OAuth client.
CREATE TABLE app_override (
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    oauth_client TEXT REFERENCES oauth_client (id),
    fields TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (project, name)
);
CREATE INDEX app_override_oauth_client ON app_override (oauth_client);

-- What an account was connected with. It outlives the override.
ALTER TABLE account ADD COLUMN app_override TEXT REFERENCES app_override (id) ON DELETE SET NULL;
CREATE INDEX account_app_override ON account (app_override);

-- Whose OAuth client it is; null: the operator's, for everybody.
ALTER TABLE oauth_client ADD COLUMN external_user TEXT REFERENCES external_user (id) ON DELETE CASCADE;
CREATE INDEX oauth_client_external_user ON oauth_client (external_user);
