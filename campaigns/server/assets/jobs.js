// Jobs in the background: started here, followed by server-sent events, cancelled.

import { h } from "./dom.js";
import { ask, at, say, write } from "./shell.js";

const watched = new Map();

/** Stop following, when another page is shown. */
export function unwatch() {
  for (const events of watched.values()) events.close();
  watched.clear();
}

export async function start(name, verb, options = {}) {
  try {
    const job = await ask(`${at(name)}/jobs`, { method: "POST", body: { verb, options } });
    say(`${verb} is running.`);
    location.hash = `#/${name}/jobs/${job.job_id}`;
  } catch (error) {
    say(error.message, true);
  }
}

export async function jobs(name) {
  const [status, all] = await Promise.all([ask(at(name)), ask(`jobs?campaign=${encodeURIComponent(name)}`)]);
  const button = (verb, text) => h("button", { disabled: status.read_only, onclick: () => start(name, verb) }, text);
  return [h("h1", {}, `${name}: jobs`),
    h("div", { class: "row" }, button("propose", "Propose a round"), button("finetune", "Learn from what was measured"), button("report", "Write the report")),
    all.length ? all.map((j) => jobCard(j)) : h("p", { class: "soft" }, "No job since this server was started.")].flat();
}

function jobCard(job) {
  const box = h("section", { class: "card", "aria-label": `${job.verb} ${job.job_id}` });
  const cancel = (j) => () => write(`${j.verb} is cancelled.`, () => ask(`jobs/${j.job_id}`, { method: "DELETE" }));
  const draw = (j) => box.replaceChildren(
    h("strong", {}, `${j.verb} ${j.job_id}`), ` ${j.state}, started by ${j.who}, ${Math.round(j.elapsed_s)} s`,
    j.state === "running" ? h("div", {}, h("progress", { max: j.total || 1, value: j.total ? j.done : null, "aria-label": `Progress of ${j.verb}` }),
      j.total ? `${j.done} of ${j.total}${j.remaining_s == null ? "" : `, about ${Math.ceil(j.remaining_s)} s to go`} ` : "",
      h("button", { onclick: cancel(j) }, "Cancel")) : "",
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
