// The page: the address decides what is shown; every view and button calls the API that /openapi.json describes, and nothing else.

import { h } from "./dom.js";
import { figures } from "./figures.js";
import { jobs, unwatch } from "./jobs.js";
import { board, data, log, models, overview, ranking } from "./pages.js";
import { proposal } from "./proposal.js";
import { ask, at, failed, main, nav, onShow, say, tellNews, who, writing } from "./shell.js";

const PAGES = { board: "Board", ranking: "Ranking", figures: "Figures", data: "Data", models: "Models", jobs: "Jobs", log: "Log" };
const DRAW = { board, p: proposal, ranking, figures, data, models, jobs, log };
let shownEvent = null, drawn = 0;

const address = () => location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);

async function show() {
  const mine = ++drawn;
  shownEvent = null;
  const [name, page, ...rest] = address();
  unwatch();
  const here = page === "p" ? "board" : page;
  nav.replaceChildren(...(name ? Object.entries(PAGES).map(([key, text]) => h("a", { href: `#/${name}/${key}`, "aria-current": here === key ? "page" : null }, text)) : []));
  document.title = name ? `${page === "p" ? rest[0] : PAGES[page] ?? ""} ${name} – drx-screen` : "drx-screen";
  try {
    const content = name ? await (DRAW[page] ?? board)(name, ...rest.map((part) => part || undefined)) : await overview();
    if (mine !== drawn) return;
    main.replaceChildren(...content);
    tellNews("");
    shownEvent = name ? (await ask(at(name))).event : null;
  } catch (error) {
    if (mine === drawn) main.replaceChildren(h("h1", {}, "drx-screen"), failed(error));
  }
  if (mine === drawn) document.body.dataset.ready = location.hash || "#/";
}

/** Whether something would be lost by showing the page again: a field in use or filled in, a checked file, a question. */
function typing() {
  const fields = [...main.querySelectorAll("input, textarea, select")];
  return fields.some((f) => f === document.activeElement || (f.defaultValue !== undefined && f.value !== f.defaultValue))
    || main.querySelector("#record") || document.querySelector("dialog");
}

// Somebody else wrote: show it at once where nothing is being typed, else say so.
async function follow() {
  const [name] = address();
  if (!name || document.hidden || shownEvent === null || writing()) return;
  const before = shownEvent, mine = drawn;
  try {
    const { event } = await ask(at(name));
    if (event === before || mine !== drawn || writing()) return;  // what this page wrote meanwhile is no news
    if (!typing()) await show();
    else tellNews("Somebody wrote meanwhile; reload to see it. What you send is checked against what you see.");
  } catch { /* the next click says it */ }
}

onShow(show);
try { who.value = localStorage.getItem("who") ?? ""; } catch { /* private mode */ }
who.addEventListener("change", () => { try { localStorage.setItem("who", who.value); } catch { /* private mode */ } });
addEventListener("hashchange", () => { say(""); main.focus({ preventScroll: true }); show(); });
setInterval(follow, 5000);
show();
