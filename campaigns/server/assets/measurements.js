// Measurements, and the buttons that confirm, correct or retract them.

import { dialogue, field, h, linkTo, number, table } from "./dom.js";
import { corrected } from "./profile.js";
import { ask, at, say, write } from "./shell.js";

const send = (name, m, verb, body, seen) =>
  write(`${m.measurement_id}: ${{ confirm: "confirmed", retract: "retracted", supersede: "corrected" }[verb]}.`,
    () => ask(`${at(name)}/measurements/${m.measurement_id}/${verb}`, { method: "POST", body: { ...body, seen } }));

async function confirm(name, m, seen) {
  const said = await dialogue(`Confirm ${m.measurement_id}`, [
    h("p", {}, `${number(m.capacity_mah_g, 4)} mAh/g at ${m.current_ma_g} mA/g counts from now on.`),
    m.doubt && h("p", { class: "soft" }, m.doubt), field("It is right, because (may be empty)", { name: "reason", maxlength: 1000 })], "Confirm");
  if (said) send(name, m, "confirm", { reason: said.reason }, seen);
}

async function retract(name, m, seen) {
  const said = await dialogue(`Retract ${m.measurement_id}`, [h("p", {}, "It stays in the ledger and counts no more."),
    field("Because", { name: "reason", required: true, maxlength: 1000 })], "Retract");
  if (said) send(name, m, "retract", { reason: said.reason }, seen);
}

/** Correct a measurement: with the curve, as it is and as it would be; by the active mass, or by the capacity where there is no curve. */
async function correct(name, m, seen) {
  let curve = null;
  try {
    curve = (await ask(`${at(name)}/proposals/${m.proposal_id}`)).measured.find((c) => c.measurement_id === m.measurement_id) ?? null;
  } catch (error) {
    say(error.message, true);
    return;
  }
  const shown = h("div", {}), result = h("p", { "aria-live": "polite" });
  const mass = (text, of) => field(text, { name: of, type: "number", min: 0, step: "any", required: true });
  const fields = curve ? [h("div", { class: "row" }, mass("Active mass was (mg)", "was"), mass("and is (mg)", "is"))]
    : [field("Right capacity (mAh/g)", { name: "capacity", type: "number", min: 0, step: "any", required: true, value: m.capacity_mah_g })];
  const form = h("div", { class: "stack" }, shown, fields, result, field("Why", { name: "reason", required: true, maxlength: 1000 }));
  const input = (of) => Number(form.querySelector(`[name=${of}]`).value);
  const draw = () => {
    const factor = curve && input("was") > 0 && input("is") > 0 ? input("was") / input("is") : 1;
    if (curve) shown.replaceChildren(corrected(curve, factor));
    result.textContent = curve ? `${number(m.capacity_mah_g, 4)} mAh/g becomes ${number(m.capacity_mah_g * factor, 4)}.` : `It is ${number(m.capacity_mah_g, 4)} mAh/g now.`;
  };
  form.addEventListener("input", draw);
  draw();
  const said = await dialogue(`Correct ${m.measurement_id} (cell ${m.cell})`, form, "Correct");
  if (!said) return;
  const change = curve ? { scale: Number(said.was) / Number(said.is) } : { changes: { capacity_mah_g: Number(said.capacity) } };
  send(name, m, "supersede", { reason: said.reason, ...change }, seen);
}

function buttons(name, m, seen, readOnly) {
  if (readOnly || !["valid", "doubtful"].includes(m.status)) return null;
  const button = (text, act) => h("button", { onclick: () => act(name, m, seen(m)), "aria-label": `${text} ${m.measurement_id}` }, text);
  return h("span", { class: "row" }, m.status === "doubtful" && button("Confirm", confirm), button("Correct", correct), button("Retract", retract));
}

/** A table of measurements. `seen` gives the versions that the page shows of a measurement's proposal. */
export function measurements(name, rows, seen, readOnly, nothing, caption = "Measurements") {
  return table(caption, [
    ["id", (m) => m.measurement_id], ["proposal", (m) => linkTo(name, m.proposal_id)], ["cell", (m) => m.cell], ["cycle", (m) => m.cycle, "number"],
    ["mA/g", (m) => number(m.current_ma_g, 4), "number"], ["mAh/g", (m) => number(m.capacity_mah_g, 4), "number"],
    ["status", (m) => m.status], ["why", (m) => m.doubt || m.withdrawn_reason || ""], ["", (m) => buttons(name, m, seen, readOnly)],
  ], rows, nothing);
}
