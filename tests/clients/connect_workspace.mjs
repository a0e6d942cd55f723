// A member who chooses scopes and enters a code on another device, in Chromium, with and without
// scripts; axe-core looks at each page, in light and dark and on a phone.
//   node connect_workspace.mjs LINK FOLDER
// Says `code XXXX` when a code is to be entered at the provider, by whoever reads this.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [link, folder] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const base = new URL(link).origin;
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP as.acme.test 127.0.0.1"],
});
const problems = [];

async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    const refused = /status of 4\d\d/.test(message.text());
    if (message.type() === "error" && !refused) problems.push(message.text());
  });
  return page;
}

async function look(page, name) {
  const before = page.viewportSize();
  for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["light", 390]]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height: 860 });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    const found = violations.filter(({ impact }) => impact !== "minor");
    assert.deepEqual(found.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], `${name}, ${colorScheme}, ${width}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 1, `${name} is ${wide} px wider than ${width}`);
    await page.screenshot({ path: `${folder}/${name}-${colorScheme}-${width}.png`, fullPage: true });
  }
  await page.setViewportSize(before);
}

const ann = await person();
await ann.goto(link);
await ann.getByLabel("E-mail address").fill("ann@acme.test");
await ann.getByLabel("Your name").fill("Ann Archer");
await ann.getByLabel("Password", { exact: true }).fill("correct horse battery");
await ann.getByLabel("The password again").fill("correct horse battery");
await ann.getByRole("button", { name: "Join" }).click();

await ann.goto(`${base}/accounts/connect/acme`);
const sets = ann.getByRole("group", { name: "What Acme is asked for" });
await sets.getByRole("radio", { name: /^Read only/ }).check();
await sets.getByLabel(/More scopes/).fill('no"scope');
await look(ann, "scopes");
await ann.getByRole("button", { name: "Continue to Acme" }).click();
await ann.getByRole("alert").getByText("More scopes").waitFor();
assert.ok(await sets.getByRole("radio", { name: /^Read only/ }).isChecked(), "what was chosen is still chosen");
await look(ann, "scopes-wrong");
await sets.getByLabel(/More scopes/).fill("mail:send");
await ann.getByLabel("Name (optional)").fill("narrow");
await ann.getByRole("button", { name: "Continue to Acme" }).click();
await ann.waitForURL(/\/accounts\/apn_/);
for (const scope of ["people:read", "mail:send"]) await ann.getByText(scope, { exact: true }).waitFor();
await ann.goto(`${ann.url()}/reconnect`);
assert.ok(await ann.getByRole("radio", { name: /^The same as before/ }).isChecked());
await look(ann, "scopes-again");

// With scripts the page notices by itself.
const code = async (page, name) => {
  await page.goto(`${base}/accounts/connect/acme`);
  await page.getByLabel("Name (optional)").fill(name);
  await page.getByRole("button", { name: "Use a code on another device" }).click();
  await page.getByRole("heading", { name: "Enter this code at Acme" }).waitFor();
  console.log(`code ${await page.locator("#code").innerText()}`);
};
await code(ann, "tv");
await ann.getByRole("status").getByText("This page notices").waitFor();
assert.equal(await ann.getByRole("link", { name: "Open Acme" }).getAttribute("rel"), "noreferrer");
await look(ann, "code");
await ann.waitForURL(/\/accounts\/apn_/);
await ann.getByText("Acme is connected as “tv”.").waitFor();

// Without them a button does.
const plain = await person({ javaScriptEnabled: false, storageState: await ann.context().storageState() });
await code(plain, "radio");
await plain.getByRole("button", { name: "I have agreed" }).click();
await plain.getByRole("heading", { name: "Enter this code at Acme" }).waitFor();
await plain.waitForTimeout(5500);
await plain.getByRole("button", { name: "I have agreed" }).click();
await plain.getByText("Acme is connected as “radio”.").waitFor();

assert.deepEqual(problems, []);
await browser.close();
console.log("all is well");
