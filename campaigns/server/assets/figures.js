// Figures of a campaign: plotly draws what the API answers.

import { h } from "./dom.js";
import { ask, at } from "./shell.js";

const TABS = { progress: "Progress", trust: "Calibration", "trade-off": "Trade-off", map: "Composition map", "later-cycles": "Later cycles" };
const TITLES = { trust: "Can the predictions be trusted?", progress: "Are we getting better?", "trade-off": "Trade-off", map: "What was tried", "later-cycles": "What do later cycles keep?" };

let library;
function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "assets/plotly.js", onload: () => resolve(window.Plotly), onerror: () => reject(new Error("The library that draws did not come.")) });
    document.head.append(script);
  });
  return library;
}

function fitted(figure, width) {
  const layout = figure.layout;
  if (width > 560) return layout;
  const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
  return { ...layout, margin: { ...layout.margin, l: 48, r: 8, t: layout.margin.t + 17 * named }, height: layout.height - 40 + 17 * named, font: { ...layout.font, size: 11 } };
}

/** Places for figures, drawn once they are on the page; a point leads to its proposal. */
export function drawings(name, figures, label) {
  const places = Object.entries(figures).map(([id, figure]) => [h("div", { class: "plot", id: `figure-${id}`, role: "img", "aria-label": `${label}: ${figure.layout.title?.text ?? id.replaceAll("-", " ")}` }), figure]);
  plotly().then((Plotly) => requestAnimationFrame(() => {
    for (const [place, figure] of places) {
      if (!place.isConnected) continue;
      Plotly.newPlot(place, figure.data, fitted(figure, place.clientWidth), { displayModeBar: false, responsive: true }).then(() => { place.dataset.drawn = "yes"; });
      place.on("plotly_click", (e) => { if (e.points[0].customdata) location.hash = `#/${name}/p/${e.points[0].customdata}`; });
    }
  }));
  return h("div", { class: places.length > 1 ? "pair" : null }, places.map(([place]) => place));
}

export async function figures(name, which = "progress", chosen = "") {
  const elements = chosen ? chosen.split("-") : [];
  const query = elements.map((e) => `elements=${encodeURIComponent(e)}`).join("&");
  const found = await ask(`${at(name)}/figures/${which}${query ? `?${query}` : ""}`);
  return [
    h("h1", {}, `${name}: ${TITLES[which] ?? which}`),
    h("nav", { class: "tabs", "aria-label": "Figures" }, Object.entries(TABS).map(([key, text]) => h("a", { href: `#/${name}/figures/${key}`, "aria-current": key === which ? "page" : null }, text))),
    h("p", { class: "soft" }, found.note),
    which === "map" && Object.keys(found.figures).length ? axes(name, found.elements, elements) : null,
    drawings(name, found.figures, TITLES[which] ?? which),
  ].filter(Boolean);
}

/** Choose what spans the map: nothing, two elements or three. */
function axes(name, all, chosen) {
  const picks = [0, 1, 2].map((i) => h("select", {}, [["", i < 2 ? "all amounts" : "no third"], ...all.map((s) => [s, s])].map(([value, text]) =>
    h("option", { value, selected: (chosen[i] ?? "") === value }, text))));
  const go = (e) => {
    e.preventDefault();
    const wanted = [...new Set(picks.map((p) => p.value).filter(Boolean))];
    location.hash = `#/${name}/figures/map${wanted.length > 1 ? `/${wanted.join("-")}` : ""}`;
  };
  return h("form", { onsubmit: go }, ["Across", "Up", "Third (ternary)"].map((text, i) => h("label", {}, text, picks[i])), h("button", {}, "Show"));
}
