// Every view of the page in a real Chromium: figures on screen against the API and the ground truth of the load, hostile
// values, addresses, keys, accessibility. In: LINK, CHROMIUM and EXPECT (JSON) by environment. Out: a line per check,
// `ok NAME` or `not ok NAME: why`; `figure NAME VALUE` for what a benchmark wants.

import fs from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { LINK: link, CHROMIUM: executablePath, EXPECT } = process.env;
const expect = JSON.parse(EXPECT);
const base = new URL(link).origin;
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, headless: true, args });

const strange = [];
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1300, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.on("request", (request) => { if (!request.url().startsWith(base)) strange.push(`asked for ${request.url()}`); });
  page.on("console", (message) => { if (message.type() === "error") strange.push(message.text()); });
  page.on("pageerror", (error) => strange.push(error.message));
  page.on("dialog", (dialog) => { strange.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(link);
  return page;
}

async function check(name, work) {
  try {
    await work();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${String(error.message).split("\n").slice(0, 6).join(" | ")}`);
  }
}

function same(actual, wanted, what) {
  const [one, two] = [JSON.stringify(actual), JSON.stringify(wanted)];
  if (one !== two) throw new Error(`${what}: ${one}, not ${two}`);
}

const page = await open();
const api = (path) => page.evaluate(async (path_) => (await fetch(`/api/v1/${path_}`)).json(), path);
const show = async (path) => {
  await page.goto(base + path);
  await page.waitForSelector("main h1");
};
/** Cells of a table's rows, by the first word of the first one. */
const rows = (name) => page.locator(`table:has(caption:text-is("${name}")) tbody tr`).evaluateAll((list) => list.map((row) => [...row.cells].map((cell) => cell.innerText.trim())));
const near = (text, value, what) => {
  const shown = parseFloat(text);
  if (Math.abs(shown - value) > Math.max(0.15 * value, 0.02)) throw new Error(`${what}: ${text} on screen, ${value} in the API`);
};

await check("the link opens the overview and the token leaves the address", async () => {
  await page.waitForSelector("text=Service map");
  same(page.url(), `${base}/`, "address");
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  console.log(`figure first_contentful_paint_ms ${Math.round(paint)}`);
});

await check("the overview shows the ground truth", async () => {
  await show("/?window=3600");
  await page.waitForSelector("caption:text-is('Services')", { state: "attached" });
  const answer = await api("overview?window=3600");
  same([answer.total.count, answer.total.errors], [expect.count, expect.errors], "API");
  same(await page.locator(".kpi small").nth(1).innerText(), `${expect.errors} of ${expect.count}`, "failed of all");
  const table = await rows("Services");
  same(table.map((row) => row[0].split("\n")[0]).sort(), Object.keys(expect.services).sort(), "services");
  for (const row of table) {
    const service = answer.services.find((one) => one.service === row[0].split("\n")[0]);
    same([service.count, service.errors], expect.services[service.service], `counts of ${service.service}`);
    near(row[1], service.rate, "rate");
  }
});

await check("the service map has the edges that were driven", async () => {
  await page.locator("summary").click();
  const edges = (await rows("Edges")).map((row) => [row[0], row[1]]);
  same(edges.sort(), expect.edges.sort(), "edges");
  same(await page.locator(".map a").count(), Object.keys(expect.services).length, "boxes that are links");
});

await check("operations have the routes with their failures", async () => {
  await show("/operations?window=3600&kind=server");
  const answer = await api("operations?window=3600&kind=server");
  const table = await rows("Operations");
  same(table.length, answer.operations.length, "rows");
  for (const [name, [count, errors]] of Object.entries(expect.operations)) {
    const found = answer.operations.find((one) => `${one.service} ${one.name}` === name);
    same([found?.count, found?.errors], [count, errors], name);
    const row = table.find((cells) => `${cells[1]} ${cells[0].split("\n")[0]}` === name);
    same(row?.[3] === "0 %", errors === 0, `failures of ${name} on screen`);
  }
});

await check("tables sort by a click on a title, and say so", async () => {
  await page.locator("th button", { hasText: "p99" }).click();
  same(await page.locator("th[aria-sort]").getAttribute("aria-sort"), "descending", "order");
  await page.locator("th button", { hasText: "p99" }).click();
  same(await page.locator("th[aria-sort]").getAttribute("aria-sort"), "ascending", "order");
});

await check("a service's page has charts, and its heat map holds every request", async () => {
  await show(`/services/${expect.front}?window=3600`);
  await page.waitForSelector(".heat rect.cell");
  const answer = await api(`heatmap?window=3600&service=${expect.front}`);
  const sum = answer.counts.flat().reduce((one, two) => one + two, 0);
  same(sum, expect.services[expect.front][0], "requests in the heat map");
  same(await page.locator(".heat rect.cell").count(), answer.counts.flat().filter((count) => count > 0).length, "cells");
  same(await page.locator(".chart svg[role=img]").count(), 2, "charts");
});

await check("a cell of the heat map opens its traces", async () => {
  await show(`/services/${expect.front}?window=3600`);
  await page.keyboard.press("p");
  const cell = page.locator(".heat rect.cell").first();
  const [x, y] = await cell.evaluate((rect) => [Number(rect.dataset.x), Number(rect.dataset.y)]);
  await cell.hover();
  const words = await page.locator(".heat .tip").innerText();
  const count = Number(/: (\d+) requests/.exec(words)[1]);
  await cell.click();
  await page.waitForURL(/\/traces\?.*min_ns=/);
  await page.waitForSelector("main h1:text-is('Traces')");
  same((await page.locator(".head small").innerText()).split(" ")[0], String(count), `traces of cell ${x}, ${y}`);
  await page.keyboard.press("p");
});

await check("the heat map is driven by keys", async () => {
  await show(`/services/${expect.front}?window=3600`);
  await page.keyboard.press("p");
  await page.locator(".heat").focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowUp");
  if (!/requests/.test(await page.locator(".heat [aria-live]").innerText())) throw new Error("nothing is said");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/traces\?/);
});

await check("search finds a trace by a word, and hostile values are text", async () => {
  await show("/traces");
  await page.keyboard.press("/");
  await page.waitForFunction(() => document.activeElement?.id === "search");
  await page.keyboard.type("<script>");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=%3Cscript%3E/);
  await page.waitForFunction(() => document.querySelectorAll("table tbody tr").length === 1);
  await page.locator("table tbody a").first().click();
  await page.waitForSelector("button.span");
  await page.locator("button.span").first().click();
  const text = await page.locator(".details").first().innerText();
  for (const part of expect.hostile) if (!text.includes(part)) throw new Error(`${part} is not in ${text}`);
  if (/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/.test(text)) throw new Error("a control character came through");
  same(await page.locator("main script, main img[src='x']").count(), 0, "elements made from values");
  same(await page.evaluate(() => globalThis.hacked), undefined, "script that ran");
});

await check("the waterfall shows the request across processes", async () => {
  await show(`/traces?service=${expect.back}`);
  await page.locator("table tbody a").first().click();
  await page.waitForSelector("button.span");
  const spans = await page.locator("button.span").evaluateAll((list) => list.map((span) => [span.querySelector("b").innerText, span.querySelector(".tag").innerText]));
  same(spans, [[expect.front, "server"], [expect.front, "client"], [expect.back, "server"]], "spans");
  const id = page.url().split("/").at(-1);
  const answer = await api(`traces/${id}`);
  same(answer.spans.map((span) => span.depth), [0, 1, 2], "depth");
  await page.locator("button.span").nth(2).focus();
  await page.keyboard.press("Enter");
  same(await page.locator("button.span").nth(2).getAttribute("aria-expanded"), "true", "opened by a key");
  const shown = await page.locator(".details").innerText();
  for (const [name, value] of Object.entries(answer.spans[2].attributes)) {
    if (!shown.includes(name) || !shown.includes(String(value))) throw new Error(`${name} = ${value} is not shown`);
  }
});

await check("failed traces alone are shown when asked for", async () => {
  await show("/traces");
  await page.getByLabel("failed only").check();
  await page.waitForURL(/status=error/);
  await page.waitForFunction((wanted) => document.querySelectorAll("table tbody tr").length === wanted, expect.errors);
});

await check("the agent's page shows its counters", async () => {
  await show("/agent");
  const answer = await api("status");
  const shown = await page.locator("main").innerText();
  for (const part of [answer.backend, String(answer.pid), "Nothing was dropped."]) if (!shown.includes(part)) throw new Error(`${part} is not in ${shown}`);
  same(answer.store.spans, expect.spans, "spans in the store");
});

await check("every view has an address that opens it again", async () => {
  for (const path of ["/", `/services/${expect.front}`, "/operations?kind=client", "/traces?sort=slowest&status=error", "/agent"]) {
    await show(path);
    const heading = await page.locator("main h1").innerText();
    await page.reload();
    await page.waitForSelector("main h1");
    same(await page.locator("main h1").innerText(), heading, path);
  }
  await show("/");
  for (const [key, path] of [["2", "/operations"], ["3", "/traces"], ["4", "/agent"], ["1", "/"]]) {
    await page.keyboard.press(key);
    await page.waitForURL((url) => url.pathname === path);
  }
  await page.goBack();
  await page.waitForURL((url) => url.pathname === "/agent");
});

for (const scheme of ["light", "dark"]) {
  await check(`axe finds nothing serious, ${scheme}`, async () => {
    const other = await open({ colorScheme: scheme });
    const views = ["/", `/services/${expect.front}`, "/operations", "/traces", "/agent"];
    await other.goto(`${base}/traces?service=${expect.back}`);
    views.push(await other.locator("table tbody a").first().getAttribute("href"));
    const found = [];
    for (const view of views) {
      await other.goto(base + view);
      await other.waitForSelector("main h1");
      if (view.startsWith("/traces/")) await other.locator("button.span").first().click();
      await other.keyboard.press("p");
      await other.evaluate(axe);
      const result = await other.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      for (const violation of result.violations) {
        if (["serious", "critical"].includes(violation.impact)) found.push(`${view} ${violation.id}: ${violation.nodes[0].html.slice(0, 120)} ${violation.nodes[0].any[0]?.message ?? ""}`);
      }
    }
    await other.context().close();
    if (found.length) throw new Error(found.join(" | "));
  });
}

await check("nothing sticks out of a narrow screen", async () => {
  const narrow = await open({ viewport: { width: 360, height: 740 } });
  for (const view of ["/", `/services/${expect.front}`, "/operations", "/traces", "/agent"]) {
    await narrow.goto(base + view);
    await narrow.waitForSelector("main h1");
    const wide = await narrow.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 1) throw new Error(`${view} is ${wide} px too wide`);
  }
  await narrow.context().close();
});

await check("figures are live, and stand still while paused", async () => {
  await show("/?window=3600");
  await page.waitForSelector(".kpi small");
  const count = async () => Number((await page.locator(".kpi small").nth(1).innerText()).split(" of ")[1]);
  const before = await count();
  await fetch(`${expect.address}/users/1`);
  await page.waitForFunction((old) => Number(document.querySelectorAll(".kpi small")[1].innerText.split(" of ")[1]) === old + 1, before);
  await page.keyboard.press("p");
  same(await page.locator("#pause").getAttribute("aria-pressed"), "true", "paused");
  await fetch(`${expect.address}/users/2`);
  await page.waitForFunction(async (wanted) => (await (await fetch("/api/v1/overview?window=3600")).json()).total.count === wanted, before + 2);
  same(await count(), before + 1, "count while paused");
  await page.keyboard.press("p");
  await page.waitForFunction((wanted) => Number(document.querySelectorAll(".kpi small")[1].innerText.split(" of ")[1]) === wanted, before + 2);
});

await check("without the token there is nothing to see", async () => {
  const context = await browser.newContext();
  const stranger = await context.newPage();
  const answer = await stranger.goto(`${base}/`);
  same(answer.status(), 401, "status");
  await context.close();
});

await check("nothing was asked of anybody else, and no script complained", async () => same(strange, [], "what happened"));

await browser.close();
