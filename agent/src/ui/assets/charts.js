// Charts: spark lines, rate and latency over time, the heat map. Each says in words what it shows.

import { clock, duration, h, number, rate, s } from "./base.js";

const LEFT = 52, BOTTOM = 20, TOP = 8, RIGHT = 8;

export function spark(values, label) {
  const top = Math.max(...values, 1e-9);
  const x = (index) => (index / (values.length - 1)) * 100;
  const points = values.map((value, index) => `${x(index).toFixed(1)},${(24 - (value / top) * 22).toFixed(1)}`);
  return s("svg", { class: "spark", viewBox: "0 0 100 26", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("path", { class: "area", d: `M0,26L${points.join("L")}L100,26Z` }),
    s("path", { d: `M${points.join("L")}` }));
}

/** A round number above, and the steps to it. */
function scale(top, steps = 4) {
  const raw = Math.max(top, 1e-9) / steps;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) * power;
  return { top: step * steps, ticks: Array.from({ length: steps + 1 }, (_, index) => index * step) };
}

function frame(width, height, ticks, y, say, points, step) {
  const lines = ticks.map((tick) => [
    s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
    s("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, say(tick)),
  ]);
  const count = Math.max(2, Math.min(6, Math.floor(width / 110)));
  const inner = width - LEFT - RIGHT;
  const times = Array.from({ length: count }, (_, index) => {
    const part = index / (count - 1);
    const us = points[0] + part * (points.length * step * 1e6);
    return s("text", { x: LEFT + part * inner, y: height - 4, "text-anchor": index === 0 ? "start" : index === count - 1 ? "end" : "middle" }, clock(us));
  });
  return [lines, times];
}

function withTip(root, svg, count, width, lineFor) {
  const tip = h("div", { class: "tip", hidden: true });
  const cursor = s("line", { class: "cursor", y1: TOP, visibility: "hidden" });
  svg.append(cursor);
  root.append(tip);
  const inner = width - LEFT - RIGHT;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left - LEFT) / inner) * count);
    const off = at < 0 || at >= count;
    tip.hidden = off;
    cursor.setAttribute("visibility", off ? "hidden" : "visible");
    if (off) return;
    const x = LEFT + ((at + 0.5) / count) * inner;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("y2", svg.viewBox.baseVal.height - BOTTOM);
    tip.textContent = lineFor(at);
    tip.style.setProperty("left", x > width / 2 ? "auto" : `${x + 10}px`);
    tip.style.setProperty("right", x > width / 2 ? `${width - x + 10}px` : "auto");
    tip.style.setProperty("top", "10px");
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  });
}

/** Requests per second as bars, the failed ones at their foot. */
export function rateChart(series, width) {
  const height = 190, { points, step_s: step } = series;
  const { top, ticks } = scale(Math.max(...points.map((point) => point.rate)));
  const y = (value) => height - BOTTOM - (value / top) * (height - BOTTOM - TOP);
  const inner = (width - LEFT - RIGHT) / points.length;
  const bars = points.flatMap((point, index) => {
    const x = LEFT + index * inner;
    const failed = point.count ? (point.rate * point.errors) / point.count : 0;
    const bar = (kind, from, to) => to > from && s("rect", { class: kind, x: x + 0.5, width: Math.max(inner - 1, 1), y: y(to), height: Math.max(y(from) - y(to), 1) });
    return [bar("rate", failed, point.rate), bar("errors", 0, failed)];
  });
  const last = points.at(-2) ?? points.at(-1);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `Requests per second over time: ${rate(series.total.rate)} on average, ${rate(last.rate)} last, ${series.total.errors} of ${series.total.count} failed` },
    frame(width, height, ticks, y, number, points.map((point) => point.at_unix_us), step), bars);
  const root = h("div", { class: "chart" }, svg);
  withTip(root, svg, points.length, width, (at) => {
    const point = points[at];
    return `${clock(point.at_unix_us)}   ${rate(point.rate)}\n${point.count} requests, ${point.errors} failed`;
  });
  return h("div", {}, root, h("ul", { class: "legend" },
    h("li", {}, h("i", { class: "l-rate" }), "requests"), h("li", {}, h("i", { class: "l-errors" }), "of these failed")));
}

/** Percentiles over time. */
export function latencyChart(series, width) {
  const height = 190, { points, step_s: step } = series;
  const { top, ticks } = scale(Math.max(...points.map((point) => point.p99_ns)));
  const y = (value) => height - BOTTOM - (value / top) * (height - BOTTOM - TOP);
  const inner = (width - LEFT - RIGHT) / points.length;
  const lines = ["p99", "p95", "p50"].map((name) => {
    let path = "", drawn = false;
    points.forEach((point, index) => {
      if (point.count) path += `${drawn ? "L" : "M"}${(LEFT + (index + 0.5) * inner).toFixed(1)},${y(point[`${name}_ns`]).toFixed(1)}`;
      drawn = point.count > 0;
    });
    return s("path", { class: `line ${name}`, d: path });
  });
  const total = series.total;
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `Latency over time: median ${duration(total.p50_ns)}, 95th percentile ${duration(total.p95_ns)}, 99th ${duration(total.p99_ns)}` },
    frame(width, height, ticks, y, (ns) => (ns ? duration(ns) : "0"), points.map((point) => point.at_unix_us), step), lines);
  const root = h("div", { class: "chart" }, svg);
  withTip(root, svg, points.length, width, (at) => {
    const point = points[at];
    return point.count ? `${clock(point.at_unix_us)}\np50 ${duration(point.p50_ns)}\np95 ${duration(point.p95_ns)}\np99 ${duration(point.p99_ns)}` : `${clock(point.at_unix_us)}\nno requests`;
  });
  return h("div", {}, root, h("ul", { class: "legend" },
    ["p50", "p95", "p99"].map((name) => h("li", {}, h("i", { class: `l-${name}` }), `${name} ${duration(total[`${name}_ns`])}`))));
}

/** Latency against time; a cell opens its traces. */
export function heatChart(map, width, open, cursor) {
  const rows = map.bounds_ns.length - 1, columns = map.columns_unix_us.length;
  const height = Math.max(150, Math.min(rows * 11, 260)) + BOTTOM + TOP;
  const inner = (width - LEFT - RIGHT) / columns, row = (height - BOTTOM - TOP) / rows;
  const most = Math.max(1, ...map.counts.flat());
  const y = (index) => height - BOTTOM - (index + 1) * row;
  const cells = [];
  map.counts.forEach((column, x) => column.forEach((count, index) => {
    if (count === 0) return;
    const shade = 0.16 + 0.84 * (Math.log(count + 1) / Math.log(most + 1));
    cells.push(s("rect", { class: "cell", x: LEFT + x * inner + 0.5, y: y(index) + 0.5, width: Math.max(inner - 1, 1), height: Math.max(row - 1, 1), rx: 1.5, "fill-opacity": shade.toFixed(2), "data-x": x, "data-y": index }));
  }));
  const labels = [];
  const every = Math.max(1, Math.ceil(rows / 7));
  for (let index = 0; index <= rows; index += every) {
    labels.push(s("text", { x: LEFT - 6, y: height - BOTTOM - index * row + 4, "text-anchor": "end" }, map.bounds_ns[index] ? duration(map.bounds_ns[index]) : "0"));
  }
  const times = frame(width, height, [], y, number, map.columns_unix_us, map.step_s)[1];
  const mark = s("rect", { class: "mark", width: inner, height: row, visibility: "hidden" });
  const requests = map.counts.flat().reduce((sum, count) => sum + count, 0);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" }, labels, times, cells, mark);
  const tip = h("div", { class: "tip", hidden: true });
  const say = h("p", { class: "hidden", "aria-live": "polite" });
  const words = (x, index) => `${clock(map.columns_unix_us[x])}, ${duration(map.bounds_ns[index])} to ${duration(map.bounds_ns[index + 1])}: ${map.counts[x][index]} requests`;
  const show = (x, index, aloud) => {
    mark.setAttribute("x", LEFT + x * inner);
    mark.setAttribute("y", y(index));
    mark.setAttribute("visibility", "visible");
    tip.hidden = false;
    tip.textContent = words(x, index);
    const at = LEFT + (x + 0.5) * inner;
    tip.style.setProperty("left", at > width / 2 ? "auto" : `${at + 12}px`);
    tip.style.setProperty("right", at > width / 2 ? `${width - at + 12}px` : "auto");
    tip.style.setProperty("top", `${Math.max(0, y(index) - 4)}px`);
    if (aloud) say.textContent = words(x, index);
    cursor.x = x;
    cursor.y = index;
  };
  const choose = (x, index) => map.counts[x]?.[index] > 0 && open({
    from: map.columns_unix_us[x], to: map.columns_unix_us[x] + map.step_s * 1e6,
    min_ns: map.bounds_ns[index], max_ns: map.bounds_ns[index + 1],
  });
  const hit = (event) => {
    const cell = event.target.closest?.("rect.cell");
    return cell && [Number(cell.dataset.x), Number(cell.dataset.y)];
  };
  svg.addEventListener("pointermove", (event) => {
    const cell = hit(event);
    if (cell) show(...cell);
    else tip.hidden = true;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  svg.addEventListener("click", (event) => { const cell = hit(event); if (cell) choose(...cell); });
  const filled = (x, index) => map.counts[x]?.[index] > 0;
  const keys = (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Enter" && cursor.x !== undefined) choose(cursor.x, cursor.y);
    if (!step) return;
    event.preventDefault();
    let [x, index] = cursor.x === undefined ? [columns - 1, 0] : [cursor.x, cursor.y];
    if (cursor.x === undefined) {
      while (x > 0 && !map.counts[x].some((count) => count > 0)) x -= 1;
      index = Math.max(0, map.counts[x].findLastIndex((count) => count > 0));
    } else if (step[0]) {
      // To the nearest filled cell of the next column that has one.
      for (let next = x + step[0]; next >= 0 && next < columns; next += step[0]) {
        const rowsHere = map.counts[next].map((count, row_) => [count, row_]).filter(([count]) => count > 0);
        if (rowsHere.length) {
          x = next;
          index = rowsHere.reduce((best, [, row_]) => (Math.abs(row_ - index) < Math.abs(best - index) ? row_ : best), rowsHere[0][1]);
          break;
        }
      }
    } else {
      for (let next = index + step[1]; next >= 0 && next < rows; next += step[1]) {
        if (filled(x, next)) { index = next; break; }
      }
    }
    show(x, index, true);
  };
  return h("div", { class: "chart heat", tabindex: "0", role: "group", "data-focus": "heat", "aria-label": `Latency heat map of ${requests} requests. Arrow keys move between cells, Enter opens the traces of one.`, onkeydown: keys }, svg, tip, say);
}
