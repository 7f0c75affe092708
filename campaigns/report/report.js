"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const PAGE_PX = 690;  /* what is left of the width of an A4 sheet */

/* Where there is little room, legends stand one below the other above the plot. */
function fitted(figure, width) {
  const layout = figure.layout;
  if (width > 560) return layout;
  const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
  const margin = { ...layout.margin, l: 48, r: 8, t: layout.margin.t + 17 * named };
  return { ...layout, margin, height: layout.height - 40 + 17 * named, font: { ...layout.font, size: 11 } };
}

const plots = [];
function draw(id, data, layout) {
  const place = document.getElementById(id);
  const width = place.clientWidth;
  Plotly.react(place, data, fitted({ data, layout }, width), { ...options, ...(width > 560 ? {} : { displayModeBar: false }) });
  if (!plots.includes(place)) plots.push(place);
  return place;
}

for (const [id, figure] of Object.entries(content.figures)) {
  /* A point leads to the profiles of its proposal. */
  draw(id, figure.data, figure.layout).on("plotly_click", (event) => {
    const index = viewer.entries.findIndex((entry) => entry.id === event.points[0].customdata);
    if (index >= 0) { show(index); document.getElementById("s-profiles").scrollIntoView(); }
  });
}

/* The profile viewer: one proposal at a time, chosen from a list or by #R01-03 in the address. */
const chooser = document.getElementById("chooser");
const viewer = content.viewer;
const grid = (curve) => {
  const n = curve.q.length;
  return curve.q.map((_, i) => curve.v[0] + (curve.v[1] - curve.v[0]) * (i / (n - 1)));
};
const transparent = (colour) => colour + "2e";
const lower = (curve) => curve.q.map((q, i) => Math.max(0, q - curve.s[i]));
const upper = (curve) => curve.q.map((q, i) => q + curve.s[i]);

function tracesOf(entry) {
  const traces = [];
  for (const curve of entry.predicted) {
    const v = grid(curve);
    traces.push({ x: lower(curve).concat(upper(curve).reverse()), y: v.concat(v.slice().reverse()), fill: "toself", mode: "lines",
      line: { width: 0 }, fillcolor: transparent(curve.colour), hoverinfo: "skip", showlegend: false });
    traces.push({ x: curve.q, y: v, mode: "lines", line: { color: curve.colour, dash: "dash", width: 2 },
      name: `predicted, ${curve.label}`, hovertemplate: "%{x:.0f} mAh/g at %{y:.2f} V" });
  }
  for (const curve of entry.measured) {
    traces.push({ x: curve.q, y: grid(curve), mode: "lines", line: { color: curve.colour, width: 3 },
      name: `measured, ${curve.label}`, hovertemplate: "%{x:.0f} mAh/g at %{y:.2f} V" });
  }
  return traces;
}

function show(index) {
  const entry = viewer.entries[index];
  if (!entry) return;
  chooser.value = String(index);
  document.getElementById("shown-profile").innerHTML = entry.title;  /* made of escaped text by the report */
  draw("profiles", tracesOf(entry), viewer.layout);
}

if (chooser) {
  viewer.entries.forEach((entry, index) => chooser.add(new Option(entry.label, String(index))));
  const wanted = decodeURIComponent(window.location.hash.slice(1));
  const named = viewer.entries.findIndex((entry) => entry.id === wanted);
  chooser.addEventListener("change", () => show(Number(chooser.value)));
  document.getElementById("earlier").addEventListener("click", () => show(Math.max(0, Number(chooser.value) - 1)));
  document.getElementById("later").addEventListener("click", () =>
    show(Math.min(viewer.entries.length - 1, Number(chooser.value) + 1)));
  show(named >= 0 ? named : viewer.first);
}

/* The full list: rows that hold what was typed. */
const search = document.getElementById("search");
if (search) {
  const rows = Array.from(document.querySelectorAll("#everything tbody tr"));
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.dataset.text;
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

/* Each cell knows its column, for widths at which a row is a card. */
for (const table of document.querySelectorAll("table")) {
  const names = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
  for (const row of table.tBodies[0].rows)
    for (const cell of row.cells) cell.dataset.name = names[cell.cellIndex];
}

/* On paper: every section open, every plot as wide as the sheet, and the profiles of the last round side by side. */
const SVG = "http://www.w3.org/2000/svg";
function drawn(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

function panel(entry, top) {
  const box = document.createElement("div");
  box.className = "panel";
  const title = document.createElement("p");
  title.innerHTML = entry.title;  /* made of escaped text by the report */
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 200 150");
  const curves = [...entry.predicted, ...entry.measured];
  const volts = curves.flatMap((c) => c.v);
  const low = Math.min(...volts), high = Math.max(...volts);
  const x = (q) => (24 + (170 * q) / top).toFixed(1), y = (v) => (128 - (120 * (v - low)) / (high - low || 1)).toFixed(1);
  const path = (qs, vs) => qs.map((q, i) => `${i ? "L" : "M"}${x(q)} ${y(vs[i])}`).join("");
  drawn("path", { d: "M24 8V128H194", stroke: "#777", fill: "none" }, svg);
  for (const q of [0, 100, 200, 300].filter((q) => q <= top))
    drawn("text", { x: x(q), y: 139, "font-size": 8, "text-anchor": "middle" }, svg).textContent = q;
  for (const v of [low, high])
    drawn("text", { x: 21, y: Number(y(v)) + 3, "font-size": 8, "text-anchor": "end" }, svg).textContent = v.toFixed(1);
  drawn("text", { x: 109, y: 149, "font-size": 8, "text-anchor": "middle" }, svg).textContent = "mAh/g";
  for (const c of entry.predicted) {
    const v = grid(c), back = path(lower(c).reverse(), v.slice().reverse()).replace("M", "L");
    drawn("path", { d: `${path(upper(c), v)}${back}Z`, fill: c.colour, "fill-opacity": 0.15 }, svg);
    drawn("path", { d: path(c.q, v), stroke: c.colour, fill: "none", "stroke-dasharray": "4 3" }, svg);
  }
  for (const c of entry.measured) drawn("path", { d: path(c.q, grid(c)), stroke: c.colour, fill: "none", "stroke-width": 1.6 }, svg);
  box.append(title, svg);
  return box;
}

function smallProfiles() {
  const place = document.getElementById("small-profiles");
  if (!place || place.childElementCount) return;
  const last = Math.max(...viewer.entries.map((e) => e.round));
  const chosen = viewer.entries.filter((e, i) => e.predicted.length + e.measured.length && (e.round === last || i === viewer.first));
  const tops = chosen.flatMap((e) => [...e.predicted.map((c) => Math.max(...upper(c))), ...e.measured.map((c) => Math.max(...c.q))]);
  for (const entry of chosen.slice(0, 24)) place.append(panel(entry, Math.max(50, ...tops)));
}

function forPaper() {
  smallProfiles();
  for (const part of document.querySelectorAll("details")) part.open = true;
  for (const place of plots) {
    const half = place.parentElement.classList.contains("pair");
    Plotly.relayout(place, { autosize: false, width: half ? PAGE_PX / 2 - 8 : PAGE_PX, height: half ? 330 : Math.min(400, place.layout.height) });
  }
}
window.addEventListener("beforeprint", forPaper);
window.addEventListener("afterprint", () => {
  for (const place of plots) Plotly.relayout(place, { autosize: true, width: null });
});
document.body.dataset.ready = "yes";
