// What is around a page: the API that it calls, what it is told, who writes.

import { h } from "./dom.js";

export const main = document.getElementById("main");
export const nav = document.getElementById("nav");
export const who = document.getElementById("who");
const told = document.getElementById("told");

export function say(sentence, bad = false) {
  told.textContent = sentence;
  told.className = bad ? "bad" : "";
}

/** Say what others did, beside what is said of one's own writing. */
export function tellNews(sentence) {
  document.getElementById("news").textContent = sentence;
}

/** Call the API; an error is the sentence that it answered. */
export async function ask(path, { method = "GET", body, form, blob = false } = {}) {
  const headers = { "X-Who": encodeURIComponent(who.value.trim() || "somebody").slice(0, 350) };
  if (body) headers["Content-Type"] = "application/json";
  if (method === "POST") headers["Idempotency-Key"] = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
  let answer;
  try {
    answer = await fetch(`api/${path}`, { method, headers, body: form ?? (body && JSON.stringify(body)) });
  } catch {
    throw new Error("The server does not answer. Nothing was written by this page.");
  }
  if (answer.ok && blob) return answer.blob();
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

export const at = (name) => `campaigns/${encodeURIComponent(name)}`;

let show = async () => {};
export const onShow = (draw) => { show = draw; };

let writes = 0;
/** Whether something is being written by this page. */
export const writing = () => writes > 0;

/** Carry out a write; say what came of it, and show the page again. */
export async function write(sentence, work) {
  writes++;
  try {
    await work();
    await show();
    say(sentence);
  } catch (error) {
    say(error.message, true);
  } finally {
    writes--;
  }
}

export const failed = (error) => h("p", { class: "bad-text" }, error.message);
