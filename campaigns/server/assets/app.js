// The page: every view and button calls the API that /openapi.json describes, and nothing else.

const main = document.getElementById("main"), told = document.getElementById("told");
const who = document.getElementById("who"), nav = document.getElementById("nav");
const STATES = ["proposed", "accepted", "measured", "failed", "abandoned"];
const PAGES = { board: "Board", ranking: "Ranking", data: "Data", models: "Models", jobs: "Jobs", log: "Log" };
let shownEvent = null, drawn = 0;

// -- building blocks ------------------------------------------------------------------------------------

function h(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "g", "polygon", "title", "desc"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((c) => c != null));
  return node;
}

const number = (v, digits = 3) => (v == null ? "–" : Number(v).toPrecision(digits).replace(/\.?0+(?=$|e)/, (z) => (z.includes(".") ? "" : z)));
const spread = (mean, std) => (mean == null ? "–" : std == null ? number(mean, 4) : `${number(mean)} ± ${number(std, 2)}`);
const when = (at) => at.replace("T", " ").slice(0, 16);

function table(caption, columns, rows) {
  if (!rows.length) return h("p", { class: "soft" }, "Nothing yet.");
  const cell = ([name, value, kind]) => (row) => h("td", { "data-name": name, class: kind }, value(row));
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map(([name, , kind]) => h("th", { scope: "col", class: kind }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((c) => cell(c)(row))))),
  ));
}

function say(sentence, bad = false) {
  told.textContent = sentence;
  told.className = bad ? "bad" : "";
}

async function ask(path, { method = "GET", body, form } = {}) {
  const headers = { "X-Who": encodeURIComponent(who.value.trim() || "somebody").slice(0, 350) };
  if (body) headers["Content-Type"] = "application/json";
  if (method === "POST") headers["Idempotency-Key"] = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
  let answer;
  try {
    answer = await fetch(`api/${path}`, { method, headers, body: form ?? (body && JSON.stringify(body)) });
  } catch {
    throw new Error("The server does not answer. Nothing was written by this page.");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

const at = (name) => `campaigns/${encodeURIComponent(name)}`;

// Carry out a write; say what came of it, and show the page again.
async function write(sentence, work) {
  try {
    await work();
    await show();
    say(sentence);
  } catch (error) {
    say(error.message, true);
  }
}

// -- pages ----------------------------------------------------------------------------------------------

async function overview() {
  const all = await ask("campaigns");
  return [h("h1", {}, "Campaigns"), h("div", { class: "cards" }, all.map((c) =>
    h("a", { class: "card", href: `#/${c.campaign}/board` },
      h("strong", {}, c.campaign), h("div", { class: "soft" }, `round ${c.round}, model ${c.model.name}`),
      h("div", {}, STATES.map((s) => `${c.proposals[s]} ${s}`).join(", ")),
      h("div", {}, `${c.measurements} discharges count, ${c.doubtful} doubtful, ${c.refused_files} files refused`),
      c.best && h("div", {}, `Best: ${c.best.proposal_id} ${c.best.composition}, ${c.best.quantity} ${number(c.best.value, 4)} ${c.best.unit}`),
    )))];
}

async function board(name, round) {
  const status = await ask(at(name));
  const wanted = round ?? String(status.round);
  const query = wanted === "all" ? "" : `&round=${wanted}`;
  const { rows, total } = await ask(`${at(name)}/proposals?limit=1000${query}`);
  const choose = h("select", { id: "round", onchange: (e) => { location.hash = `#/${name}/board/${e.target.value}`; } },
    ["all", ...Array.from({ length: status.round }, (_, i) => String(i + 1))].map((r) =>
      h("option", { value: r, selected: r === wanted }, r === "all" ? "all rounds" : `round ${r}`)));
  return [
    h("h1", {}, `${name}: board`), status.description && h("p", { class: "soft" }, status.description),
    h("form", {}, h("label", {}, "Round", choose),
      wanted !== "all" && status.round > 0 && h("a", { href: `api/${at(name)}/rounds/${wanted}/sheet`, target: "_blank" }, "What to weigh"),
      h("a", { href: `api/${at(name)}/report`, target: "_blank" }, "Report")),
    rows.length === 0 && h("p", {}, status.round ? "Nothing was proposed in this round." : "Nothing was proposed yet: start a round under Jobs."),
    total > rows.length && h("p", { class: "soft" }, `${rows.length} of ${total} are shown; choose a round.`),
    h("div", { class: "board" }, STATES.map((state) => {
      const mine = rows.filter((r) => r.state === state);
      return h("section", { "aria-label": state }, h("h2", {}, `${state} (${mine.length})`), mine.map((p) => card(name, p, status)));
    })),
  ].filter(Boolean);
}

/** A formula that breaks between elements only. */
function formula(text) {
  return (text.match(/[A-Z][a-z]?[\d.]*/g) ?? [text]).flatMap((part) => [part, h("wbr")]);
}

function card(name, p, status) {
  const first = status.objectives[0];
  return h("a", { class: "card", href: `#/${name}/p/${p.proposal_id}` },
    h("strong", {}, p.proposal_id), h("div", { class: "formula" }, ...formula(p.composition)),
    h("div", { class: "soft" }, p[`${first.key}_mean`] == null ? "" : `${first.label}: ${spread(p[`${first.key}_mean`], p[`${first.key}_std`])}`),
    p.reason && h("div", {}, p.reason));
}

async function proposal(name, id) {
  const [status, p] = await Promise.all([ask(at(name)), ask(`${at(name)}/proposals/${encodeURIComponent(id)}`)]);
  const facts = status.objectives.filter((o) => p[`${o.key}_mean`] != null)
    .flatMap((o) => [h("dt", {}, o.label), h("dd", {}, spread(p[`${o.key}_mean`], p[`${o.key}_std`]))]);
  const found = [["State", p.state + (p.reason ? `: ${p.reason}` : "")], ["Why", p.why], ["Domain", p.domain], ["Phases", p.phases], ["As measured", p.analysed]]
    .filter(([, v]) => v).flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]);
  return [
    h("h1", {}, `${p.proposal_id}  ${p.composition}`),
    h("div", { class: "two" },
      h("div", {}, h("h2", {}, "Discharge"), profiles(p), h("h2", {}, "Measurements"), measurements(name, p.measurements, () => ({ [p.proposal_id]: p.version }), status.read_only)),
      h("div", {}, h("dl", {}, found, facts), status.read_only ? null : [markForm(name, p), dropZone(name, p)],
        h("h2", {}, "History"), h("ul", {}, p.history.map((e) => h("li", {}, `${when(e.at)} ${e.who}: ${e.summary || e.verb}`)))),
    ),
  ];
}

function profiles(p) {
  const curves = [...p.predicted.map((c) => c.capacity_mah_g_mean.map((m, i) => m + c.capacity_mah_g_std[i])), ...p.measured.map((c) => c.capacity_mah_g)];
  if (!curves.length) return h("p", { class: "soft" }, "No profile was predicted or measured.");
  const volts = [...p.predicted, ...p.measured].flatMap((c) => c.voltage_v);
  const top = Math.max(50, ...curves.flat()) * 1.03, low = Math.min(...volts), high = Math.max(...volts);
  const x = (q) => 50 + (600 * q) / top, y = (v) => 310 - (290 * (v - low)) / (high - low || 1);
  const path = (qs, vs) => qs.map((q, i) => `${i ? "L" : "M"}${x(Math.max(0, q)).toFixed(1)} ${y(vs[i]).toFixed(1)}`).join("");
  const rates = [...new Set([...p.predicted, ...p.measured].map((c) => c.current_ma_g))].sort((a, b) => a - b);
  const colour = (c) => (rates.indexOf(c.current_ma_g) === 0 ? "var(--low)" : "var(--high)");
  const step = [10, 20, 50, 100, 200, 500].find((s) => top / s <= 8) ?? 1000;
  const marks = [];
  for (let q = 0; q <= top; q += step) marks.push(h("line", { x1: x(q), x2: x(q), y1: 20, y2: 310, stroke: "#e8e8e8" }), h("text", { x: x(q), y: 326, "text-anchor": "middle" }, String(q)));
  for (let v = Math.ceil(low * 2) / 2; v <= high; v += 0.5) marks.push(h("line", { x1: 50, x2: 650, y1: y(v), y2: y(v), stroke: "#e8e8e8" }), h("text", { x: 44, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(1)));
  const legend = rates.map((r, i) => h("text", { x: 640, y: 38 + 18 * i, "text-anchor": "end", style: `fill:${i ? "var(--high)" : "var(--low)"}` }, `${r} mA/g`));
  return h("svg", { viewBox: "0 0 660 350", role: "img", "aria-label": `Voltage against capacity of ${p.proposal_id}: ${p.predicted.length} predicted profiles, shaded by the standard deviation over the members, ${p.measured.length} measured curves` },
    marks,
    p.predicted.map((c) => {
      const up = c.capacity_mah_g_mean.map((m, i) => m + c.capacity_mah_g_std[i]), down = c.capacity_mah_g_mean.map((m, i) => m - c.capacity_mah_g_std[i]);
      return h("g", { fill: colour(c), stroke: colour(c) },
        h("path", { d: `${path(up, c.voltage_v)}${path([...down].reverse(), [...c.voltage_v].reverse()).replace("M", "L")}Z`, "fill-opacity": 0.16, stroke: "none" }),
        h("path", { d: path(c.capacity_mah_g_mean, c.voltage_v), fill: "none", "stroke-width": 1.5, "stroke-dasharray": "6 4" }));
    }),
    p.measured.map((c) => h("path", { d: path(c.capacity_mah_g, c.voltage_v), fill: "none", stroke: colour(c), "stroke-width": c.cycle === 1 ? 2.2 : 0.9 },
      h("title", {}, `${c.measurement_id}, cell ${c.cell}, cycle ${c.cycle}, ${c.current_ma_g} mA/g`))),
    legend,
    h("text", { x: 350, y: 345, "text-anchor": "middle" }, "capacity (mAh/g); dashed: predicted, shaded: 1 s.d. over the members; full: measured"),
    h("text", { x: 14, y: 165, transform: "rotate(-90 14 165)", "text-anchor": "middle" }, "voltage (V)"));
}

function markForm(name, p) {
  const state = h("select", {}, ["accepted", "failed", "abandoned", "proposed"].map((s) => h("option", { value: s }, s)));
  const reason = h("input", { maxlength: 1000, size: 26, placeholder: "such as: two phases in XRD" });
  const send = (e) => {
    e.preventDefault();
    const body = { state: state.value, reason: reason.value, seen: { [p.proposal_id]: p.version } };
    write(`${p.proposal_id} is ${state.value}.`, () => ask(`${at(name)}/proposals/${p.proposal_id}/mark`, { method: "POST", body }));
  };
  return [h("h2", {}, "What became of it"), h("form", { id: "mark", onsubmit: send }, h("label", {}, "State", state), h("label", {}, "Reason", reason), h("button", { class: "main" }, "Mark"))];
}

function dropZone(name, p) {
  const input = h("input", { type: "file", multiple: true, id: "files", onchange: () => check(input.files) });
  const mass = h("input", { type: "number", min: 0, step: "any", size: 8 }), current = h("input", { type: "number", min: 0, step: "any", size: 8 });
  const shown = h("div", { "aria-live": "polite" });
  const send = (files, dry) => {
    const form = new FormData();
    for (const file of files) form.append("files", file);
    form.append("proposal", p.proposal_id);
    if (mass.value) form.append("active_mass_mg", mass.value);
    if (current.value) form.append("current_ma_g", current.value);
    form.append("dry_run", dry);
    return ask(`${at(name)}/files`, { method: "POST", form });
  };
  async function check(files) {
    const kept = [...files];
    if (!kept.length) return;
    shown.replaceChildren(h("p", {}, "Checking…"));
    try {
      const done = await send(kept, true);
      const good = done.files.filter((f) => f.status !== "refused" && f.status !== "known");
      shown.replaceChildren(
        h("ul", {}, done.files.map((f) => h("li", { class: f.status === "refused" ? "bad-text" : null },
          `${f.file}: ${f.status === "recorded" ? "good" : f.status}, ${f.discharges ?? 0} discharges${f.format ? ` (${f.format})` : ""}`,
          h("ul", {}, [...f.rules.map((r) => `${r.id}: ${r.message}`), ...f.notes].map((t) => h("li", {}, t)))))),
        h("button", { id: "record", class: "main", disabled: !good.length, onclick: () => write(`Recorded for ${p.proposal_id}.`, () => send(kept, false)) }, good.length ? "Record" : "Nothing to record"),
        " ", h("button", { onclick: () => check(kept) }, "Check again"));
    } catch (error) {
      shown.replaceChildren(h("p", { class: "bad-text" }, error.message));
    }
  }
  const over = (on) => (e) => { e.preventDefault(); zone.classList.toggle("over", on); };
  const zone = h("div", { class: "drop", ondragover: over(true), ondragleave: over(false), ondrop: (e) => { over(false)(e); check(e.dataTransfer.files); } },
    h("label", {}, "Drop cycler files here, or choose: ", input),
    h("div", {}, h("label", {}, "Active mass (mg) ", mass), " ", h("label", {}, "Low-rate current (mA/g) ", current), h("div", { class: "soft" }, "Only where the files do not say it.")), shown);
  return [h("h2", {}, "What was measured"), zone];
}

function measurements(name, rows, seen, readOnly) {
  const act = (m) => {
    if (readOnly || !["valid", "doubtful"].includes(m.status)) return null;
    const call = (verb, question, needed) => () => {
      const reason = prompt(question);
      if (reason === null || (needed && !reason.trim())) return;
      write(`${m.measurement_id}: done.`, () => ask(`${at(name)}/measurements/${m.measurement_id}/${verb}`, { method: "POST", body: { reason, seen: seen(m) } }));
    };
    const correct = () => {
      const value = prompt(`Right capacity of ${m.measurement_id} (mAh/g)?`, m.capacity_mah_g);
      const reason = value && prompt("Why?");
      if (!reason) return;
      write(`${m.measurement_id} is corrected.`, () => ask(`${at(name)}/measurements/${m.measurement_id}/supersede`, { method: "POST", body: { reason, changes: { capacity_mah_g: Number(value) }, seen: seen(m) } }));
    };
    return h("span", {},
      m.status === "doubtful" ? h("button", { onclick: call("confirm", "It is right, because (may be empty):", false) }, "Confirm") : null,
      m.average_voltage_v == null ? h("button", { onclick: correct }, "Correct") : null,
      h("button", { onclick: call("retract", "Stop counting it, because:", true) }, "Retract"));
  };
  return table("Measurements", [
    ["id", (m) => m.measurement_id], ["proposal", (m) => h("a", { href: `#/${name}/p/${m.proposal_id}` }, m.proposal_id)], ["cell", (m) => m.cell], ["cycle", (m) => m.cycle, "number"],
    ["mA/g", (m) => number(m.current_ma_g, 4), "number"], ["mAh/g", (m) => number(m.capacity_mah_g, 4), "number"],
    ["status", (m) => m.status], ["why", (m) => m.doubt || m.withdrawn_reason || ""], ["", act],
  ], rows);
}

async function ranking(name, by = "") {
  const status = await ask(at(name));
  const found = await ask(`${at(name)}/rank?top=100${by ? `&by=${encodeURIComponent(by)}` : ""}`);
  const jobs = await ask(`jobs?campaign=${encodeURIComponent(name)}`);
  const last = jobs.find((j) => j.verb === "rank" && j.state === "done");
  const names = ["rate-retention", "capacity", "specific-energy", "average-voltage", "pareto"];
  const columns = [["", (r) => r.rank, "number"], ["id", (r) => (r.proposal_id ? h("a", { href: `#/${name}/p/${r.proposal_id}` }, r.proposal_id) : "–")],
    ["composition", (r) => r.composition, "formula"], ["source", (r) => r.source],
    ...status.objectives.map((o) => [o.label, (r) => spread(r[`${o.key}_mean`], r[`${o.key}_std`]), "number"])];
  return [h("h1", {}, `${name}: ranking`),
    h("form", {}, h("label", {}, "By", h("select", { onchange: (e) => { location.hash = `#/${name}/ranking/${e.target.value}`; } },
      [h("option", { value: "" }, "first objective"), ...names.map((n) => h("option", { value: n, selected: n === by }, n))])),
      h("button", { onclick: (e) => { e.preventDefault(); start(name, "rank", by ? { by } : {}); } }, "Rank predictions, too")),
    h("h2", {}, "Measured"), table("Measured", columns, found.rows),
    last && h("h2", {}, `With predictions, by ${last.result.by}`), last && table("With predictions", columns, last.result.rows)].filter(Boolean);
}

async function data(name) {
  const [status, doubtful, all, refused] = await Promise.all([ask(at(name)), ask(`${at(name)}/measurements?status=doubtful&limit=1000`), ask(`${at(name)}/measurements?limit=200`), ask(`${at(name)}/refused`)]);
  const seen = (m) => ({ [m.proposal_id]: m.version });
  return [h("h1", {}, `${name}: data`),
    h("h2", {}, "Doubtful: do not count until confirmed"), measurements(name, doubtful.rows, seen, status.read_only),
    h("h2", {}, "Refused files"), table("Refused files", [["file", (f) => f.file], ["when (UTC)", (f) => when(f.at)], ["why", (f) => f.rules.map((r) => `${r.id}: ${r.message}`).join(" ")]], refused),
    h("h2", {}, `Latest of ${all.total} measurements`), measurements(name, all.rows, seen, status.read_only)];
}

async function models(name) {
  return [h("h1", {}, `${name}: models`), table("Models", [["name", (m) => m.name + (m.current ? " (current)" : "")], ["id", (m) => m.model_id], ["from", (m) => m.parent ?? "–"],
    ["learned from", (m) => m.learned_from, "number"], ["since (UTC)", (m) => when(m.at)], ["", (m) => (m.accepted ? "" : `refused: ${m.reason}`)]], await ask(`${at(name)}/models`))];
}

async function log(name) {
  const { rows, total } = await ask(`${at(name)}/log?limit=500`);
  return [h("h1", {}, `${name}: log`), h("p", { class: "soft" }, `The latest ${rows.length} of ${total} entries.`),
    table("Log", [["", (e) => e.number, "number"], ["when (UTC)", (e) => when(e.at)], ["who", (e) => e.who], ["what", (e) => `${e.verb}: ${e.summary}`]], rows)];
}

async function start(name, verb, options = {}) {
  try {
    const job = await ask(`${at(name)}/jobs`, { method: "POST", body: { verb, options } });
    say(`${verb} is running.`);
    location.hash = `#/${name}/jobs/${job.job_id}`;
  } catch (error) {
    say(error.message, true);
  }
}

async function jobs(name) {
  const [status, all] = await Promise.all([ask(at(name)), ask(`jobs?campaign=${encodeURIComponent(name)}`)]);
  const button = (verb, text) => h("button", { disabled: status.read_only, onclick: () => start(name, verb) }, text);
  return [h("h1", {}, `${name}: jobs`), h("p", {}, button("propose", "Propose a round"), " ", button("finetune", "Learn from what was measured"), " ", button("report", "Write the report")),
    all.length ? all.map((j) => jobCard(j)) : h("p", { class: "soft" }, "No job since this server was started.")].flat();
}

const watched = new Map();

function jobCard(job) {
  const box = h("section", { class: "card", "aria-label": `${job.verb} ${job.job_id}` });
  const draw = (j) => box.replaceChildren(
    h("strong", {}, `${j.verb} ${j.job_id}`), ` ${j.state}, started by ${j.who}, ${Math.round(j.elapsed_s)} s`,
    j.state === "running" ? h("div", {}, h("progress", { max: j.total || 1, value: j.total ? j.done : null, "aria-label": `Progress of ${j.verb}` }),
      j.total ? `${j.done} of ${j.total}${j.remaining_s == null ? "" : `, about ${Math.ceil(j.remaining_s)} s to go`} ` : "",
      h("button", { onclick: () => write(`${j.verb} is cancelled.`, () => ask(`jobs/${j.job_id}`, { method: "DELETE" })) }, "Cancel")) : "",
    j.error ? h("div", { class: "bad-text" }, j.error) : "");
  draw(job);
  if (job.state === "running") {
    watched.get(job.job_id)?.close();
    const events = new EventSource(`api/jobs/${job.job_id}/events`);
    watched.set(job.job_id, events);
    events.onmessage = (e) => {
      const j = JSON.parse(e.data);
      draw(j);
      if (j.state !== "running") { events.close(); say(j.error || `${j.verb} is ${j.state}.`, Boolean(j.error)); }
    };
    events.onerror = () => events.close();
  }
  return box;
}

// -- the address decides what is shown ------------------------------------------------------------------

async function show() {
  const mine = ++drawn;
  const [name, page, rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  for (const events of watched.values()) events.close();
  watched.clear();
  nav.replaceChildren(...(name ? Object.entries(PAGES).map(([key, text]) => h("a", { href: `#/${name}/${key}`, "aria-current": (page === "p" ? "board" : page) === key ? "page" : null }, text)) : []));
  document.title = name ? `${rest ?? PAGES[page] ?? ""} ${name} – drx-screen` : "drx-screen";
  try {
    const pages = { board, p: proposal, ranking, data, models, log, jobs };
    const content = name ? await (pages[page] ?? board)(name, rest || undefined) : await overview();
    if (mine !== drawn) return;
    main.replaceChildren(...content);
    shownEvent = name ? (await ask(at(name))).event : null;
  } catch (error) {
    if (mine === drawn) main.replaceChildren(h("h1", {}, "drx-screen"), h("p", { class: "bad-text" }, error.message));
  }
  document.body.dataset.ready = location.hash || "#/";
}

// Somebody else wrote: show it at once where nothing is being typed, else say so.
async function follow() {
  const name = decodeURIComponent(location.hash.replace(/^#\/?/, "").split("/")[0]);
  if (!name || document.hidden || shownEvent === null) return;
  try {
    const { event } = await ask(at(name));
    if (event === shownEvent) return;
    const typing = main.contains(document.activeElement) || main.querySelector("#record");
    if (!typing) await show();
    else say("Somebody wrote meanwhile; reload to see it. What you send is checked against what you see.");
  } catch { /* the next click says it */ }
}

try { who.value = localStorage.getItem("who") ?? ""; } catch { /* private mode */ }
who.addEventListener("change", () => { try { localStorage.setItem("who", who.value); } catch { /* private mode */ } });
addEventListener("hashchange", () => { say(""); main.focus({ preventScroll: true }); show(); });
setInterval(follow, 5000);
show();
