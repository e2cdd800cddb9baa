// One trace: the waterfall, with the attributes of the spans that are opened.

import { api, clock, colour, duration, h, href, panel, serviceHref } from "./base.js";

const opened = new Set();

export const trace = {
  title: (context) => `Trace ${context.name.slice(0, 8)}`,
  // A trace that is complete does not change; asking again shows late spans.
  load: (context) => api(`traces/${encodeURIComponent(context.name)}`),
  draw(data, context) {
    const total = Math.max(data.duration_ns, 1);
    const selected = context.query.get("span");
    if (selected) opened.add(selected);
    const services = [...new Set(data.spans.map((span) => span.service))];
    const say = (part) => (part === 0 ? "0" : duration(total * part));
    const copy = h("button", { type: "button", onclick: async (event) => {
      await navigator.clipboard?.writeText(data.trace_id).catch(() => {});
      event.target.textContent = "copied";
    } }, "copy id");
    return [
      h("div", { class: "head" }, h("h1", {}, data.spans[0] ? `${data.spans[0].service} ${data.spans[0].name}` : "Trace"), data.failed && h("span", { class: "tag bad" }, "failed"),
        h("small", {}, `${duration(data.duration_ns)}, ${data.spans.length} ${data.spans.length === 1 ? "span" : "spans"}, ${clock(data.start_unix_us, true)}`)),
      h("div", { class: "head" }, h("span", { class: "mono" }, data.trace_id), copy,
        services.map((name) => h("span", {}, h("span", { class: "chip", "aria-hidden": "true", style: { background: colour(name) } }), h("a", { href: serviceHref(name) }, name)))),
      panel("Waterfall", "a span opens its attributes",
        data.spans_dropped > 0 && h("p", { class: "bad" }, `${data.spans_dropped} more spans were not kept: a trace keeps at most 1000.`),
        h("div", { class: "ruler", "aria-hidden": "true" }, h("span", {}), h("div", {}, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, say(part))))),
        h("ol", { class: "water" }, data.spans.map((span) => row(span, total, context)))),
    ];
  },
};

function row(span, total, context) {
  const open = opened.has(span.span_id);
  const left = (span.offset_ns / total) * 100, width = (span.duration_ns / total) * 100;
  const failed = span.status === "error";
  const orphan = span.parent_span_id && !span.parent_seen;
  const id = `d-${span.span_id}`;
  const time = { left: "auto", right: "auto" };
  // The time beside the bar, on the side that has room.
  if (left + width < 78) time.left = `${left + width}%`;
  else if (left > 22) time.right = `${100 - left}%`;
  else time.left = `${left}%`;
  const button = h("button", { type: "button", class: "span", "aria-expanded": String(open), "aria-controls": id, "data-focus": span.span_id, onclick: () => {
    if (open) opened.delete(span.span_id);
    else opened.add(span.span_id);
    context.again(span.span_id);
  } },
  h("span", { class: "who", style: { "padding-left": `${Math.min(span.depth, 16) * 14}px` } },
    h("span", { class: "chip", "aria-hidden": "true", style: { background: colour(span.service) } }),
    h("b", {}, span.service), h("span", { class: "op", title: span.name }, span.name), h("span", { class: "tag" }, span.kind),
    failed && h("span", { class: "tag bad" }, "failed"), orphan && h("span", { class: "tag", title: "its parent is not kept or was not seen" }, "parent not seen")),
  h("span", { class: "track" },
    h("span", { class: "beam", style: { left: `${left.toFixed(2)}%`, width: `${width.toFixed(2)}%`, background: failed ? "var(--bad)" : colour(span.service) } }),
    h("span", { class: "time", style: time }, duration(span.duration_ns))));
  return h("li", {}, button, h("div", { id, hidden: !open, class: open ? "details" : undefined }, open && details(span)));
}

function details(span) {
  const show = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
  const kv = (map) => h("dl", { class: "kv" }, Object.entries(map).map(([name, value]) => [h("dt", {}, name), h("dd", {}, show(value))]));
  return [
    h("div", {}, h("h3", {}, "Attributes"), kv(span.attributes)),
    h("div", {}, h("h3", {}, "Span"), kv({
      id: span.span_id, ...(span.parent_span_id ? { parent: span.parent_span_id } : {}), kind: span.kind, status: span.status, ...(span.message ? { message: span.message } : {}),
      begin: `+ ${span.offset_ns ? duration(span.offset_ns) : "0"}`, duration: duration(span.duration_ns), "told by": span.source === "otlp" ? "the service itself (OTLP)" : "skep, from outside",
    })),
    span.links.length > 0 && h("div", {}, h("h3", {}, "Links"), span.links.map(([trace_, id]) => h("p", { class: "mono" }, h("a", { href: href(`/traces/${trace_}`, { span: id }) }, trace_)))),
    h("div", {}, h("h3", {}, "Process"), kv(span.resource)),
  ];
}
