// A person at a browser: opens the URL, reads the consent page, allows, and reads where it ends.
// usage: consent.mjs URL FOLDER [allow|deny] → the last page's text, screenshots in FOLDER.
import { chromium } from 'playwright-core';

const [url, folder, decision = 'allow'] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const page = await browser.newPage();
const problems = [];
page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
page.on('pageerror', (error) => problems.push(String(error)));
await page.goto(url);
await page.screenshot({ path: `${folder}/consent.png` });
await page.getByRole('button', { name: decision === 'allow' ? 'Allow' : 'Deny' }).click();
await page.getByRole('heading').waitFor();
await page.screenshot({ path: `${folder}/end.png` });
// The code has left the address bar, so it is in no history and no referrer.
console.log(JSON.stringify({
  heading: await page.getByRole('heading').innerText(),
  text: await page.locator('p').innerText(),
  address: page.url(),
  problems,
}));
await browser.close();
