// The page of one proposal: what is said of it, what came of it, and what one can do.

import { facts, formula, h, linkTo, number, spread, table, when } from "./dom.js";
import { measurements } from "./measurements.js";
import { laterCycles, profiles } from "./profile.js";
import { ask, at, failed, write } from "./shell.js";

export async function proposal(name, id) {
  const path = `${at(name)}/proposals/${encodeURIComponent(id)}`;
  const [status, p, near] = await Promise.all([ask(at(name)), ask(path), ask(`${path}/neighbours`)]);
  const known = status.objectives.map((o) => [`${o.label}, predicted`, p[`${o.key}_mean`] == null ? null : spread(p[`${o.key}_mean`], p[`${o.key}_std`])]);
  const versions = () => ({ [p.proposal_id]: p.version });
  return [
    h("h1", {}, `${p.proposal_id} `, formula(p.composition)),
    h("div", { class: "two" },
      h("div", {}, h("h2", {}, "Discharge"), profiles(p), laterCycles(p.measurements)),
      h("div", {}, facts([["State", p.state + (p.reason ? `: ${p.reason}` : "")], ["Phases", p.phases], ["As measured", p.analysed], ...known,
        ["Feasible", p.feasibility == null ? null : `${Math.round(100 * p.feasibility)} %`], ["Domain", p.domain]]),
        p.why && [h("h2", {}, "Why it was chosen"), h("p", {}, p.why)],
        status.read_only ? null : [markForm(name, p), dropZone(name, p)],
        h("h2", {}, "History"), h("ul", {}, p.history.map((e) => h("li", {}, `${when(e.at)} ${e.who}: ${e.summary || e.verb}`)))),
    ),
    h("h2", {}, "Measurements"), measurements(name, p.measurements, versions, status.read_only, "No cell of it came back yet."),
    h("h2", {}, "Neighbours"), neighbours(name, near),
  ];
}

function neighbours(name, rows) {
  return table("Neighbours", [["proposal", (r) => linkTo(name, r.proposal_id)], ["composition", (r) => formula(r.composition)],
    ["exchanged per f.u.", (r) => number(r.exchanged, 3), "number"], ["state", (r) => r.state],
    [rows[0]?.quantity ?? "", (r) => `${spread(r.mean, r.std)} ${r.source ?? ""}`, "number"]], rows, "It is the only composition so far.");
}

function markForm(name, p) {
  const state = h("select", {}, ["accepted", "failed", "abandoned", "proposed"].map((s) => h("option", { value: s }, s)));
  const reason = h("input", { maxlength: 1000, placeholder: "such as: two phases in XRD" });
  const phases = h("input", { maxlength: 400, placeholder: "rocksalt 80, Li3NbO4 20" });
  const send = (e) => {
    e.preventDefault();
    const body = { state: state.value, reason: reason.value, seen: { [p.proposal_id]: p.version } };
    if (phases.value.trim()) body.phases = phases.value;
    write(`${p.proposal_id} is ${state.value}.`, () => ask(`${at(name)}/proposals/${p.proposal_id}/mark`, { method: "POST", body }));
  };
  return [h("h2", {}, "What became of it"), h("form", { id: "mark", onsubmit: send }, h("label", {}, "State", state),
    h("label", {}, "Reason", reason), h("label", {}, "Phases found (may be empty)", phases), h("button", { class: "main" }, "Mark"))];
}

function dropZone(name, p) {
  const input = h("input", { type: "file", multiple: true, id: "files", onchange: () => check(input.files) });
  const mass = h("input", { type: "number", min: 0, step: "any" }), current = h("input", { type: "number", min: 0, step: "any" });
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
      const good = done.files.filter((f) => !["refused", "known"].includes(f.status));
      const record = () => write(`Recorded for ${p.proposal_id}.`, () => send(kept, false));
      shown.replaceChildren(
        h("ul", {}, done.files.map((f, i) => found(name, f, kept[i]))),
        h("div", { class: "row" }, h("button", { id: "record", class: "main", disabled: !good.length, onclick: record }, good.length ? "Record" : "Nothing to record"),
          h("button", { onclick: () => check(kept) }, "Check again")));
    } catch (error) {
      shown.replaceChildren(failed(error));
    }
  }
  const over = (on) => (e) => { e.preventDefault(); zone.classList.toggle("over", on); };
  const zone = h("div", { class: "drop", ondragover: over(true), ondragleave: over(false), ondrop: (e) => { over(false)(e); check(e.dataTransfer.files); } },
    h("label", {}, "Drop cycler files here, or choose: ", input),
    h("div", { class: "row" }, h("label", {}, "Active mass (mg)", mass), h("label", {}, "Discharge current (mA/g)", current)),
    h("p", { class: "soft" }, "Mass and current only where the files do not say them."), shown);
  return [h("h2", {}, "What was measured"), zone];
}

/** What a file holds and which rules it breaks, with its picture. */
function found(name, f, file) {
  const word = { recorded: "good", doubtful: "doubtful, waits for a person" }[f.status] ?? f.status;
  const item = h("li", { class: f.status === "refused" ? "bad-text" : null },
    `${f.file}: ${word}, ${f.discharges ?? 0} discharges${f.format ? ` (${f.format})` : ""}`,
    h("ul", {}, [...f.rules.map((r) => `${r.id}: ${r.message}`), ...f.notes].map((t) => h("li", {}, t))));
  if (file) picture(name, file).then((image) => image && item.append(image));
  return item;
}

async function picture(name, file) {
  const form = new FormData();
  form.append("file", file);
  try {
    const image = h("img", { class: "picture", alt: `What was read of ${file.name}: its rows, the discharge that counts, what is cut` });
    image.src = URL.createObjectURL(await ask(`${at(name)}/picture`, { method: "POST", form, blob: true }));
    return image;
  } catch {
    return null;  // a table of capacities has no picture; the rules above say what there is to say
  }
}
