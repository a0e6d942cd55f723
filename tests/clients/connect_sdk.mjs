// @pipedream/sdk 2 and 3 as a product's server uses it; only the base URL is ours.
//   node connect_sdk.mjs pipedream-sdk-3 ORIGIN_OF_THE_API KEY
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

const [module, api, key] = process.argv.slice(2);
const { PipedreamClient } = await import(module);
const client = new PipedreamClient();
const user = `user/odd id+&? ${module}`;

const { token, expiresAt, connectLinkUrl } = await client.tokens.create({
  externalUserId: user,
  expiresIn: 3600,
  allowedOrigins: ["https://app.example.com"],
  successRedirectUri: "https://app.example.com/ok",
  errorRedirectUri: "https://app.example.com/no",
  webhookUri: "https://app.example.com/hook",
});
assert.match(token, /^ctok_/);
assert.ok(expiresAt instanceof Date && expiresAt > new Date());
assert.ok(connectLinkUrl.includes(token));
const valid = await client.tokens.validate(token, { appId: "acme" });
assert.equal(valid.success, true);
assert.equal(valid.app.nameSlug, "acme");

const connect = async (appSlug) => {
  const { token } = await client.tokens.create({ externalUserId: user });
  const cfmapJson = JSON.stringify({ api_key: key });
  return client.accounts.create({ appSlug, cfmapJson, connectToken: token, name: "mine" });
};
const account = await connect("acme");
assert.match(account.id, /^apn_[a-zA-Z0-9]+$/);
assert.equal(account.externalId, user);
assert.equal(account.healthy, true);
assert.ok(account.createdAt instanceof Date);
await connect("acme");
await connect("other");

// A page at a time, to the very end.
const ids = [];
for await (const found of await client.accounts.list({ externalUserId: user, limit: 1 })) ids.push(found.id);
assert.equal(new Set(ids).size, 3);
assert.equal(ids.length, 3);
const filtered = await client.accounts.list({ externalUserId: user, app: "acme" });
assert.equal(filtered.data.length, 2);
const opened = await client.accounts.retrieve(account.id, { includeCredentials: true });
assert.equal(opened.credentials.api_key, key);
const closed = await client.accounts.retrieve(account.id);
assert.equal(closed.credentials, undefined);
await assert.rejects(client.accounts.retrieve("apn_nothing"), { statusCode: 404 });

const apps = [];
for await (const app of await client.apps.list({ limit: 10, sortKey: "name_slug", sortDirection: "asc" })) apps.push(app.nameSlug);
assert.ok(apps.length > 20 && apps.includes("slack") && new Set(apps).size === apps.length);
const { data: app } = await client.apps.retrieve("acme");
assert.equal(app.authType, "keys");
assert.equal(JSON.parse(app.customFieldsJson)[0].name, "api_key");
assert.ok((await client.appCategories.list()).some(({ name }) => name === "testing"));
if (client.projects.retrieveInfo) assert.deepEqual((await client.projects.retrieveInfo()).apps.map(({ nameSlug }) => nameSlug), ["cloud"]);
if (client.users.list) {
  const users = await client.users.list({ limit: 100 });
  assert.ok(users.data.some(({ externalId }) => externalId === user));
}

const mine = { externalUserId: user, accountId: account.id };
const url = `${api}/echo/a%20b?page=1&tag=x&tag=y`;
const got = await client.proxy.get({ ...mine, url, headers: { "X-Custom-Header": "v1", accept: "application/json" } });
assert.equal(got.method, "GET");
assert.equal(got.path, "/echo/a%20b?page=1&tag=x&tag=y");
assert.equal(got.headers["x-custom-header"], "v1");
assert.equal(got.headers["x-pd-environment"], undefined);
const body = { text: "hello, wörld", n: 1, nested: { a: [1, null, true] } };
for (const method of ["post", "put", "patch"]) {
  const told = await client.proxy[method]({ ...mine, url: `${api}/echo`, body, headers: { "x-idempotency-key": "k-1" } });
  assert.equal(told.method, method.toUpperCase());
  assert.deepEqual(JSON.parse(told.body), body);
  assert.equal(told.headers["x-idempotency-key"], "k-1");
}
assert.equal((await client.proxy.delete({ ...mine, url: `${api}/echo` })).method, "DELETE");
assert.equal((await client.proxy.get({ ...mine, url: "/rel?x=1" })).path, "/v1/rel?x=1");
assert.equal((await client.proxy.get({ ...mine, url: `${api}/redirect?/there` })).path, "/there");
await assert.rejects(client.proxy.get({ ...mine, url: "https://evil.test/" }), ({ statusCode, body }) =>
  statusCode === 400 && /Domain evil.test is not allowed/.test(body.error));
await assert.rejects(client.proxy.get({ ...mine, url: `${api}/redirect?http://evil.test/` }), ({ statusCode, body }) =>
  statusCode === 400 && body.details.location === "http://evil.test/");

// What is decided beforehand.
if (client.appOverrides) {
  const made = await client.appOverrides.create({ app: "desk", name: `one ${module}`, cfmap: { subdomain: "one" } });
  assert.match(made.id, /^ao_/);
  assert.deepEqual([made.app.nameSlug, made.cfmap, made.oauthAppId], ["desk", { subdomain: "one" }, undefined]);
  assert.ok(made.createdAt instanceof Date && made.ownerId.startsWith("proj_"));
  const changed = await client.appOverrides.update(made.id, { name: `renamed ${module}` });
  assert.deepEqual([changed.name, changed.cfmap], [`renamed ${module}`, { subdomain: "one" }]);
  assert.equal((await client.appOverrides.retrieve(made.id)).name, changed.name);
  const all = [];
  for await (const found of await client.appOverrides.list({ app: "desk", limit: 1 })) all.push(found.id);
  assert.deepEqual(all, [made.id]);
  await assert.rejects(client.appOverrides.create({ app: "desk", name: "secret", cfmap: { api_key: key } }), { statusCode: 400 });
  const { token } = await client.tokens.create({ externalUserId: user });
  const valid = await client.tokens.validate(token, { appOverrideId: made.id });
  assert.deepEqual([valid.success, valid.appOverrideId, valid.appOverrideFieldNames], [true, made.id, ["subdomain"]]);
  const cfmapJson = JSON.stringify({ api_key: key, subdomain: "evil" });
  const desk = await client.accounts.create({ appSlug: "desk", cfmapJson, connectToken: token, appOverrideId: made.id });
  const { credentials } = await client.accounts.retrieve(desk.id, { includeCredentials: true });
  assert.equal(credentials.subdomain, "one");
  await client.appOverrides.delete(made.id);
  await client.accounts.delete(desk.id);
}

// By consent, on the page that the link leads to.
const consenting = "who-consents";
const made = await client.tokens.create({ externalUserId: consenting, appId: "cloud" });
// The second generation does not know a token's app.
execFileSync("node", ["connect_by_page.mjs", `${made.connectLinkUrl}&app=cloud`]);
const [cloud] = (await client.accounts.list({ externalUserId: consenting, includeCredentials: true })).data;
assert.equal(cloud.app.nameSlug, "cloud");
assert.equal(cloud.name, "ann@acme.test");
assert.equal(cloud.credentials.oauthAccessToken, key);
const theirs = { externalUserId: consenting, accountId: cloud.id };
assert.equal((await client.proxy.get({ ...theirs, url: "/echo" })).method, "GET");
await client.accounts.delete(cloud.id);

if (client.accounts.listByExternalUser) assert.equal((await client.accounts.listByExternalUser(user)).length, 3);
await client.accounts.deleteByApp("other");
await client.accounts.delete(account.id);
assert.equal((await client.accounts.list({ externalUserId: user })).data.length, 1);
await client.users.deleteExternalUser(user);
assert.equal((await client.accounts.list({ externalUserId: user })).data.length, 0);
console.log("all is well");
