// The frame: which view the address names, when it is asked for anew, keys. Live by server-sent events: the server
// sends when this page has taken the last event, and a view asks for more only when its last answer has come.

import { empty, h } from "./base.js";
import { agent, operations, overview, service, traces } from "./views.js";
import { trace } from "./trace.js";

const VIEWS = [
  [/^\/$/, "map", overview],
  [/^\/services\/(.+)$/, "map", service],
  [/^\/operations$/, "operations", operations],
  [/^\/traces$/, "traces", traces],
  [/^\/traces\/([0-9a-fA-F]{32})$/, "traces", trace],
  [/^\/agent$/, "agent", agent],
];
const WINDOWS = ["60", "300", "900", "3600"];

const main = document.getElementById("view");
const notice = document.getElementById("notice");
const pause = document.getElementById("pause");
const picker = document.getElementById("window");
const keys = document.getElementById("keys");

let current, data, asking, paused = false, source, drawnWidth = 0;
const orders = new Map();

function locate() {
  const path = location.pathname;
  for (const [pattern, group, view] of VIEWS) {
    const match = pattern.exec(path);
    if (match) return { view, group, name: match[1] && decodeURIComponent(match[1]) };
  }
  return { view: overview, group: "map" };
}

function windowSeconds() {
  const asked = new URLSearchParams(location.search).get("window");
  return WINDOWS.includes(asked) ? asked : "300";
}

function go(address, replace) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  enter();
}

/** The address has changed: another view, or the same one with other questions. */
function enter() {
  const { view, group, name } = locate();
  const moved = !current || current.view !== view || current.name !== name;
  current = {
    view, name, query: new URLSearchParams(location.search), window: windowSeconds(), cursor: {},
    sorting(table, column) {
      const key = `${location.pathname} ${table}`;
      if (!orders.has(key)) orders.set(key, { sort: column, down: true });
      return orders.get(key);
    },
    again: (focus) => draw(focus), go,
    get width() { return Math.max(300, main.clientWidth - parseFloat(getComputedStyle(main).paddingLeft) * 2); },
  };
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === group) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    const base = new URL(link.href).pathname;
    link.href = windowSeconds() === "300" ? base : `${base}?window=${windowSeconds()}`;
  }
  picker.value = current.window;
  document.title = `${view.title(current)} – Skep`;
  if (moved) {
    data = undefined;
    main.replaceChildren(empty("Loading …"));
    scrollTo(0, 0);
  }
  asking?.abort();
  asking = undefined;
  refresh(moved);
  listen();
}

async function refresh(moved) {
  if (asking) return;
  const mine = new AbortController();
  asking = mine;
  const context = current;
  try {
    const answer = await context.view.load(context, mine.signal);
    if (context !== current) return;
    data = answer;
    tell("");
    draw();
    if (moved) main.focus({ preventScroll: true });
  } catch (error) {
    if (context !== current || error.name === "AbortError") return;
    if (error.status === 404) main.replaceChildren(h("h1", {}, "Not here"), empty(error.message));
    else tell(error.status ? error.message : "Skep does not answer: it may have ended. This page goes on trying.");
  } finally {
    if (asking === mine) asking = undefined;
  }
}

function tell(text) {
  notice.textContent = text;
  notice.hidden = !text;
  pause.classList.toggle("lost", Boolean(text));
}

/** Makes the view's elements anew; what has the focus, is open or is being typed stays so. */
function draw(focus) {
  if (!data) return;
  const active = document.activeElement;
  const held = focus ?? active?.dataset?.focus;
  const typed = active?.matches?.("input") && main.contains(active) ? [active.value, active.selectionStart] : undefined;
  const open = new Set([...main.querySelectorAll("details[data-keep][open]")].map((element) => element.dataset.keep));
  const scrolled = [...main.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
  drawnWidth = main.clientWidth;
  main.replaceChildren(...current.view.draw(data, current).filter(Boolean));
  for (const element of main.querySelectorAll("details[data-keep]")) element.open = open.has(element.dataset.keep);
  main.querySelectorAll(".scroll").forEach((element, index) => { element.scrollLeft = scrolled[index] ?? 0; });
  if (held) {
    const element = main.querySelector(`[data-focus="${CSS.escape(held)}"]`);
    element?.focus({ preventScroll: true });
    if (typed && element?.matches("input") && !focus) {
      element.value = typed[0];
      if (typed[1] !== null) element.setSelectionRange(typed[1], typed[1]);
    }
  }
}

function listen() {
  const address = `/api/v1/live?window=${current.window}`;
  if (source?.address === address && source.events.readyState !== EventSource.CLOSED) return;
  source?.events.close();
  if (paused || document.hidden) { source = undefined; return; }
  const events = new EventSource(address);
  source = { address, events };
  events.addEventListener("overview", (event) => {
    if (paused || document.hidden) return;
    // Whoever is choosing from a list or looking at a tip is not disturbed.
    if (document.activeElement?.matches?.("select")) return;
    if (current.view === overview) {
      data = JSON.parse(event.data);
      tell("");
      draw();
    } else if (current.view !== trace) {
      refresh();
    }
  });
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(() => { if (source?.events === events) { source = undefined; refresh(); listen(); } }, 5000);
  });
}

function setPaused(value) {
  paused = value;
  pause.setAttribute("aria-pressed", String(paused));
  pause.querySelector(".text").textContent = paused ? "paused" : "live";
  if (!paused) refresh();
  listen();
}

function pick(seconds) {
  const query = new URLSearchParams(location.search);
  query.set("window", seconds);
  go(`${location.pathname}?${query}`, true);
}

pause.addEventListener("click", () => setPaused(!paused));
picker.addEventListener("change", () => pick(picker.value));
document.getElementById("help").addEventListener("click", () => keys.showModal());
addEventListener("popstate", enter);
addEventListener("resize", () => { if (main.clientWidth !== drawnWidth) draw(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); listen(); });

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const address = new URL(link.href.baseVal ?? link.href, location.href);
  if (address.origin !== location.origin || address.hash || (link.getAttribute("href") ?? "").startsWith("#")) return;
  event.preventDefault();
  go(address.pathname + address.search);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open || event.target.matches?.("input, select, textarea")) return;
  const links = document.querySelectorAll("nav a");
  if (event.key >= "1" && event.key <= "4") links[Number(event.key) - 1].click();
  else if (event.key === "p") setPaused(!paused);
  else if (event.key === "w") pick(WINDOWS[(WINDOWS.indexOf(windowSeconds()) + 1) % WINDOWS.length]);
  else if (event.key === "?") keys.showModal();
  else if (event.key === "/") {
    event.preventDefault();
    if (current.view !== traces) go("/traces");
    const wait = setInterval(() => { const field = document.getElementById("search"); if (field) { clearInterval(wait); field.focus(); } }, 30);
  }
});

enter();
