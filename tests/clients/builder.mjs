// A member at a browser: sends the test request in the builder, keeps it, opens it again, copies it
// as curl; and looks at the catalog. usage: builder.mjs BASE EMAIL PASSWORD FOLDER → JSON of what was
// seen; screenshots of every page, light, dark and narrow, in FOLDER.
import { chromium } from 'playwright-core';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const [base, email, password, folder] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
const page = await context.newPage();
const problems = [];
page.on('console', (message) => message.type() === 'error' && problems.push(`${message.text()} ${message.location().url}`));
page.on('pageerror', (error) => problems.push(String(error)));

let axe = null;
try {
  const script = process.env.AXE_CORE ?? createRequire(import.meta.url).resolve('axe-core/axe.min.js');
  axe = readFileSync(script, 'utf8');
} catch {
  // Not installed here: the rest is looked at all the same.
}
const faults = [];
const look = async (name) => {
  for (const [look, scheme, width] of [['light', 'light', 1280], ['dark', 'dark', 1280], ['phone', 'light', 390]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 900 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) problems.push(`${name} ${look}: ${wide} px wider than the window`);
    if (axe && look !== 'phone') {
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run());
      for (const fault of found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))) {
        faults.push(`${name} ${look}: ${fault.id}: ${fault.nodes.map((node) => node.html).slice(0, 3).join(' ')}`);
      }
    }
    await page.screenshot({ path: `${folder}/${name}-${look}.png`, fullPage: true });
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 900 });
};
const seen = {};

await page.goto(`${base}/login`);
await page.getByLabel('E-mail address').fill(email);
await page.getByLabel('Password').fill(password);
await page.getByRole('button', { name: 'Log in' }).click();

await page.getByRole('link', { name: 'Request builder' }).click();
seen.start = await page.getByLabel('Path', { exact: true }).inputValue();
await look('builder');
await page.getByRole('button', { name: 'Send', exact: true }).last().click();
await page.getByRole('heading', { name: 'Answer' }).waitFor();
seen.first = await page.locator('#answer').innerText();

await page.getByLabel('Path', { exact: true }).fill('/json');
await page.locator('summary', { hasText: 'Query' }).click();
await page.getByRole('button', { name: 'Add a parameter' }).click();
await page.getByLabel('Parameter 1').fill('page');
await page.getByLabel('Value 1').fill("it's 2");
await page.getByLabel('Value 1').press('Control+Enter');
await page.locator('.json').waitFor();
seen.folds = await page.locator('.json details').count();
await page.locator('.json details').nth(1).locator('summary').first().click();
seen.closed = await page.locator('.json details:not([open])').count();
await look('answer');

await page.getByLabel('Name', { exact: true }).fill('Orders');
await page.getByRole('button', { name: 'Save', exact: true }).click();
await page.getByRole('status').waitFor();
await page.getByRole('link', { name: 'Saved requests' }).click();
await look('saved');
await page.getByRole('link', { name: 'Orders' }).click();
seen.reopened = await page.getByLabel('Path', { exact: true }).inputValue();
await page.getByRole('button', { name: 'Copy as code' }).click();
await page.locator('#code-curl').waitFor();
await page.locator('[data-copy="code-curl"]').click();
await page.locator('[data-copy="code-curl"]', { hasText: 'Copied' }).waitFor();
seen.curl = await page.evaluate(() => navigator.clipboard.readText());
await look('code');

await page.locator('summary', { hasText: 'Body' }).click();
await page.getByRole('radio', { name: 'JSON' }).check();
await page.getByLabel('JSON', { exact: true }).last().fill('{"a": ');
await page.getByText('Not JSON yet').waitFor();
await look('body');

await page.getByRole('link', { name: 'Apps', exact: true }).click();
await page.getByLabel('Search apps').fill('slac');
await page.waitForFunction(() => document.querySelector('#results li')?.innerText.includes('Slack'));
seen.found = await page.locator('#results li').first().innerText();
await page.goto(`${base}/apps`);
await look('apps');
await page.goto(`${base}/apps/slack`);
await look('app');
await page.goto(`${base}/apps/own/new`);
await page.getByLabel('Definition').fill('id = "x"\nnam = "y"\n');
await page.getByRole('button', { name: 'Check' }).click();
await page.getByRole('heading', { name: 'What was found' }).waitFor();
await look('edit');

// A page that says what is wrong is answered as such, and browsers note that.
const expected = (text) => text.includes('422');
console.log(JSON.stringify({ ...seen, faults, axe: axe !== null, problems: problems.filter((text) => !expected(text)) }));
await browser.close();
