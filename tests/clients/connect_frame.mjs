// A product's page on another origin, with the browser SDK as its users have it: the frame, its
// messages, the window for the provider, and an origin that gets nothing. Then connect-react's pickers.
//   node connect_frame.mjs HOST:PORT PROJECT ACCESS_TOKEN KEY
import assert from "node:assert/strict";
import { build } from "esbuild";
import { chromium } from "playwright-core";

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
const [host, project, access, key] = process.argv.slice(2);
const base = `https://${host}`;
const shots = process.env.SHOTS;
const shop = "http://shop.localhost";

const tokens = async (user, more = {}) => {
  const response = await fetch(`${base}/v1/connect/${project}/tokens`, {
    method: "POST",
    headers: { authorization: `Bearer ${access}`, "content-type": "application/json", "x-pd-environment": "development" },
    body: JSON.stringify({ external_user_id: user, allowed_origins: [shop], ...more }),
  });
  assert.equal(response.status, 200);
  return response.json();
};
const accounts = async (user) => {
  const path = `${base}/v1/connect/${project}/accounts?external_user_id=${user}`;
  const headers = { authorization: `Bearer ${access}`, "x-pd-environment": "development" };
  return (await (await fetch(path, { headers })).json()).data;
};

const bundle = async (contents) => {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: import.meta.dirname, loader: "jsx" },
    bundle: true, write: false, format: "iife", logLevel: "error", jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return outputFiles[0].text;
};
const sdk = await bundle(`
  import { createFrontendClient } from "pipedream-sdk-3/browser";
  const client = createFrontendClient({
    baseUrl: "${base}", frontendHost: "${host}", externalUserId: "ann", projectEnvironment: "development",
    tokenCallback: async () => { const t = await window.newToken(); return { token: t.token, expiresAt: new Date(t.expires_at), connectLinkUrl: t.connect_link_url }; },
  });
  window.heard = [];
  window.client = client;
  window.connect = (options) => client.connectAccount({
    onSuccess: ({ id }) => heard.push(["success", id]),
    onError: (error) => heard.push(["error", error.message]),
    onClose: (status) => heard.push(["close", status]),
    ...options,
  });
`);

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  // The shop is nowhere, and Chromium takes nowhere for the internet.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWarn"],
});
const problems = [];
const said = [];
async function product(script, { origin = shop, user = "ann", context = {} } = {}) {
  const opened = await browser.newContext({ viewport: { width: 900, height: 800 }, ignoreHTTPSErrors: true, ...context });
  const page = await opened.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => said.push(message.text()));
  page.on("requestfailed", (request) => said.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.setDefaultTimeout(10000);
  await page.route(`${origin}/**`, (route) => route.fulfill({
    contentType: "text/html",
    body: '<!doctype html><html lang=en><link rel=icon href="data:,"><h1>The shop</h1><p>Orders, customers, and a button.</p><div id=root></div>',
  }));
  await page.exposeFunction("newToken", () => tokens(user));
  await page.goto(`${origin}/`);
  await page.addScriptTag({ content: script });
  return page;
}
const heard = (page, count) => page.waitForFunction((count) => heard.length >= count && heard, count, { timeout: 15000 }).then((h) => h.jsonValue());
const frame = (page) => page.frameLocator("iframe[title='Pipedream Connect']");

const states = {
  async "keys in the frame: success, then close"() {
    const page = await product(sdk);
    await page.evaluate(() => connect({ app: "acme" }));
    await frame(page).getByLabel("API key", { exact: true }).fill("wrong");
    if (shots) await page.screenshot({ path: `${shots}/frame-keys.png` });
    await frame(page).getByRole("button", { name: "Connect", exact: true }).click();
    await frame(page).getByRole("alert").waitFor();
    assert.deepEqual(await page.evaluate(() => heard), [], "a mistake in the form is no end");
    await frame(page).getByLabel("API key", { exact: true }).fill(key);
    await frame(page).getByRole("button", { name: "Connect", exact: true }).click();
    await frame(page).getByRole("heading", { name: "The acme is connected" }).waitFor();
    if (shots) await page.screenshot({ path: `${shots}/frame-done.png` });
    const [[first, id], [second, status]] = await heard(page, 2);
    assert.deepEqual([first, second, status], ["success", "close", { successful: true, completed: true }]);
    assert.deepEqual((await accounts("ann")).map((account) => account.id), [id]);
    assert.equal(await page.locator("iframe").count(), 0, "the frame has gone");
    const { data } = await page.evaluate(() => client.accounts.list());
    assert.equal(data[0].id, id);
  },
  async "consent in a window of its own, and the account is connected anew"() {
    const page = await product(sdk);
    for (const again of [false, true]) {
      const accountId = again ? (await accounts("ann")).find(({ app }) => app.name_slug === "cloud").id : undefined;
      await page.evaluate((accountId) => { heard.length = 0; connect({ app: "cloud", accountId }); }, accountId);
      if (shots) { await frame(page).getByRole("button", { name: "Continue" }).waitFor(); await page.screenshot({ path: `${shots}/frame-consent.png` }); }
      const popup = page.waitForEvent("popup");
      await frame(page).getByRole("button", { name: "Continue to The cloud" }).click();
      const window = await popup;
      await window.getByRole("link", { name: "Allow", exact: true }).waitFor();
      await frame(page).getByRole("heading", { name: "Go on in the other window" }).waitFor();
      if (shots) await page.screenshot({ path: `${shots}/frame-waiting.png` });
      await window.getByRole("link", { name: "Allow", exact: true }).click();
      const said = await heard(page, 2);
      assert.deepEqual(said.map(([what]) => what), ["success", "close"]);
      if (again) assert.equal(said[0][1], accountId, "the id is the same");
    }
  },
  async "a button that is pressed before the script is there waits for it"() {
    const page = await product(sdk);
    let late = 0;
    await page.route(/\/connect[^/]*\.js/, async (route) => {
      late += 1;
      await new Promise((done) => setTimeout(done, 1500));
      await route.continue();
    });
    await page.evaluate(() => connect({ app: "cloud" }));
    const popup = page.waitForEvent("popup");
    await frame(page).getByRole("button", { name: "Continue to The cloud" }).click();
    await (await popup).getByRole("link", { name: "Allow", exact: true }).click();
    assert.deepEqual((await heard(page, 2)).map(([what]) => what), ["success", "close"]);
    assert.ok(late > 0);
  },
  async "declined in the window: an error, and another try"() {
    const page = await product(sdk);
    await page.evaluate(() => connect({ app: "cloud" }));
    let popup = page.waitForEvent("popup");
    await frame(page).getByRole("button", { name: "Continue to The cloud" }).click();
    await (await popup).getByRole("link", { name: "Deny" }).click();
    await frame(page).getByRole("heading", { name: "You did not allow it" }).waitFor();
    const [[what, why]] = await heard(page, 1);
    assert.equal(what, "error");
    assert.match(why, /declined/);
    await frame(page).getByRole("link", { name: "Try again" }).click();
    popup = page.waitForEvent("popup");
    await frame(page).getByRole("button", { name: "Continue to The cloud" }).click();
    await (await popup).close();
    await frame(page).getByText("the window was closed").waitFor();
    if (shots) await page.screenshot({ path: `${shots}/frame-closed.png` });
    popup = page.waitForEvent("popup");
    await frame(page).getByRole("button", { name: "Open the window again" }).click();
    await (await popup).getByRole("link", { name: "Allow", exact: true }).click();
    assert.deepEqual((await heard(page, 3)).map(([what]) => what), ["error", "success", "close"]);
  },
  async "a browser that blocks windows gets a tab by hand"() {
    const page = await product(sdk);
    await page.evaluate(() => connect({ app: "cloud" }));
    await frame(page).getByRole("button", { name: "Continue to The cloud" }).waitFor();
    const inner = page.frames().find((frame) => frame.url().includes("connect.html"));
    await inner.evaluate(() => { window.open = () => null; });
    const popup = page.waitForEvent("popup");
    await frame(page).getByRole("button", { name: "Continue to The cloud" }).click();
    await frame(page).getByText("kept the window from opening").waitFor();
    if (shots) await page.screenshot({ path: `${shots}/frame-blocked.png` });
    await (await popup).getByRole("link", { name: "Allow", exact: true }).click();
    assert.deepEqual((await heard(page, 2)).map(([what]) => what), ["success", "close"]);
  },
  async "closed by its button and by Escape, and the button may be hidden"() {
    const page = await product(sdk);
    for (const close of [() => frame(page).getByRole("button", { name: "Close" }).first().click(), async () => {
      await frame(page).getByLabel("API key", { exact: true }).focus();
      // Not waited for: the frame that hears the key goes with it, and then Chromium may never say that
      // it was taken.
      page.keyboard.press("Escape").catch(() => {});
    }]) {
      await page.evaluate(() => { heard.length = 0; connect({ app: "acme" }); });
      await frame(page).getByLabel("API key", { exact: true }).waitFor();
      await close();
      assert.deepEqual(await heard(page, 1), [["close", { successful: false, completed: false }]]);
    }
    await page.evaluate(() => connect({ app: "acme", hideClose: true }));
    await frame(page).getByLabel("API key", { exact: true }).waitFor();
    assert.equal(await frame(page).getByRole("button", { name: "Close" }).count(), 0);
  },
  async "with what the product decided, and with a client of the user's own"() {
    const page = await product(sdk, { user: "carl" });
    const headers = { authorization: `Bearer ${access}`, "content-type": "application/json", "x-pd-environment": "development" };
    const body = JSON.stringify({ app: "desk", name: "ours", cfmap: { subdomain: "one" } });
    const made = await fetch(`${base}/v1/connect/${project}/app_overrides`, { method: "POST", headers, body });
    const { id: appOverrideId } = await made.json();
    await page.evaluate((appOverrideId) => connect({ app: "desk", appOverrideId }), appOverrideId);
    await frame(page).getByLabel("API key", { exact: true }).fill(key);
    assert.equal(await frame(page).getByLabel("Subdomain").count(), 0);
    await frame(page).getByRole("button", { name: "Connect", exact: true }).click();
    assert.deepEqual((await heard(page, 2)).map(([what]) => what), ["success", "close"]);
    await page.evaluate(() => { heard.length = 0; connect({ app: "cloud", customOauthClient: true }); });
    await frame(page).getByLabel("Client ID").fill("my-client");
    if (shots) await page.screenshot({ path: `${shots}/frame-own-client.png` });
    const popup = page.waitForEvent("popup");
    await frame(page).getByRole("button", { name: "Continue to The cloud" }).click();
    await (await popup).getByRole("link", { name: "Allow", exact: true }).click();
    assert.deepEqual((await heard(page, 2)).map(([what]) => what), ["success", "close"]);
  },
  async "what does not work says so to the product"() {
    const page = await product(sdk);
    await page.evaluate(() => connect({ app: "mist" }));
    await frame(page).getByRole("heading", { name: "The mist is not set up yet" }).waitFor();
    assert.equal((await heard(page, 1))[0][0], "error");
    await frame(page).getByRole("button", { name: "Close" }).last().click();
    assert.deepEqual((await heard(page, 2))[1], ["close", { successful: false, completed: true }]);
    await page.evaluate(() => { heard.length = 0; connect({ app: "acme", token: "ctok_none" }); });
    await frame(page).getByRole("heading", { name: "This link does not work" }).waitFor();
    assert.equal((await heard(page, 1))[0][0], "error");
  },
  async "an origin that the token does not name gets nothing"() {
    const page = await product(sdk, { origin: "http://evil.localhost" });
    await page.evaluate(() => { window.raw = []; addEventListener("message", ({ data }) => raw.push(data)); connect({ app: "acme" }); });
    await page.waitForTimeout(1500);
    assert.equal(await frame(page).getByLabel("API key", { exact: true }).count(), 0, "the page is not framed");
    assert.deepEqual(await page.evaluate(() => [heard, raw]), [[], []]);
    const answer = await page.evaluate(() => client.accounts.list({}, { maxRetries: 0 }).then(() => "read", () => "refused"));
    assert.equal(answer, "refused");
  },
  async "connect-react's pickers find apps and accounts"() {
    const script = await bundle(`
      import { createRoot } from "react-dom/client";
      import { createFrontendClient } from "pipedream-sdk-3/browser";
      import { FrontendClientProvider, SelectApp, useAccounts, useApps } from "@pipedream/connect-react";
      const client = createFrontendClient({
        baseUrl: "${base}", frontendHost: "${host}", externalUserId: "ann", projectEnvironment: "development",
        tokenCallback: async () => { const t = await window.newToken(); return { token: t.token, expiresAt: new Date(t.expires_at), connectLinkUrl: t.connect_link_url }; },
      });
      function Pickers() {
        const { accounts } = useAccounts({ externalUserId: "ann", app: "acme" });
        const { apps } = useApps({ q: "cloud" });
        return <>
          <SelectApp value={undefined} onChange={(app) => { document.title = app.nameSlug ?? app.name_slug; }} />
          <ul aria-label="accounts">{accounts?.map((account) => <li key={account.id}>{account.id}</li>)}</ul>
          <ul aria-label="apps">{apps?.map((app) => <li key={app.id}>{app.name}</li>)}</ul>
        </>;
      }
      createRoot(document.getElementById("root")).render(
        <FrontendClientProvider client={client}><Pickers /></FrontendClientProvider>);
    `);
    const page = await product(script);
    const own = (await accounts("ann")).filter(({ app }) => app.name_slug === "acme").map(({ id }) => id);
    assert.ok(own.length > 0);
    for (const id of own) await page.getByRole("list", { name: "accounts" }).getByText(id).waitFor();
    await page.getByRole("list", { name: "apps" }).getByText("The cloud").waitFor();
    await page.getByRole("combobox").fill("acme");
    await page.getByRole("option", { name: /The acme/ }).click();
    await page.waitForFunction(() => document.title === "acme");
  },
};

for (const [name, run] of Object.entries(states)) {
  const began = Date.now();
  await run().catch(async (error) => {
    console.error(name, said.slice(-20), problems);
    for (const page of browser.contexts().at(-1).pages()) {
      console.error(page.url(), await page.frames().at(-1).evaluate(() => document.body.innerText));
    }
    throw error;
  });
  console.log(`${name}: ${Date.now() - began} ms`);
}
assert.deepEqual(problems, []);
await browser.close();
console.log("all is well");
