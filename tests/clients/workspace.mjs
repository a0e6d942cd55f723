// A person who never saw countersign: comes in by the first owner's link, connects accounts, shares
// one, invites somebody, and looks at every page in light, dark and on a phone.
// usage: workspace.mjs LINK FOLDER → what was seen, as JSON; screenshots in FOLDER.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const [link, folder] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const base = new URL(link).origin;
const hostile = '<img src=x onerror=alert(1)>';
const seen = { problems: [], faults: [], steps: [] };

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--host-resolver-rules=MAP as.acme.test 127.0.0.1'],
});

async function person(options = {}) {
  const context = await browser.newContext({ colorScheme: 'light', viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  page.on('console', (message) => {
    // Chromium says the status of a page that was refused, too; those are meant.
    const refused = /status of 4\d\d/.test(message.text());
    if (message.type() === 'error' && !refused) seen.problems.push(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => seen.problems.push(`${page.url()}: ${error}`));
  page.on('dialog', (dialog) => { seen.problems.push(`a script ran at ${page.url()}`); dialog.dismiss(); });
  return page;
}

async function look(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const fault of violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))) {
    seen.faults.push(`${name}: ${fault.id}: ${fault.nodes[0].html} ${fault.nodes[0].failureSummary}`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 1) seen.faults.push(`${name}: ${wide} px wider than the window`);
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

const step = (name, holds) => { seen.steps.push([name, Boolean(holds)]); };
const has = async (page, text) => (await page.locator('body').innerText()).includes(text);
const press = (page, name) => page.getByRole('button', { name, exact: true }).click();

const ann = await person();
await ann.goto(link);
await look(ann, 'welcome');
await ann.getByLabel('E-mail address').fill('ann@acme.test');
await ann.getByLabel('Your name').fill('Ann Archer');
await ann.getByLabel('Password', { exact: true }).fill('correct horse battery');
await ann.getByLabel('The password again').fill('correct horse battery');
await press(ann, 'Join');
step('the first owner is in', await has(ann, 'No accounts yet'));
await look(ann, 'accounts-empty');

await ann.getByRole('link', { name: 'Connect an app' }).first().click();
await ann.getByLabel('Search apps').pressSequentially('acme', { delay: 20 });
const acme = ann.getByRole('link', { name: /^Acme A test/ });
await ann.waitForURL(/q=acme/);
step('apps are found while one types', (await ann.locator('.apps > li').first().innerText()).includes('Acme'));
await look(ann, 'connect');
await acme.first().click();
await ann.getByLabel('Name (optional)').fill('team');
await look(ann, 'connect-oauth');
await press(ann, 'Continue to Acme');
await ann.waitForURL(/\/accounts\/apn_/);
step('OAuth comes back with an account', await has(ann, 'Acme is connected as “team”.'));
const team = new URL(ann.url()).pathname;
await look(ann, 'account');

// A provider that says no, in words of its own.
await ann.goto(`${base}/accounts/connect/acme`);
const csrf = await ann.locator('main input[name=csrf]').inputValue();
const sent = await ann.request.post(`${base}/accounts/connect/acme`, { form: { csrf, auth: 'oauth' }, headers: { origin: base }, maxRedirects: 0 });
const state = new URL(sent.headers().location).searchParams.get('state');
await ann.goto(`${base}/connect/callback?${new URLSearchParams({ state, error: 'access_denied', error_description: hostile })}`);
step("a provider's error is text", await has(ann, hostile) && ann.url().includes('/accounts/connect/acme'));
await look(ann, 'connect-refused');

await ann.goto(`${base}/accounts/connect?q=evil`);
step("an app's name is text", await has(ann, '<b>Evil</b>'));
await ann.locator('.apps > li a').first().click();
step("an app's name is text in its form", await has(ann, 'Connect <b>Evil</b>'));
await ann.locator('input[type=password]').fill('a-key-of-the-vendor');
await look(ann, 'connect-keys');
await press(ann, 'Connect');
step('keys make an account', await has(ann, 'is connected as'));

await ann.goto(base + team);
await press(ann, 'Check');
step('the check says that it works', await has(ann, 'It works'));
await ann.getByRole('link', { name: 'Rename', exact: true }).click();
await look(ann, 'rename');
await ann.getByLabel('New name').fill('team-acme');
await press(ann, 'Rename');
step('it has another name', await has(ann, 'The account is called team-acme now.'));

await ann.getByRole('link', { name: 'Members', exact: true }).click();
await ann.getByLabel('E-mail address').fill('ben@acme.test');
await press(ann, 'Make a link');
const invitation = await ann.locator('#link').innerText();
await look(ann, 'invited');
const ben = await person();
await ben.goto(invitation);
await ben.getByLabel('Your name').fill(hostile);
await ben.getByLabel('Password', { exact: true }).fill('another horse battery');
await ben.getByLabel('The password again').fill('another horse battery');
await press(ben, 'Join');
step('who was invited is in, and sees nothing of others', await has(ben, 'No accounts yet'));
await ann.goto(`${base}/members`);
step("a member's name is text", await has(ann, hostile));
await look(ann, 'members');
await ann.getByRole('link', { name: hostile }).click();
await look(ann, 'member');
await ann.getByRole('link', { name: 'Remove' }).click();
await look(ann, 'member-remove');

await ann.goto(`${base}${team}/access`);
await ann.getByLabel('The whole workspace').check();
await look(ann, 'access');
await press(ann, 'Save');
await ben.goto(`${base}/accounts`);
step('a shared account is there', await has(ben, 'team-acme'));
await ben.goto(base + team);
step('and is not theirs to change', !(await has(ben, 'Manage access')));

await ann.goto(`${base}${team}/reconnect`);
await look(ann, 'reconnect');
await press(ann, 'Continue to Acme');
await ann.waitForURL(/\/accounts\/apn_/);
step('reconnecting keeps the id', new URL(ann.url()).pathname === team);

await ann.goto(`${base}/oauth-clients`);
await look(ann, 'oauth-clients');
await ann.getByRole('link', { name: 'Register an OAuth client' }).click();
await look(ann, 'oauth-client-pick');
await ann.goto(`${base}/oauth-clients/new/acme`);
await ann.getByLabel('Name', { exact: true }).fill('second');
await ann.getByLabel('Client id').fill('cid-2');
await ann.getByLabel(/Client secret/).fill('a-second-client-secret');
await look(ann, 'oauth-client');
await press(ann, 'Register');
step('an OAuth client is registered', await has(ann, 'cid-2'));

await ann.goto(`${base}/projects`);
await look(ann, 'projects-empty');
await ann.goto(`${base}/projects/new`);
await ann.getByLabel('Name', { exact: true }).fill('Shop');
await look(ann, 'project-form');
await press(ann, 'Save');
step('a project is made', await has(ann, 'Shop is saved.'));
await ann.getByLabel('Name of a new API client').fill('backend');
await press(ann, 'Add');
step('a program gets its secret', await has(ann, 'PIPEDREAM_CLIENT_SECRET='));
await look(ann, 'api-client');
await press(ann, 'Copy').catch(() => {});
await ann.getByRole('link', { name: 'Done' }).click();
await look(ann, 'project');
await ann.goto(`${base}/settings`);
await look(ann, 'settings');
await ann.getByText('Make a token', { exact: true }).click();
await ann.getByLabel('What is it for?').fill(hostile);
await ann.locator('#token-current').fill('correct horse battery');
await look(ann, 'settings-token');
await press(ann, 'Make the token');
const token = await ann.locator('#token').innerText();
step('a token is shown', token.startsWith('cspat_'));
await look(ann, 'member-token');
await ann.getByRole('link', { name: 'I have stored it' }).click();
step('its name is text, and it is shown once', (await has(ann, hostile)) && !(await has(ann, token)));
const mine = await ann.request.get(`${base}/v1/workspace/accounts`, { headers: { authorization: `Bearer ${token}` } });
step('a program sees what its member sees', mine.ok() && (await mine.json()).data.length === 2);
await look(ann, 'settings-tokens');

// What is long and what is broken. Then the same in the dark and on a phone.
const everywhere = ['accounts', team.slice(1), `${team.slice(1)}/access`, 'accounts/connect', 'accounts/connect/acme', 'oauth-clients', 'projects', 'members', 'settings', 'accounts?q=nothing+fits', 'nowhere-at-all', 'accounts/apn_0'];
const names = (path) => path.replace(team.slice(1), 'account').replace(/[/?=+]/g, '-');
await press(ann, 'Dark');
step('the dark theme is kept', (await ann.locator('html').getAttribute('data-theme')) === 'dark');
for (const path of everywhere) { await ann.goto(`${base}/${path}`); await look(ann, `dark-${names(path)}`); }
await press(ann, 'Auto');
const session = await ann.context().storageState();
const phone = await person({ viewport: { width: 390, height: 844 }, storageState: session, hasTouch: true, isMobile: true });
for (const path of everywhere) { await phone.goto(`${base}/${path}`); await look(phone, `phone-${names(path)}`); }
await phone.goto(`${base}/accounts`);
step('the places are behind a menu', !(await phone.getByRole('link', { name: 'Callers', exact: true }).isVisible()));
await phone.getByText('Menu', { exact: true }).click();
await look(phone, 'phone-menu');
await phone.getByRole('link', { name: 'Callers', exact: true }).click();
step('the menu leads on', phone.url() === `${base}/callers`);
for (const path of everywhere) { await ann.goto(`${base}/${path}`); await look(ann, `light-${names(path)}`); }

// Without scripts, with the keyboard: the first stop leads past the navigation.
const plain = await person({ storageState: session, javaScriptEnabled: false });
await plain.goto(`${base}/accounts?q=team`);
step('it works without scripts', await plain.getByRole('link', { name: /team-acme/ }).count() === 1);
await plain.goto(`${base}/projects`);
await plain.getByRole('link', { name: 'Shop' }).first().click();
await plain.getByRole('link', { name: 'Edit' }).first().click();
await plain.locator('#logo').setInputFiles({ name: 'logo.gif', mimeType: 'image/gif', buffer: Buffer.from('GIF89a;') });
await plain.getByRole('button', { name: 'Save' }).click();
step('a logo is taken without scripts', await has(plain, 'Shop is saved.'));
await ann.goto(`${base}/accounts`);
await ann.keyboard.press('Tab');
step('the first stop leads to the page', (await ann.evaluate(() => document.activeElement.getAttribute('href'))) === '#main');

await ann.goto(base + team);
await ann.getByRole('link', { name: 'Delete' }).click();
await look(ann, 'delete');
await press(ann, 'Delete the account');
step('it is deleted and revoked', await has(ann, 'revoked at the provider'));
await press(ann, 'Log out');
await look(ann, 'login');
await ann.getByLabel('E-mail address').fill('ann@acme.test');
await ann.getByLabel('Password', { exact: true }).fill('not the password');
await press(ann, 'Log in');
step('a wrong password is refused', await has(ann, 'do not belong together'));
await ann.getByLabel('Password', { exact: true }).fill('correct horse battery');
await press(ann, 'Log in');
step('the right one is taken', ann.url() === `${base}/accounts`);

console.log(JSON.stringify(seen));
await browser.close();
