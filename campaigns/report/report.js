"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

for (const [id, figure] of Object.entries(content.figures)) {
  Plotly.newPlot(id, figure.data, figure.layout, options);
}

/* The profile viewer: one proposal at a time, chosen from a list or by #R01-03 in the address. */
const chooser = document.getElementById("chooser");
const viewer = content.viewer;
const grid = (curve) => {
  const n = curve.q.length;
  return curve.q.map((_, i) => curve.v[0] + (curve.v[1] - curve.v[0]) * (i / (n - 1)));
};
const transparent = (colour) => colour + "2e";

function tracesOf(entry) {
  const traces = [];
  for (const curve of entry.predicted) {
    const v = grid(curve);
    const low = curve.q.map((q, i) => Math.max(0, q - curve.s[i]));
    const high = curve.q.map((q, i) => q + curve.s[i]);
    traces.push({ x: low.concat(high.slice().reverse()), y: v.concat(v.slice().reverse()), fill: "toself", mode: "lines",
      line: { width: 0 }, fillcolor: transparent(curve.colour), hoverinfo: "skip", showlegend: false });
    traces.push({ x: curve.q, y: v, mode: "lines", line: { color: curve.colour, dash: "dash", width: 2 },
      name: `predicted, ${curve.label}, ± 1 s.d.`, hovertemplate: "%{x:.0f} mAh/g at %{y:.2f} V" });
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
  const layout = Object.assign({}, viewer.layout, { title: { text: entry.title, x: 0, font: { size: 15 } } });
  Plotly.react("profiles", tracesOf(entry), layout, options);
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
document.body.dataset.ready = "yes";
