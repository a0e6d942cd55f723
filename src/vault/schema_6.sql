-- Version 6: what members do by machine, and which account a note is about.
ALTER TABLE note ADD COLUMN account TEXT;

-- Tokens by which members' programs speak to this server. What they may do is asked of the member.
CREATE TABLE member_token (
    id TEXT NOT NULL PRIMARY KEY,
    member TEXT NOT NULL REFERENCES member (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    rights TEXT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX member_token_member ON member_token (member);

-- Bindings whose account was deleted, so that their callers are told why they have none.
CREATE TABLE ended_binding (
    caller TEXT NOT NULL REFERENCES caller (name) ON DELETE CASCADE,
    account TEXT NOT NULL,
    app TEXT NOT NULL,
    ended_at BIGINT NOT NULL,
    PRIMARY KEY (caller, account)
)
