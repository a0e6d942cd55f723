-- Version 2: links by which people become members, and by which they set a password anew.
CREATE TABLE invitation (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    -- first: the first owner, while there is no member. invite: a new member. reset: a password.
    kind TEXT NOT NULL,
    email TEXT,
    role TEXT NOT NULL,
    member TEXT REFERENCES member (id) ON DELETE CASCADE,
    invited_by TEXT,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX invitation_expires ON invitation (expires_at)
