// Discharge curves and capacities over cycles, drawn as SVG.

import { h } from "./dom.js";

const LEFT = 76, RIGHT = 650, TOP = 16, BOTTOM = 310;
const COLOURS = ["var(--low)", "var(--high)", "#00664a", "#8a3d6f"];
const stepFor = (span, most, least = 0) => [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => s >= least && span / s <= most) ?? 1000;

/** A frame with ticks: `x` and `y` turn values into pixels. */
function frame([x0, x1], [y0, y1], xName, yName) {
  const x = (v) => LEFT + ((RIGHT - LEFT) * (v - x0)) / (x1 - x0 || 1), y = (v) => BOTTOM - ((BOTTOM - TOP) * (v - y0)) / (y1 - y0 || 1);
  const marks = [];
  const xs = stepFor(x1 - x0, 8, xName === "cycle" ? 1 : 0), ys = stepFor(y1 - y0, 8);
  const text = (v, s) => (s < 1 ? v.toFixed(1) : String(Math.round(v)));
  for (let v = Math.ceil(x0 / xs) * xs; v <= x1 + 1e-9; v += xs)
    marks.push(h("line", { x1: x(v), x2: x(v), y1: TOP, y2: BOTTOM, class: "grid" }), h("text", { x: x(v), y: BOTTOM + 16, "text-anchor": "middle" }, text(v, xs)));
  for (let v = Math.ceil(y0 / ys) * ys; v <= y1 + 1e-9; v += ys)
    marks.push(h("line", { x1: LEFT, x2: RIGHT, y1: y(v), y2: y(v), class: "grid" }), h("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, text(v, ys)));
  marks.push(h("text", { x: (LEFT + RIGHT) / 2, y: 345, "text-anchor": "middle" }, xName),
    h("text", { x: 18, y: 165, transform: "rotate(-90 18 165)", "text-anchor": "middle" }, yName));
  const path = (us, vs) => us.map((u, i) => `${i ? "L" : "M"}${x(u).toFixed(1)} ${y(vs[i]).toFixed(1)}`).join("");
  return { x, y, marks, path };
}

const rates = (curves) => [...new Set(curves.map((c) => c.current_ma_g))].sort((a, b) => a - b);
const picture = (label, ...content) => h("figure", {}, h("svg", { viewBox: "0 0 660 352", role: "img", "aria-label": label }, content));

function legend(all) {
  return h("p", { class: "legend" }, all.map((rate, i) => h("span", { style: `color:${COLOURS[i % 4]}` }, `${rate} mA/g`)),
    h("span", { class: "soft" }, "dashed: predicted; shaded: ± 1 s.d. over members; full: measured"));
}

/** Predicted profiles with their bands at every rate, and the measured curves over them. */
export function profiles(p, dashed = "") {
  const plus = (c, sign) => c.capacity_mah_g_mean.map((m, i) => Math.max(0, m + sign * c.capacity_mah_g_std[i]));
  const curves = [...p.predicted.map((c) => plus(c, 1)), ...p.measured.map((c) => c.capacity_mah_g)];
  if (!curves.length) return h("p", { class: "soft" }, "No profile was predicted or measured.");
  const volts = [...p.predicted, ...p.measured].flatMap((c) => c.voltage_v);
  const top = Math.max(50, ...curves.flat()) * 1.03;
  const { marks, path } = frame([0, top], [Math.min(...volts), Math.max(...volts)], "capacity (mAh/g)", "voltage (V)");
  const all = rates([...p.predicted, ...p.measured]);
  const colour = (c) => COLOURS[all.indexOf(c.current_ma_g) % 4];
  return h("div", {}, picture(
    `Voltage against capacity of ${p.proposal_id}: ${p.predicted.length} predicted profiles with their band, ${p.measured.length} measured curves`,
    marks,
    p.predicted.map((c) => {
      const back = path(plus(c, -1).reverse(), [...c.voltage_v].reverse()).replace("M", "L");
      return h("g", {},
        h("path", { d: `${path(plus(c, 1), c.voltage_v)}${back}Z`, fill: colour(c), "fill-opacity": 0.16 }),
        h("path", { d: path(c.capacity_mah_g_mean, c.voltage_v), fill: "none", stroke: colour(c), "stroke-width": 1.5, "stroke-dasharray": "6 4" }));
    }),
    p.measured.map((c) => h("path", { d: path(c.capacity_mah_g, c.voltage_v), fill: "none", stroke: colour(c), "stroke-width": c.cycle === 1 ? 2.2 : 0.9, "stroke-dasharray": c.measurement_id === dashed ? "3 3" : null },
      h("title", {}, `${c.measurement_id}, cell ${c.cell}, cycle ${c.cycle}, ${c.current_ma_g} mA/g`)))),
    legend(all));
}

/** Capacity of every cell over its cycles; nothing where none was cycled on. */
export function laterCycles(measurements) {
  const cells = Map.groupBy(measurements.filter((m) => m.status === "valid"), (m) => `${m.cell} at ${m.current_ma_g} mA/g`);
  const long = [...cells].map(([name, rows]) => [name, rows.sort((a, b) => a.cycle - b.cycle)]).filter(([, rows]) => rows.length > 1);
  if (!long.length) return null;
  const all = rates(long.flatMap(([, rows]) => rows)), last = Math.max(...long.flatMap(([, rows]) => rows.map((m) => m.cycle)));
  const top = Math.max(...long.flatMap(([, rows]) => rows.map((m) => m.capacity_mah_g))) * 1.05;
  const { x, y, marks, path } = frame([1, last], [0, top], "cycle", "capacity (mAh/g)");
  return h("section", {}, h("h2", {}, "Later cycles"), picture(`Capacity over cycles of ${long.map(([name]) => name).join(", ")}`, marks,
    long.map(([name, rows]) => {
      const colour = COLOURS[all.indexOf(rows[0].current_ma_g) % 4];
      return h("g", { stroke: colour, fill: colour }, h("path", { d: path(rows.map((m) => m.cycle), rows.map((m) => m.capacity_mah_g)), fill: "none" }),
        rows.map((m) => h("circle", { cx: x(m.cycle), cy: y(m.capacity_mah_g), r: 2.6 }, h("title", {}, `${m.measurement_id}, ${name}, cycle ${m.cycle}: ${m.capacity_mah_g} mAh/g`))));
    })));
}

/** A measured curve, and beside it what it becomes when everything per gram is multiplied. */
export function corrected(curve, factor) {
  const after = curve.capacity_mah_g.map((q) => q * factor);
  const top = Math.max(50, ...curve.capacity_mah_g, ...after) * 1.03;
  const { marks, path } = frame([0, top], [Math.min(...curve.voltage_v), Math.max(...curve.voltage_v)], "capacity (mAh/g)", "voltage (V)");
  return picture(`Measured curve of ${curve.measurement_id} as it is and as it would be`, marks,
    h("path", { d: path(curve.capacity_mah_g, curve.voltage_v), fill: "none", stroke: "#767676", "stroke-dasharray": "5 4", "stroke-width": 1.5 }),
    h("path", { d: path(after, curve.voltage_v), fill: "none", stroke: "var(--low)", "stroke-width": 2.2 }));
}
