// A member at a browser: makes a caller, asks whether something would be allowed, and finds in
// Activity what the caller did.
// usage: callers.mjs BASE EMAIL PASSWORD create ACCOUNT URL → the token and the verdict
//        callers.mjs BASE EMAIL PASSWORD find PATH         → the policy test of the request
//        callers.mjs BASE EMAIL PASSWORD shots FOLDER PAGE… → pictures of pages, in all dresses
import { chromium } from 'playwright-core';

const [base, email, password, task, ...rest] = process.argv.slice(2);
const axe = await import('axe-core').then((module) => module.default, () => null);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const context = await browser.newContext({ baseURL: base });
const page = await context.newPage();
const problems = [];
page.on('console', (message) => {
  // Chromium asks for an icon by itself.
  const icon = message.location().url.endsWith('/favicon.ico');
  if (message.type() === 'error' && !icon) problems.push(`${message.text()} ${message.location().url}`);
});
page.on('pageerror', (error) => problems.push(String(error)));

// Serious faults for people who do not see the page or do not use a mouse.
async function inspect() {
  if (!axe) return;
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => window.axe.run());
  const serious = found.violations.filter((fault) => ['serious', 'critical'].includes(fault.impact));
  problems.push(...serious.map((fault) => `${page.url()}: ${fault.id}: ${fault.nodes[0].html}`));
}

async function create(account, url) {
  await page.getByRole('link', { name: 'Callers', exact: true }).click();
  await inspect();
  await page.getByRole('link', { name: 'Create a caller' }).first().click();
  await page.getByLabel('Name', { exact: true }).fill('browsed');
  await page.getByText(account, { exact: true }).click();
  await inspect();
  await page.getByRole('button', { name: 'Create the caller' }).click();
  const token = await page.locator('#token').innerText();
  await inspect();
  await page.getByRole('link', { name: 'Go to the caller' }).click();
  await page.getByLabel('Address').fill(url);
  // It answers while one types, once the caller is in use.
  const verdict = page.locator('#verdict strong').first();
  for (let tries = 0; tries < 50; tries += 1) {
    await verdict.waitFor();
    if ((await verdict.innerText()) !== 'No answer') break;
    await page.waitForTimeout(100);
    await page.getByRole('button', { name: 'Ask' }).click();
  }
  await inspect();
  return { token, verdict: await verdict.innerText() };
}

async function find(path) {
  await page.getByRole('link', { name: 'Activity', exact: true }).click();
  await page.getByLabel('Search').fill(path);
  const row = page.locator('tbody tr', { hasText: path }).first();
  await row.waitFor();
  await page.waitForFunction(() => document.querySelectorAll('#results tbody tr').length === 1);
  await inspect();
  await page.locator('td.when a').first().click();
  const text = await page.locator('#case-text').innerText();
  await inspect();
  return { text };
}

async function shots(folder, ...pages) {
  for (const [name, colorScheme, width] of [['light', 'light', 1280], ['dark', 'dark', 1280], ['phone', 'light', 390]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    for (const path of pages) {
      await page.goto(path);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) problems.push(`${path} is ${wide} px too wide at ${width}`);
      const file = path.replaceAll(/[^a-z0-9]+/g, '-').slice(0, 40);
      await page.screenshot({ path: `${folder}/${name}${file}.png`, fullPage: true });
    }
  }
  return {};
}

await page.goto('/login');
await page.locator('input[name=email]').fill(email);
await page.locator('input[name=password]').fill(password);
await page.locator('main button, .narrow button').first().click();
await page.getByRole('heading', { level: 1 }).waitFor();
const said = await { create, find, shots }[task](...rest);
console.log(JSON.stringify({ ...said, problems }));
await browser.close();
