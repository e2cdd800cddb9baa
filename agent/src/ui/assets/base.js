// What all views share: making elements, saying numbers, asking the API, addresses. Text is always text: nothing from
// the API ever becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children. `on…` is a listener, everything else an attribute. */
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false) element.append(child);
  }
  return element;
}

/** Three figures. */
export function number(value) {
  if (value === 0) return "0";
  if (Number.isInteger(value) && value < 1e4) return String(value);
  if (value >= 1e6) return `${three(value / 1e6)}M`;
  if (value >= 1e4) return `${three(value / 1e3)}k`;
  return three(value);
}

function three(value) {
  if (value >= 99.95) return Math.round(value).toString();
  if (value >= 9.995) return value.toFixed(1);
  return value >= 0.995 ? value.toFixed(2) : value.toPrecision(2);
}

export function rate(value) {
  return `${number(value)}/s`;
}

export function duration(ns) {
  if (ns === 0) return "–";
  if (ns < 1e6) return `${three(ns / 1e3)} µs`;
  if (ns < 1e9) return `${three(ns / 1e6)} ms`;
  return `${three(ns / 1e9)} s`;
}

export function percent(share) {
  if (share === 0) return "0 %";
  return share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${three(count / 1024)} kB`;
  return `${three(count / 1024 / 1024)} MB`;
}

export function clock(us, fine) {
  const date = new Date(us / 1000);
  const two = (value) => String(value).padStart(2, "0");
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return fine ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

/** A colour for a name: always the same, readable on both backgrounds. */
export function colour(name) {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  return `hsl(${(hash * 47) % 360} 48% 52%)`;
}

/** The address of a view. What is empty is left out; the window comes along. */
export function href(path, query = {}) {
  const asked = new URLSearchParams();
  const window_ = new URLSearchParams(location.search).get("window");
  for (const [name, value] of Object.entries({ window: window_, ...query })) {
    if (value !== undefined && value !== null && value !== "" && value !== false) asked.set(name, value);
  }
  const text = asked.toString();
  return text ? `${path}?${text}` : path;
}

export function serviceHref(service) {
  return href(`/services/${encodeURIComponent(service)}`);
}

/** Asks the API. Throws an error that says what is wrong. */
export async function api(path, query = {}, signal) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") asked.set(name, value);
  }
  const response = await fetch(`/api/v1/${path}?${asked}`, { signal, headers: { accept: "application/json" } });
  const kind = response.headers.get("content-type") ?? "";
  const answer = kind.includes("json") ? await response.json() : { error: (await response.text()).trim() };
  if (!response.ok) throw Object.assign(new Error(answer.error ?? response.statusText), { status: response.status });
  return answer;
}

/** A panel with a heading. */
export function panel(title, note, ...children) {
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, title), note && h("span", { class: "muted" }, note)), ...children);
}

/** A table whose columns can be sorted. `columns`: { key, title, number, cell(row), sort(row) }. */
export function table(name, columns, rows, state, again) {
  const sorted = [...rows];
  const by = columns.find((column) => column.key === state.sort) ?? columns[0];
  if (state.sort) {
    const value = by.sort ?? ((row) => row[by.key]);
    sorted.sort((a, b) => {
      const [one, two] = [value(a), value(b)];
      const order = typeof one === "string" ? one.localeCompare(two) : one - two;
      return state.down ? -order : order;
    });
  }
  const heads = columns.map((column) => {
    const active = state.sort === column.key;
    const sort = active ? (state.down ? "descending" : "ascending") : undefined;
    if (column.fixed) return h("th", { scope: "col" }, column.title);
    const press = () => {
      state.down = active ? !state.down : Boolean(column.number);
      state.sort = column.key;
      again(`th-${column.key}`);
    };
    return h("th", { scope: "col", class: column.number && "n", "aria-sort": sort },
      h("button", { type: "button", onclick: press, "data-focus": `th-${column.key}` }, column.title));
  });
  const body = sorted.map((row) => h("tr", {}, columns.map((column) =>
    h("td", { class: column.number ? "n" : column.class }, column.cell(row)))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name },
    h("table", {}, h("caption", { class: "hidden" }, name), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body)));
}

/** The figures of a row, as columns. */
export function redColumns() {
  return [
    { key: "rate", title: "Rate", number: true, cell: (row) => rate(row.rate) },
    { key: "error_share", title: "Errors", number: true, cell: (row) => h("span", { class: row.errors ? "bad" : "zero" }, percent(row.error_share)) },
    { key: "p50_ns", title: "p50", number: true, cell: (row) => duration(row.p50_ns) },
    { key: "p95_ns", title: "p95", number: true, cell: (row) => duration(row.p95_ns) },
    { key: "p99_ns", title: "p99", number: true, cell: (row) => duration(row.p99_ns) },
  ];
}

export function chip(service) {
  return h("span", { class: "chip", "aria-hidden": "true", style: { background: colour(service) } });
}

export function empty(text) {
  return h("p", { class: "empty" }, text);
}
