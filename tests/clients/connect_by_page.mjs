// A product's user: follows the Connect Link, agrees at the provider, and reads that it worked.
//   node connect_by_page.mjs CONNECT_LINK
import { chromium } from "playwright-core";

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors"],
});
const page = await browser.newPage();
await page.goto(process.argv[2]);
await page.getByRole("button", { name: /Continue to/ }).click();
await page.getByRole("link", { name: "Allow", exact: true }).click();
await page.getByRole("heading", { name: /is connected/ }).waitFor();
await browser.close();
