// The service map: who calls whom, left to right, with rate and errors on the edges.

import { duration, h, percent, rate, s, serviceHref } from "./base.js";

const NODE_W = 168, NODE_H = 46, GAP_Y = 22, PAD = 14;

const OUTSIDE = "\u0000outside";

/** Columns by the longest way from a beginning; an edge that closes a ring does not count. */
function layers(nodes, edges) {
  const next = new Map(nodes.map((node) => [node, []]));
  for (const edge of edges) if (edge.from !== edge.to) next.get(edge.from).push(edge.to);
  const called = new Set(edges.filter((edge) => edge.from !== edge.to).map((edge) => edge.to));
  const state = new Map(), order = [], back = new Set();
  const visit = (node) => {
    state.set(node, "open");
    for (const to of next.get(node)) {
      if (state.get(to) === "open") back.add(`${node}\u0000${to}`);
      else if (!state.has(to)) visit(to);
    }
    state.set(node, "done");
    order.push(node);
  };
  for (const node of [...nodes.filter((name) => !called.has(name)), ...nodes]) if (!state.has(node)) visit(node);
  const depth = new Map(nodes.map((node) => [node, 0]));
  for (const node of order.reverse()) {
    for (const to of next.get(node)) {
      if (!back.has(`${node}\u0000${to}`)) depth.set(to, Math.max(depth.get(to), depth.get(node) + 1));
    }
  }
  return depth;
}

function cut(text, length) {
  const chars = [...text];
  return chars.length > length ? `${chars.slice(0, length - 1).join("")}…` : text;
}

/** A line through points, level at each of them. */
function through(points) {
  return points.slice(1).reduce((path, [x, y], index) => {
    const [px, py] = points[index];
    const bend = Math.max(12, (x - px) / 2);
    return `${path}C${px + bend},${py} ${x - bend},${y} ${x},${y}`;
  }, `M${points[0]}`);
}

export function serviceMap(overview, width) {
  const edges = overview.edges.map((edge) => ({ ...edge, from: edge.from ?? OUTSIDE }));
  const about = new Map(overview.services.map((service) => [service.service, service]));
  const names = [...new Set([...edges.flatMap((edge) => [edge.from, edge.to]), ...about.keys()])].slice(0, 60);
  const known = new Set(names);
  const drawn = edges.filter((edge) => known.has(edge.from) && known.has(edge.to));
  const depth = layers(names, drawn);
  const columns = [];
  for (const name of names) (columns[depth.get(name)] ??= []).push(name);
  // An edge that passes columns gets a place in each of them, so that it runs between the boxes and not behind them.
  const before = new Map(names.map((name) => [name, []]));
  drawn.forEach((edge, index) => {
    edge.way = [];
    let last = edge.from;
    for (let column = depth.get(edge.from) + 1; column < depth.get(edge.to); column += 1) {
      const point = `\u0000${index} ${column}`;
      columns[column].push(point);
      before.set(point, [last]);
      edge.way.push(point);
      last = point;
    }
    if (depth.get(edge.to) > depth.get(edge.from)) before.get(edge.to).push(last);
  });
  const filled = columns.filter(Boolean);
  // Each node near the middle of those that call it.
  const place = new Map();
  filled.forEach((column, index) => {
    const weight = (name) => {
      const rows = before.get(name).filter((from) => place.has(from)).map((from) => place.get(from).row);
      return rows.length ? rows.reduce((sum, row) => sum + row, 0) / rows.length : 1e3;
    };
    const order = index === 0 ? column : [...column].sort((a, b) => weight(a) - weight(b) || a.localeCompare(b));
    order.forEach((name, row) => place.set(name, { column: index, row: row - (order.length - 1) / 2 }));
  });
  const tallest = Math.max(...filled.map((column) => column.length));
  const height = tallest * (NODE_H + GAP_Y) - GAP_Y + 2 * PAD + 26;
  const needed = filled.length * NODE_W + (filled.length - 1) * 96 + 2 * PAD;
  const full = Math.max(width, needed, 560);
  const gap = filled.length > 1 ? Math.min((full - 2 * PAD - filled.length * NODE_W) / (filled.length - 1), 260) : 0;
  const left = (full - (filled.length * NODE_W + (filled.length - 1) * gap)) / 2;
  const at = (name) => {
    const { column, row } = place.get(name);
    return { x: left + column * (NODE_W + gap), y: height / 2 + row * (NODE_H + GAP_Y) - NODE_H / 2 };
  };
  const most = Math.max(...drawn.map((edge) => edge.rate), 1e-9);
  const lines = [], labels = [];
  drawn.forEach((edge) => {
    const from = at(edge.from), to = at(edge.to);
    const [x1, y1] = [from.x + NODE_W, from.y + NODE_H / 2];
    const [x2, y2] = [to.x - 3, to.y + NODE_H / 2];
    const forward = to.x > from.x;
    const bend = 60;
    const loop = edge.from === edge.to;
    const down = Math.max(from.y, to.y) + NODE_H + 16;
    const d = forward ? through([[x1, y1], ...edge.way.flatMap((point) => { const { x, y } = at(point); return [[x, y + NODE_H / 2], [x + NODE_W, y + NODE_H / 2]]; }), [x2, y2]])
      : loop ? `M${x1},${y1}C${x1 + 34},${y1} ${x1 + 34},${down} ${x1 - NODE_W / 2},${down}S${x2 - 30},${y2 + 8} ${x2},${y2}`
        : `M${x1},${y1}C${x1 + bend},${y1} ${x1 + bend},${down} ${(x1 + x2) / 2},${down}S${x2 - bend},${y2} ${x2},${y2}`;
    const share = edge.error_share;
    const line = s("path", { class: share > 0.001 ? "edge bad" : "edge", d, "stroke-width": (1.2 + 2.6 * Math.sqrt(edge.rate / most)).toFixed(1), "marker-end": "url(#arrow)" },
      s("title", {}, `${edge.from === OUTSIDE ? "outside" : edge.from} → ${edge.to}: ${rate(edge.rate)}, ${percent(share)} failed, p95 ${duration(edge.p95_ns)}`));
    lines.push(line);
    // On the last stretch, before the arrow, where edges to different nodes have parted.
    const tail = edge.way.length ? at(edge.way.at(-1)) : undefined;
    const [sx, sy] = tail ? [tail.x + NODE_W, tail.y + NODE_H / 2] : [x1, y1];
    const part = 0.6;
    const [lx, ly] = forward ? [sx + (x2 - sx) * part, sy + (y2 - sy) * (part * part * (3 - 2 * part)) - 7] : [(x1 + x2) / 2, down - 4];
    labels.push(s("text", { class: share > 0.001 ? "label halo bad" : "label halo", x: lx, y: ly, "text-anchor": "middle" }, share > 0.001 ? `${rate(edge.rate)} · ${percent(share)}` : rate(edge.rate)));
  });
  const boxes = names.map((name) => {
    const { x, y } = at(name);
    const service = about.get(name);
    const kind = service ? "seen" : "ext";
    const failing = service && service.error_share > 0.01 ? " failing" : "";
    const title = name === OUTSIDE ? "outside" : name;
    const failures = service && service.error_share > 0.001 ? `${percent(service.error_share)} failed` : service && `p95 ${duration(service.p95_ns)}`;
    const sub = service ? `${service.role === "client" ? "asks " : ""}${rate(service.rate)} · ${failures}` : name === OUTSIDE ? "callers not seen" : "not seen inside";
    const group = s("g", { class: `node ${kind}${failing}`, transform: `translate(${x.toFixed(1)},${y.toFixed(1)})` },
      s("rect", { width: NODE_W, height: NODE_H, rx: 9 }),
      s("text", { class: "t", x: 12, y: 19 }, cut(title, 21)),
      s("text", { class: "sub", x: 12, y: 36 }, sub),
      !service && s("title", {}, title));
    if (!service) return group;
    return s("a", { href: serviceHref(name) }, group);
  });
  const arrow = s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" }, s("path", { d: "M0,0L8,4L0,8Z" }));
  const svg = s("svg", { viewBox: `0 0 ${full} ${height}`, height, role: "group", "aria-label": "Service map" }, s("defs", {}, arrow), lines, labels, boxes);
  svg.style.setProperty("min-width", `${Math.min(needed, 1200)}px`);
  const list = edges.map((edge) => h("tr", {},
    h("td", {}, edge.from === OUTSIDE ? "outside" : edge.from), h("td", {}, edge.to),
    h("td", { class: "n" }, rate(edge.rate)), h("td", { class: edge.errors ? "n bad" : "n" }, percent(edge.error_share)), h("td", { class: "n" }, duration(edge.p95_ns))));
  return h("div", {},
    h("div", { class: "scroll map", tabindex: "0", role: "region", "aria-label": "Service map, scrolls sideways" }, svg),
    h("details", { "data-keep": "edges" }, h("summary", {}, `As a table (${edges.length} ${edges.length === 1 ? "edge" : "edges"})`),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Edges" },
        h("table", {}, h("caption", { class: "hidden" }, "Edges"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "From"), h("th", { scope: "col" }, "To"), h("th", { scope: "col", class: "n" }, "Rate"), h("th", { scope: "col", class: "n" }, "Errors"), h("th", { scope: "col", class: "n" }, "p95"))), h("tbody", {}, list)))));
}

