// The pages of a campaign that are lists: overview, board, ranking, data, models, log.

import { STATES, formula, h, linkTo, number, spread, table, when } from "./dom.js";
import { drawings } from "./figures.js";
import { start } from "./jobs.js";
import { measurements } from "./measurements.js";
import { ask, at } from "./shell.js";

export async function overview() {
  const all = await ask("campaigns");
  return [h("h1", {}, "Campaigns"), h("div", { class: "cards" }, all.map((c) =>
    h("a", { class: "card", href: `#/${c.campaign}/board` },
      h("strong", {}, c.campaign), h("div", { class: "soft" }, `round ${c.round}, model ${c.model.name}`),
      h("div", {}, STATES.map((s) => `${c.proposals[s]} ${s}`).join(", ")),
      h("div", {}, `${c.measurements} discharges count, ${c.doubtful} doubtful, ${c.refused_files} files refused`),
      c.best && h("div", {}, `Best: ${c.best.proposal_id} `, formula(c.best.composition), `, ${c.best.quantity} ${number(c.best.value, 4)} ${c.best.unit}`, c.best.misses.length > 0 && `; misses ${c.best.misses.join(", ")}`),
    )))];
}

export async function board(name, round) {
  const [status, about] = await Promise.all([ask(at(name)), ask(`${at(name)}/about`)]);
  const wanted = round ?? (status.round ? String(status.round) : "all");
  const query = wanted === "all" ? "" : `&round=${wanted}`;
  const { rows, total } = await ask(`${at(name)}/proposals?limit=1000${query}`);
  const rounds = ["all", ...Array.from({ length: status.round }, (_, i) => String(i + 1))];
  const choose = h("select", { id: "round", onchange: (e) => { location.hash = `#/${name}/board/${e.target.value}`; } },
    rounds.map((r) => h("option", { value: r, selected: r === wanted }, r === "all" ? "all rounds" : `round ${r}`)));
  return [
    h("h1", {}, `${name}: board`), status.description && h("p", { class: "soft" }, status.description),
    h("ul", { class: "soft goals" }, about.goals.map((goal) => h("li", {}, goal[0].toUpperCase() + goal.slice(1)))),
    h("form", {}, h("label", {}, "Round", choose),
      wanted !== "all" && status.round > 0 && h("a", { class: "button", href: `api/${at(name)}/rounds/${wanted}/bench`, target: "_blank" }, "Bench sheet"),
      about.report && h("a", { class: "button", href: `api/${at(name)}/report`, target: "_blank" }, "Report")),
    rows.length === 0 && h("p", {}, status.round ? "Nothing was proposed in this round." : "Nothing was proposed yet: start a round under Jobs."),
    total > rows.length && h("p", { class: "soft" }, `${rows.length} of ${total} are shown; choose a round.`),
    rows.length > 0 && h("div", { class: "board" }, STATES.map((state) => {
      const mine = rows.filter((r) => r.state === state);
      return h("section", { "aria-label": state, class: mine.length ? null : "empty" }, h("h2", {}, `${state} (${mine.length})`), mine.map((p) => card(name, p, status)));
    })),
  ].filter(Boolean);
}

function card(name, p, status) {
  const first = status.objectives[0], mean = p[`${first.key}_mean`];
  return h("a", { class: "card", href: `#/${name}/p/${p.proposal_id}` },
    h("strong", {}, p.proposal_id), h("div", {}, formula(p.composition)),
    mean != null && h("div", { class: "soft" }, `${first.label.split(",")[0]}: ${spread(mean, p[`${first.key}_std`])} predicted`),
    p.reason && h("div", {}, p.reason));
}

export async function ranking(name, by = "") {
  const [status, about, found, jobs] = await Promise.all([
    ask(at(name)), ask(`${at(name)}/about`), ask(`${at(name)}/rank?top=1000${by ? `&by=${encodeURIComponent(by)}` : ""}`), ask(`jobs?campaign=${encodeURIComponent(name)}`)]);
  const last = jobs.find((j) => j.verb === "rank" && j.state === "done");
  const choose = h("select", { onchange: (e) => { location.hash = `#/${name}/ranking/${e.target.value}`; } },
    [h("option", { value: "" }, "first objective"), ...about.rank_by.map((n) => h("option", { value: n, selected: n === by }, n.replaceAll("-", " ")))]);
  const results = h("div", { "aria-live": "polite" });
  const text = h("input", { type: "search", id: "filter", placeholder: "Ti -V R02" });
  const state = h("select", { id: "state" }, ["any state", ...STATES].map((s) => h("option", { value: s === "any state" ? "" : s }, s)));
  const least = h("input", { type: "number", step: "any", id: "least" });
  const lists = [["Measured", found], last && [`With predictions, by ${last.result.by}`, last.result]].filter(Boolean);
  const draw = () => results.replaceChildren(...lists.flatMap(([title, list]) => {
    const [columns, key] = columnsOf(name, status, list);
    const rows = list.rows.filter((r) => fits(r, text.value, state.value, least.value === "" ? null : Number(least.value), key));
    const hidden = list.rows.length - rows.length;
    return [h("h2", {}, title), ...list.notes.map((note) => h("p", { class: "soft" }, note)), table(title, columns, rows, hidden ? "None fits the filter." : "Nothing is measured yet."), hidden ? h("p", { class: "soft" }, `${hidden} are hidden by the filter.`) : null].filter(Boolean);
  }));
  for (const input of [text, state, least]) input.addEventListener("input", draw);
  draw();
  return [h("h1", {}, `${name}: ranking`),
    h("form", { onsubmit: (e) => e.preventDefault() }, h("label", {}, "By", choose), h("label", {}, "With, without (-), id", text), h("label", {}, "State", state), h("label", {}, "At least", least),
      h("button", { type: "button", onclick: () => start(name, "rank", by ? { by } : {}) }, "Rank predictions, too")),
    results];
}

/** Columns of a ranking: what it goes by first, then the objectives. */
function columnsOf(name, status, list) {
  const asked = list.asked.length === 1 ? list.asked : [];
  const shown = [...asked, ...status.objectives.filter((o) => o.key !== asked[0]?.key)];
  return [[["rank", (r) => r.rank, "number"], ["id", (r) => linkTo(name, r.proposal_id)], ["composition", (r) => formula(r.composition)], ["source", (r) => r.source],
    ...shown.map((o) => [o.label.replace(/, Q.*/, ""), (r) => spread(r[`${o.key}_mean`], r[`${o.key}_std`]), "number"]),
    ...(list.rows[0]?.front == null ? [] : [["front", (r) => r.front, "number"]])], shown[0]?.key];
}

/** Whether a row holds every word, none of those with a minus, and is at least a value. Elements are whole words. */
function fits(row, words, state, least, key) {
  const elements = row.composition.match(/[A-Z][a-z]?/g) ?? [];
  const holds = (word) => elements.includes(word) || row.composition.includes(word) && /\d/.test(word) || (row.proposal_id ?? "").toLowerCase().includes(word.toLowerCase()) || row.source === word;
  const ok = words.split(/\s+/).filter(Boolean).every((w) => (w.startsWith("-") ? w.length < 2 || !holds(w.slice(1)) : holds(w)));
  return ok && (!state || row.state === state) && (least === null || row[`${key}_mean`] >= least);
}

export async function data(name) {
  const [status, doubtful, all, refused] = await Promise.all([ask(at(name)), ask(`${at(name)}/measurements?status=doubtful&limit=1000`), ask(`${at(name)}/measurements?limit=200`), ask(`${at(name)}/refused`)]);
  const seen = (m) => ({ [m.proposal_id]: m.version });
  return [h("h1", {}, `${name}: data`),
    h("h2", {}, "Doubtful: do not count until confirmed"), measurements(name, doubtful.rows, seen, status.read_only, "None.", "Doubtful measurements"),
    h("h2", {}, "Refused files"), table("Refused files", [["file", (f) => f.file], ["when (UTC)", (f) => when(f.at)], ["why", (f) => f.rules.map((r) => `${r.id}: ${r.message}`).join(" ")]], refused, "None."),
    h("h2", {}, `Latest of ${all.total} measurements`), measurements(name, all.rows, seen, status.read_only)];
}

export async function models(name) {
  const [all, drawn] = await Promise.all([ask(`${at(name)}/models`), ask(`${at(name)}/figures/models`)]);
  return [h("h1", {}, `${name}: models`), h("p", { class: "soft" }, drawn.note), drawings(name, drawn.figures, "Models"),
    table("Models", [["name", (m) => m.name + (m.current ? " (current)" : "")], ["id", (m) => m.model_id], ["from", (m) => m.parent ?? "–"],
      ["learned from", (m) => m.learned_from, "number"], ["since (UTC)", (m) => when(m.at)], ["verdict", (m) => (m.accepted ? "accepted" : `refused: ${m.reason}`)]], all)];
}

export async function log(name) {
  const { rows, total } = await ask(`${at(name)}/log?limit=500`);
  return [h("h1", {}, `${name}: log`), h("p", { class: "soft" }, `The latest ${rows.length} of ${total} entries.`),
    table("Log", [["entry", (e) => e.number, "number"], ["when (UTC)", (e) => when(e.at)], ["who", (e) => e.who], ["what", (e) => `${e.verb}: ${e.summary}`]], rows)];
}
