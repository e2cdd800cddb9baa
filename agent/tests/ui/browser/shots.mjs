// The README's pictures from a live page. In: LINK, CHROMIUM, SHOTS (a folder) by environment; out: PNG files.

import { chromium } from "playwright-core";

const { LINK: link, CHROMIUM: executablePath, SHOTS: folder } = process.env;
const base = new URL(link).origin;
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, headless: true, args });

async function open(scheme) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  await page.goto(link);
  await page.waitForSelector("main .panel");
  return page;
}

const light = await open("light");
const get = (path) => light.evaluate(async (path_) => (await fetch(`/api/v1/${path_}`)).json(), path);
const { services } = await get("overview");
// The trace with most services tells most.
const { traces } = await get("traces?limit=500");
const widest = traces.reduce((best, one) => (one.services.length > best.services.length || (one.services.length === best.services.length && one.spans > best.spans) ? one : best), traces[0]);
const asks = (await get("overview")).edges.find((edge) => edge.from !== null);
const shown = asks?.from ?? services[0].service;
for (const [name, scheme, path] of [
  ["overview", "light", "/"], ["overview-dark", "dark", "/"], ["service", "light", `/services/${encodeURIComponent(shown)}`],
  ["traces", "light", "/traces?sort=slowest"], ["trace", "dark", `/traces/${widest.trace_id}`], ["agent", "light", "/agent"],
]) {
  const page = scheme === "light" ? light : await open(scheme);
  await page.goto(base + path);
  await page.waitForSelector("main .panel");
  if (name === "trace") await page.locator("button.span").nth(1).click();
  await page.waitForLoadState("load");
  await page.screenshot({ path: `${folder}/${name}.png` });
  console.log(`${folder}/${name}.png`);
}
await browser.close();
