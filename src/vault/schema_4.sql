-- Version 4: requests that members keep, and app definitions of the workspace's own.
CREATE TABLE saved_request (
    id TEXT NOT NULL PRIMARY KEY,
    member TEXT NOT NULL REFERENCES member (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    request BYTES NOT NULL,
    request_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX saved_request_member ON saved_request (member);

CREATE TABLE app_definition (
    id TEXT NOT NULL PRIMARY KEY,
    definition TEXT NOT NULL,
    created_by TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
)
