// Building blocks of every page: nodes, numbers, tables, formulas.

export const STATES = ["proposed", "accepted", "measured", "failed", "abandoned"];
const SVG = new Set(["svg", "path", "line", "text", "g", "circle", "title", "desc"]);

/** A node with attributes, listeners (`onclick`, ...) and children; what is null is left out. */
export function h(tag, attributes = {}, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((c) => c != null && c !== false));
  return node;
}

export const number = (v, digits = 3) => (v == null ? "–" : String(Number(Number(v).toPrecision(digits))));
export const spread = (mean, std) =>
  mean == null ? "–" : std == null ? number(mean, 4) : `${number(mean)} ± ${number(std, 2)}`;
export const when = (at) => at.replace("T", " ").slice(0, 16);

/** A formula with subscripts that breaks between elements only. */
export function formula(text) {
  const parts = text.match(/[A-Z][a-z]?[\d.]*/g) ?? [text];
  return h("span", { class: "formula" }, parts.map((part) => {
    const [, symbol, amount] = part.match(/^(\D+)([\d.]*)$/) ?? [null, part, ""];
    return [symbol, amount && h("sub", {}, amount), h("wbr")];
  }));
}

export const linkTo = (name, id) => (id ? h("a", { href: `#/${name}/p/${id}` }, id) : "–");

/** A table whose rows are cards on a phone. Columns: heading, value of a row, kind (`number`). */
export function table(caption, columns, rows, nothing = "Nothing yet.") {
  if (!rows.length) return h("p", { class: "soft" }, nothing);
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map(([name, , kind]) => h("th", { scope: "col", class: kind }, name || h("span", { class: "unseen" }, "actions"))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(([name, value, kind]) => h("td", { "data-name": name, class: kind }, value(row)))))),
  ));
}

export function facts(pairs) {
  return h("dl", {}, pairs.filter(([, v]) => v != null && v !== "").map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
}

/** A dialogue with a form; resolves to the values of its fields by name, or null when it is left. */
export function dialogue(title, content, confirm) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog", class: "stack" }, content,
      h("div", { class: "row" }, h("button", { class: "main", value: "yes" }, confirm), h("button", { value: "no", formnovalidate: true }, "Leave")));
    const box = h("dialog", { "aria-label": title }, h("h2", {}, title), form);
    box.addEventListener("close", () => {
      resolve(box.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null);
      box.remove();
    });
    document.body.append(box);
    box.showModal();
  });
}

export const field = (text, attributes = {}) => h("label", {}, text, h("input", { autocomplete: "off", ...attributes }));
