// A person at the connect page, in Chromium: every state, in light and dark, by keyboard, on a phone,
// without JavaScript. axe-core looks at each. `SHOTS` names a folder for pictures.
//   node connect_page.mjs BASE_URL PROJECT ACCESS_TOKEN KEY
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [base, project, access, key] = process.argv.slice(2);
const shots = process.env.SHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

async function api(method, path, body) {
  const response = await fetch(`${base}/v1/connect/${path}`, {
    method,
    headers: { authorization: `Bearer ${access}`, "content-type": "application/json", "x-pd-environment": "development" },
    body: body && JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.status === 204 ? null : response.json();
}
const accounts = async (user) => (await api("GET", `${project}/accounts?external_user_id=${user}`)).data;
const link = async (query = "", more = {}) => {
  const { token } = await api("POST", `${project}/tokens`, { external_user_id: "ann", ...more });
  return `${base}/_static/connect.html?token=${token}&connectLink=true${query}`;
};

const problems = [];
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 390, height: 760 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // The browser itself says so of every answer that is no 2xx.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(message.text());
  });
  return page;
}

// What a machine can tell of a page's accessibility, and how it looks.
async function look(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.evaluate(axe);
    // The dark page differs in its colours only.
    const only = colorScheme === "dark" ? { runOnly: ["color-contrast"] } : {};
    const { violations } = await page.evaluate((only) => axe.run(document, { resultTypes: ["violations"], ...only }), only);
    const found = violations.filter(({ impact }) => impact !== "minor");
    assert.deepEqual(found.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], `${name}, ${colorScheme}`);
    if (shots) await page.screenshot({ path: `${shots}/${name}-${colorScheme}.png` });
  }
  const before = page.viewportSize();
  await page.setViewportSize({ width: 320, height: 640 });
  const [scrollWidth, clientWidth] = await page.evaluate(() => {
    const root = document.documentElement;
    return [root.scrollWidth, root.clientWidth];
  });
  assert.ok(scrollWidth <= clientWidth, `${name} is ${scrollWidth} wide at 320`);
  if (shots) await page.screenshot({ path: `${shots}/${name}-narrow.png`, fullPage: true });
  await page.setViewportSize(before);
}
const heading = (page) => page.getByRole("heading", { level: 1 }).filter({ visible: true }).innerText();

const states = {
  async "the list of apps, and back to it"() {
    const page = await open();
    await page.goto(await link());
    await look(page, "choose");
    await page.getByRole("searchbox").fill("cloud");
    await page.getByRole("link", { name: "The cloud" }).waitFor();
    await page.getByRole("link", { name: "The acme" }).waitFor({ state: "detached" });
    await look(page, "choose-found");
    await page.getByRole("searchbox").fill("zzzz");
    await page.getByText("Nothing fits").waitFor();
    await look(page, "choose-none");
    await page.getByRole("searchbox").fill("cloud");
    await page.getByRole("link", { name: "The cloud" }).click();
    assert.match(await heading(page), /wants to use The cloud/);
    await page.getByRole("link", { name: "All apps" }).click();
    assert.equal(await heading(page), "Connect an account");
  },
  async "keys by keyboard alone, wrong and right"() {
    const page = await open();
    await page.goto(await link("&app=desk"));
    await look(page, "keys");
    await page.keyboard.press("Tab");
    await page.getByLabel("Subdomain").focus();
    await page.keyboard.type("https://one.desk.test/x");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.type), "password");
    await page.keyboard.type("not-the-key");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("role")), "alert", "focus is on what is wrong");
    assert.equal(await page.getByLabel("API key", { exact: true }).inputValue(), "not-the-key", "what was typed is still there");
    await page.getByText("Details").first().click();
    await look(page, "keys-wrong");
    await page.getByRole("button", { name: "Show API key" }).click();
    assert.equal(await page.getByLabel("API key", { exact: true }).getAttribute("type"), "text");
    await page.getByLabel("API key", { exact: true }).fill(key);
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByRole("heading", { name: "The desk is connected" }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1", "focus is on the news");
    await look(page, "done");
  },
  async "a field that is missing, without JavaScript"() {
    const page = await open({ javaScriptEnabled: false });
    await page.goto(await link("&app=desk"));
    await page.getByLabel("Subdomain").fill("no such name!");
    await page.getByLabel("API key", { exact: true }).fill("x");
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByText("This does not fit").waitFor();
    await page.getByLabel("Subdomain").fill("one");
    await page.getByLabel("API key", { exact: true }).fill(key);
    await page.getByRole("button", { name: "Connect" }).click();
    assert.equal(await heading(page), "The desk is connected");
  },
  async "consent in the same window, and the way back to the product"() {
    const page = await open();
    await page.route("https://shop.example/**", (route) => {
      const { referer } = route.request().headers();
      assert.equal(referer, undefined, "the product's page is told nothing by the address");
      route.fulfill({ contentType: "text/html", body: "<title>shop</title>back" });
    });
    await page.goto(await link("&app=cloud", { success_redirect_uri: "https://shop.example/yes" }));
    await look(page, "consent");
    await page.getByRole("button", { name: "Continue to The cloud" }).click();
    await page.getByRole("link", { name: "Allow", exact: true }).click();
    await page.getByRole("heading", { name: "The cloud is connected" }).waitFor();
    assert.ok(!/code=|state=/.test(page.url()), "the code has left the address");
    await look(page, "done-return");
    await page.waitForURL("https://shop.example/yes", { timeout: 8000 });
  },
  async "consent without JavaScript"() {
    const page = await open({ javaScriptEnabled: false });
    await page.goto(await link("&app=cloud"));
    await page.getByRole("button", { name: "Continue to The cloud" }).click();
    await page.getByRole("link", { name: "Allow", exact: true }).click();
    assert.equal(await heading(page), "The cloud is connected");
  },
  async "declined, broken, and another try"() {
    const page = await open();
    await page.goto(await link("&app=cloud"));
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("link", { name: "Deny" }).click();
    assert.equal(await heading(page), "You did not allow it");
    await page.getByText("Details for support").click();
    await look(page, "denied");
    await page.getByRole("link", { name: "Try again" }).click();
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("link", { name: "Break" }).click();
    assert.equal(await heading(page), "The cloud refused");
    await look(page, "refused");
    await page.getByRole("link", { name: "Try again" }).click();
    const back = await page.getByRole("button", { name: "Continue" });
    await back.click();
    await page.getByRole("link", { name: "Allow", exact: true }).waitFor();
    await page.goBack();
    assert.equal(await page.getByRole("button", { name: "Continue" }).getAttribute("aria-disabled"), "false", "the back button brings a page that works");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("link", { name: "Allow as somebody else" }).click();
    assert.equal(await heading(page), "The cloud is connected");
  },
  async "what the product decided is not asked"() {
    const { id } = await api("POST", `${project}/app_overrides`, { app: "desk", name: "ours", cfmap: { subdomain: "one" } });
    const page = await open();
    await page.goto(await link(`&app=desk&appOverrideId=${id}`));
    await look(page, "decided");
    assert.equal(await page.getByLabel("Subdomain").count(), 0);
    await page.getByLabel("API key", { exact: true }).fill(key);
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByRole("heading", { name: "The desk is connected" }).waitFor();
  },
  async "a client of one's own"() {
    const page = await open();
    await page.goto(await link("&app=cloud&customOauthClient=true", { external_user_id: "carl" }));
    await page.getByText(`${base}/connect/callback`).waitFor();
    await page.getByLabel("Client ID").fill("my-client");
    await page.getByLabel(/^Client secret/).fill("my-secret");
    await look(page, "own-client");
    await page.getByRole("button", { name: "Continue to The cloud" }).click();
    assert.equal(new URL(page.url()).searchParams.get("client_id"), "my-client");
    await page.getByRole("link", { name: "Allow", exact: true }).click();
    await page.getByRole("heading", { name: "The cloud is connected" }).waitFor();
    const plain = await open({ javaScriptEnabled: false });
    await plain.goto(await link("&app=cloud&customOauthClient=true", { external_user_id: "carl" }));
    await plain.getByLabel("Client ID").fill("münchen");
    await plain.getByRole("button", { name: "Continue to The cloud" }).click();
    await plain.getByText("This does not look right").waitFor();
  },
  async "connecting anew, as somebody else and as the same"() {
    const [{ id }] = (await accounts("ann")).filter(({ app, name }) => app.name_slug === "cloud" && name === "ann@acme.test");
    const page = await open();
    await page.goto(await link(`&app=cloud&accountId=${id}`));
    assert.equal(await heading(page), "Connect The cloud again");
    await look(page, "reconnect");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("link", { name: "Allow as somebody else" }).click();
    assert.equal(await heading(page), "This is another account at The cloud");
    await look(page, "other-identity");
    const before = (await accounts("ann")).length;
    await page.getByRole("link", { name: "Try again" }).click();
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("link", { name: "Allow", exact: true }).click();
    assert.equal(await heading(page), "The cloud is connected");
    assert.equal((await accounts("ann")).length, before);
  },
  async "another browser, a stale step, and links that do not work"() {
    const page = await open();
    await page.goto(await link("&app=cloud"));
    await page.getByRole("button", { name: "Continue" }).click();
    const way = await page.getByRole("link", { name: "Allow", exact: true }).getAttribute("href");
    const other = await open();
    await other.goto(way);
    assert.equal(await heading(other), "Another browser began this");
    await look(other, "wrong-browser");
    await page.goto(way);
    assert.equal(await heading(page), "The cloud is connected");
    await page.goto(way);
    assert.equal(await heading(page), "The cloud is connected", "the same step twice");
    await other.goto(`${base}/connect/callback?state=unknown&code=1`);
    assert.equal(await heading(other), "This step is over");
    await look(other, "stale");
    const used = await link("&app=acme");
    for (const [address, title, name] of [
      [`${base}/_static/connect.html?token=ctok_0&app=acme&connectLink=true`, "This link does not work", "unknown"],
      [await link("&app=nothing"), "There is no such app", "no-app"],
      [await link("&app=mist"), "The mist is not set up yet", "not-set-up"],
      [await link("&app=acme", { expires_in: 1 }), "This link has expired", "expired"],
    ]) {
      if (name === "expired") await new Promise((done) => setTimeout(done, 1100));
      await other.goto(address);
      assert.equal(await heading(other), title);
      await look(other, name);
    }
    await other.goto(used);
    await other.getByLabel("API key", { exact: true }).fill(key);
    await other.getByRole("button", { name: "Connect" }).click();
    await other.getByRole("heading", { name: "The acme is connected" }).waitFor();
    await other.goto(used);
    assert.equal(await heading(other), "This link was used already");
    await look(other, "used");
  },
};

for (const [name, run] of Object.entries(states)) {
  const began = Date.now();
  await run();
  console.log(`${name}: ${Date.now() - began} ms`);
}
assert.deepEqual(problems, []);
await browser.close();
console.log("all is well");
