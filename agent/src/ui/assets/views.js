// The views but for the waterfall: overview, a service, operations, trace search, the agent. Each has `load`, which
// asks for what it needs, and `draw`, which makes the elements.

import { api, bytes, chip, clock, duration, empty, h, href, number, panel, percent, rate, redColumns, serviceHref, table } from "./base.js";
import { heatChart, latencyChart, rateChart, spark } from "./charts.js";
import { serviceMap } from "./map.js";

function kpis(red) {
  const kpi = (name, value, unit, bad) => h("div", { class: bad ? "kpi bad" : "kpi" }, h("dt", {}, name), h("dd", {}, value, unit && h("small", {}, unit)));
  const split = (ns) => duration(ns).split(" ");
  return h("dl", { class: "kpis", style: { margin: 0 } },
    kpi("Requests", number(red.rate), "/s"),
    kpi("Failed", percent(red.error_share), red.errors ? `${number(red.errors)} of ${number(red.count)}` : "", red.errors > 0),
    kpi("Median", ...split(red.p50_ns)), kpi("95th percentile", ...split(red.p95_ns)), kpi("99th percentile", ...split(red.p99_ns)));
}

function sparkColumn() {
  return { key: "spark", title: "Trend", fixed: true, cell: (row) => spark(row.spark, `trend of ${row.service ?? ""} ${row.name ?? ""}`) };
}

function since(window_) {
  return `since ${clock(window_.from_unix_us)}`;
}

export const overview = {
  title: () => "Overview",
  load: (context) => api("overview", { window: context.window }),
  draw(data, context) {
    if (!data.services.length) return [empty("No request has been seen yet. They show up here as soon as a watched process answers or makes one.")];
    const columns = [
      { key: "service", title: "Service", class: "name", cell: (row) => [chip(row.service), h("a", { href: serviceHref(row.service) }, row.service), row.role === "client" ? h("span", { class: "sub" }, "only asks") : row.language && h("span", { class: "sub" }, row.language, row.source === "otlp" ? ", tells itself" : "")] },
      ...redColumns(), sparkColumn(),
    ];
    return [
      h("div", { class: "head" }, h("h1", {}, "What the services of this machine do"), h("small", {}, since(data.window))),
      kpis(data.total),
      panel("Service map", "rate and failures on the edges, as the caller saw them", serviceMap(data, context.width - 34)),
      panel("Services", `${data.services.length}`, table("Services", columns, data.services, context.sorting("services", "rate"), context.again)),
    ];
  },
};

export const operations = {
  title: () => "Operations",
  load: (context) => api("operations", { window: context.window, service: context.query.get("service"), kind: context.query.get("kind") }),
  draw(data, context) {
    const kind = context.query.get("kind") ?? "", wanted = (context.query.get("q") ?? "").toLowerCase();
    const rows = data.operations.filter((row) => `${row.service} ${row.name}`.toLowerCase().includes(wanted));
    const choose = h("select", { name: "kind", "data-focus": "kind", onchange: (event) => context.go(href("/operations", { service: context.query.get("service"), q: context.query.get("q"), kind: event.target.value })) },
      [["", "all kinds"], ["server", "server"], ["client", "client"], ["producer", "producer"], ["consumer", "consumer"]].map(([value, text]) => h("option", { value, selected: value === kind }, text)));
    const filter = h("input", { type: "search", value: context.query.get("q") ?? "", placeholder: "service or route", "data-focus": "filter", onchange: (event) => context.go(href("/operations", { service: context.query.get("service"), kind, q: event.target.value })) });
    return [
      h("div", { class: "head" }, h("h1", {}, "Operations"), h("small", {}, since(data.window))),
      h("div", { class: "filters" }, h("label", {}, "Kind", choose), h("label", { class: "wide" }, "Contains", filter)),
      h("section", { class: "panel", "aria-label": "Operations" }, rows.length ? table("Operations", operationColumns(true), rows, context.sorting("operations", "rate"), context.again) : empty("Nothing in this window.")),
    ];
  },
};

function operationColumns(withService) {
  return [
    { key: "name", title: "Operation", class: "name", cell: (row) => [h("a", { href: href("/traces", { service: row.service, kind: row.kind, name: row.name }) }, row.name), h("span", { class: "sub" }, row.kind)] },
    ...(withService ? [{ key: "service", title: "Service", cell: (row) => [chip(row.service), h("a", { href: serviceHref(row.service) }, row.service)] }] : []),
    ...redColumns(), sparkColumn(),
  ];
}

export const service = {
  title: (context) => context.name,
  load: async (context) => {
    const subject = { window: context.window, service: context.name, name: context.query.get("name"), kind: context.query.get("kind") };
    const [series, heat, list, whole, slow, failed] = await Promise.all([
      api("series", subject), api("heatmap", subject), api("operations", { window: context.window, service: context.name }),
      api("overview", { window: context.window }),
      api("traces", { service: context.name, sort: "slowest", limit: 6 }), api("traces", { service: context.name, status: "error", limit: 6 }),
    ]);
    return { series, heat, operations: list.operations, overview: whole, slow, failed };
  },
  draw(data, context) {
    const about = data.overview.services.find((row) => row.service === context.name);
    const named = context.query.get("name");
    if (!data.series.total.count) return [h("h1", {}, context.name), empty("No request in this window.")];
    const half = context.width > 940 ? (context.width - 18) / 2 - 34 : context.width - 34;
    const open = (cell) => context.go(href("/traces", { service: context.name, name: named, kind: context.query.get("kind") || (about?.role === "client" ? "client" : "server"), ...cell }));
    const edges = (rows, other, text) => (rows.length ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": text }, h("table", {}, h("caption", { class: "hidden" }, text),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Service"), ["Rate", "Errors", "p95"].map((title) => h("th", { scope: "col", class: "n" }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("td", { class: "name" }, other(row)), h("td", { class: "n" }, rate(row.rate)), h("td", { class: row.errors ? "n bad" : "n" }, percent(row.error_share)), h("td", { class: "n" }, duration(row.p95_ns))))))) : empty("none seen"));
    const callers = data.overview.edges.filter((edge) => edge.to_seen && edge.to === context.name);
    const callees = data.overview.edges.filter((edge) => edge.from === context.name);
    const link = (name, seen) => (seen ? h("a", { href: serviceHref(name) }, name) : name);
    return [
      h("div", { class: "head" }, h("h1", {}, chip(context.name), context.name), named && h("span", {}, named, " ", h("a", { href: serviceHref(context.name) }, "all operations")),
        about?.language && h("span", { class: "tag" }, about.language), about?.role === "client" && h("span", { class: "tag" }, "only asks"), h("small", {}, since(data.series.window))),
      kpis(data.series.total),
      h("div", { class: "two" },
        panel("Requests per second", `a bar is ${data.series.step_s} s`, rateChart(data.series, half)),
        panel("Latency", "percentiles", latencyChart(data.series, half))),
      panel("Latency heat map", "darker: more requests; a cell opens its traces", heatChart(data.heat, context.width - 34, open, context.cursor)),
      panel("Operations", `${data.operations.length}`, table("Operations", operationColumns(false), data.operations, context.sorting("service", "rate"), context.again)),
      h("div", { class: "two" },
        panel("Asked by", "", edges(callers, (row) => (row.from === null ? "outside" : link(row.from, true)), "Callers")),
        panel("Asks", "", edges(callees, (row) => link(row.to, row.to_seen), "Callees"))),
      h("div", { class: "two" },
        panel("Slowest traces kept", h("a", { href: href("/traces", { service: context.name, sort: "slowest" }) }, "more"), traceTable(data.slow, "Slowest traces")),
        panel("Failed traces", h("a", { href: href("/traces", { service: context.name, status: "error" }) }, "more"), traceTable(data.failed, "Failed traces"))),
    ];
  },
};

function traceTable(found, name) {
  if (!found.traces.length) return empty("none kept");
  const length = (row) => row.match_ns ?? row.duration_ns;
  const longest = Math.max(...found.traces.map(length));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, h("table", {}, h("caption", { class: "hidden" }, name),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Trace"), h("th", { scope: "col", class: "n" }, "Duration"), h("th", { scope: "col", class: "n" }, "Spans"), h("th", { scope: "col" }, "Begin"))),
    h("tbody", {}, found.traces.map((row) => h("tr", {},
      h("td", { class: "name" }, h("a", { href: href(`/traces/${row.trace_id}`) }, `${row.service} ${row.name}`), row.kind !== "server" && [" ", h("span", { class: "tag" }, row.kind)],
        h("span", { class: "sub" }, row.services.map((service_, index) => [index ? " " : "", chip(service_), service_]), row.failed && [" ", h("span", { class: "tag bad" }, "failed")], row.slow && [" ", h("span", { class: "tag warn" }, "slow")])),
      h("td", { class: "n" }, duration(length(row)), h("span", { class: row.failed ? "durbar bad" : "durbar", style: { width: `${((length(row) / longest) * 100).toFixed(1)}%` } })),
      h("td", { class: "n" }, row.spans),
      h("td", { class: "mono" }, clock(row.start_unix_us, true)))))));
}

const FIELDS = ["q", "service", "kind", "name", "status", "sort", "min_ns", "max_ns", "from", "to"];

export const traces = {
  title: () => "Traces",
  load: async (context) => {
    const asked = Object.fromEntries(FIELDS.map((name) => [name, context.query.get(name)]));
    const [found, whole] = await Promise.all([api("traces", { ...asked, limit: 100 }), api("overview", { window: 3600 })]);
    return { found, services: whole.services.map((row) => row.service).sort() };
  },
  draw(data, context) {
    const get = (name) => context.query.get(name) ?? "";
    const now = () => Object.fromEntries(FIELDS.map((name) => [name, get(name)]));
    const set = (changes) => context.go(href("/traces", { ...now(), ...changes }));
    const services = data.services.includes(get("service")) || !get("service") ? data.services : [get("service"), ...data.services];
    const ms = get("min_ns") ? String(Number(get("min_ns")) / 1e6) : "";
    const form = h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); set({ q: event.target.elements.q.value }); } },
      h("label", { class: "wide" }, "Search", h("input", { id: "search", name: "q", type: "search", value: get("q"), maxlength: 500, placeholder: "words, an attribute such as 500 or /users, a trace id", "data-focus": "search" })),
      h("label", {}, "Service", h("select", { "data-focus": "service", onchange: (event) => set({ service: event.target.value, name: "", kind: "" }) }, h("option", { value: "" }, "any"), services.map((name) => h("option", { value: name, selected: name === get("service") }, name)))),
      h("label", {}, "At least (ms)", h("input", { type: "number", min: 0, step: "any", value: ms, "data-focus": "min", style: { width: "7rem" }, onchange: (event) => set({ min_ns: event.target.value ? Math.round(Number(event.target.value) * 1e6) : "" }) })),
      h("label", {}, "Order", h("select", { "data-focus": "sort", onchange: (event) => set({ sort: event.target.value }) }, [["", "newest"], ["slowest", "slowest"]].map(([value, text]) => h("option", { value, selected: value === get("sort") }, text)))),
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: get("status") === "error", "data-focus": "status", onchange: (event) => set({ status: event.target.checked ? "error" : "" }) }), "failed only"),
      h("button", { type: "submit" }, "Search"));
    const limits = [
      get("name") && ["operation", get("name"), { name: "", kind: "" }],
      get("from") && ["ended", `${clock(Number(get("from")))} – ${clock(Number(get("to")))}`, { from: "", to: "" }],
      get("max_ns") && ["duration", `${duration(Number(get("min_ns")))} – ${duration(Number(get("max_ns")))}`, { min_ns: "", max_ns: "" }],
    ].filter(Boolean);
    return [
      h("div", { class: "head" }, h("h1", {}, "Traces"), h("small", {}, `${number(data.found.matched)} of ${number(data.found.held)} kept match`)),
      form,
      limits.length > 0 && h("p", { style: { margin: 0 } }, limits.map(([what, text, change]) => [h("span", {}, `${what}: `, h("b", {}, text)), " ", h("button", { type: "button", "aria-label": `any ${what}`, onclick: () => set(change) }, "×"), "  "])),
      h("section", { class: "panel", "aria-label": "Traces found" }, data.found.traces.length ? traceTable(data.found, "Traces found") : empty("No trace that is kept matches. Errors, slow and rare requests are kept longest.")),
    ];
  },
};

export const agent = {
  title: () => "Agent",
  load: () => api("status"),
  draw(data) {
    const kv = (pairs) => h("dl", { class: "kv" }, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    const store = data.store;
    const lost = data.drops.reduce((sum, drop) => sum + drop.count, 0);
    const used = store.memory_bytes / store.budget_bytes;
    return [
      h("div", { class: "head" }, h("h1", {}, "Agent"), h("small", {}, `skep ${data.version}, process ${data.pid}`)),
      h("dl", { class: "kpis", style: { margin: 0 } },
        [["CPU", percent(data.usage.cpu), "of one core"], ["Resident", ...bytes(data.usage.resident_bytes).split(" ")], ["Kernel maps", ...bytes(data.map_memory_bytes).split(" ")], ["Processes", String(data.processes), "watched"], ["Dropped", number(lost), "all reasons"]]
          .map(([name, value, unit]) => h("div", { class: name === "Dropped" && lost ? "kpi bad" : "kpi" }, h("dt", {}, name), h("dd", {}, value, h("small", {}, unit))))),
      h("div", { class: "two" },
        panel("Capture", `back end ${data.backend}`, kv([
          ["running for", `${Math.round(data.uptime_s)} s`], ["records", number(data.events)], ["connections", number(data.connections)],
          ["requests", number(data.requests)], ["spans", number(data.spans)], ["bytes seen", bytes(data.bytes_seen)], ["bytes copied", bytes(data.bytes_copied)],
          ["turns numbered", number(data.turns)], ["turns lost in a full buffer", number(data.turns_lost)]])),
        panel("Store", `${bytes(store.memory_bytes)} of ${bytes(store.budget_bytes)}, ${percent(used)}`, kv([
          ["keeps since", clock(data.store_since_unix_us)], ["spans taken", number(store.spans)], ["traces kept", number(store.traces_held)], ["their spans", number(store.spans_held)],
          ["traces that made room", number(store.traces_evicted)], ["spans after their trace had gone", number(store.spans_late)], ["spans over the cap of a trace", number(store.spans_over_cap)],
          ["spans without room in the queue", number(store.spans_queue_full)], ["requests in (other) series", number(store.series_overflow)], ["names as (other)", number(store.names_overflow)],
          ["nameless resources", number(store.resources_overflow)], ["texts cut", number(store.texts_cut)], ["slots dropped early", number(store.slots_dropped)]]))),
      panel("Dropped, by stage and reason", "", data.drops.length
        ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Drops" }, h("table", {}, h("caption", { class: "hidden" }, "Drops"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Stage"), h("th", { scope: "col" }, "Reason"), h("th", { scope: "col", class: "n" }, "Count"))),
          h("tbody", {}, data.drops.map((drop) => h("tr", {}, h("td", {}, drop.stage), h("td", {}, drop.reason.replaceAll("_", " ")), h("td", { class: "n" }, number(drop.count)))))))
        : empty("Nothing was dropped.")),
    ];
  },
};
