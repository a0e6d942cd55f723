// @pipedream/sdk 1.8, which speaks https only.
//   node connect_sdk_1.mjs HOST:PORT ORIGIN_OF_THE_API KEY
import assert from "node:assert/strict";
import { createBackendClient } from "pipedream-sdk-1";

const [apiHost, api, key] = process.argv.slice(2);
const { PIPEDREAM_CLIENT_ID: clientId, PIPEDREAM_CLIENT_SECRET: clientSecret, PIPEDREAM_PROJECT_ID: projectId } = process.env;
const environment = "development";
const client = createBackendClient({ apiHost, environment, projectId, credentials: { clientId, clientSecret } });
const user = "user-of-1.8";

const made = await client.createConnectToken({
  external_user_id: user,
  success_redirect_uri: "https://app.example.com/ok",
  allowed_origins: ["https://app.example.com"],
});
assert.match(made.token, /^ctok_/);

// This generation has no call that connects an account: its products do it with the page.
const post = async (path, body) => {
  const token = await client.rawAccessToken();
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", "x-pd-environment": environment };
  const answer = await fetch(`https://${apiHost}/v1/connect/${projectId}/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.equal(answer.status, 200);
  return answer.json();
};
const cfmap_json = JSON.stringify({ api_key: key });
const account = await post("accounts", { app_slug: "acme", cfmap_json, connect_token: made.token });

const list = await client.getAccounts({ external_user_id: user, app: "acme" });
assert.deepEqual(list.data.map(({ id }) => id), [account.id]);
const opened = await client.getAccountById(account.id, { include_credentials: true });
assert.equal(opened.credentials.api_key, key);
assert.equal((await client.getApps({ q: "acme" })).data[0].name_slug, "acme");
assert.equal((await client.getApp("acme")).data.name_slug, "acme");
assert.deepEqual((await client.getProjectInfo()).apps.map(({ name_slug }) => name_slug), ["cloud"]);

const call = (url, options) =>
  client.makeProxyRequest({ searchParams: { external_user_id: user, account_id: account.id } }, { url, options });
for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"]) {
  // The SDK sends a body with these three only.
  const body = ["GET", "DELETE"].includes(method) ? undefined : JSON.stringify({ text: "hello, wörld" });
  const told = await call(`${api}/echo?x=1`, { method, body, headers: { "x-custom": "v1" } });
  assert.equal(told.method, method);
  assert.equal(told.path, "/echo?x=1");
  assert.equal(told.body, body ?? "");
  assert.equal(told.headers["x-custom"], "v1");
}
assert.equal((await call("/rel", { method: "GET" })).path, "/v1/rel");
await assert.rejects(call("https://evil.test/", { method: "GET" }), /not allowed/);
await client.deleteAccountsByApp("acme");
assert.equal((await client.getAccounts({ external_user_id: user })).data.length, 0);
await client.deleteExternalUser(user);
console.log("all is well");
