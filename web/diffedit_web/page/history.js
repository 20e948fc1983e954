// The edits of this key, the newest first.

import * as api from "./api.js";
import { byId, el, sentence, showError } from "./dom.js";

const STATES = { queued: "waiting", running: "at work", failed: "failed", cancelled: "cancelled", expired: "expired" };

/** The thumbnails that were read, by edit. @type {Map<string, string>} */
const thumbnails = new Map();
/** @type {string | null} */
let cursor = null;
let current = "";
let pages = 0;
/** Counts the requests, so that a late answer does not replace a newer one. */
let asked = 0;

/** Show the first page of the history again. */
export async function refreshHistory() {
  await read(null);
}

/** Show what other tabs have submitted, unless the user has paged on. */
export async function refreshFirstPage() {
  if (pages === 1) await read(null);
}

/** Mark the edit that is shown. @param {string} id */
export function markCurrent(id) {
  current = id;
  for (const link of byId("past-list").querySelectorAll("a")) mark(link);
}

/** Show the state of an edit that has not ended yet. @param {api.Edit} edit */
export function noteState(edit) {
  const label = byId("past-list").querySelector(`a[href="#edit/${edit.id}"] .past-state`);
  if (label) label.textContent = STATES[/** @type {keyof typeof STATES} */ (edit.state)] ?? "";
}

/** Forget a deleted edit. @param {string} id */
export async function forget(id) {
  const address = thumbnails.get(id);
  if (address) URL.revokeObjectURL(address);
  thumbnails.delete(id);
  await refreshHistory();
}

/** Put the history into the page. */
export function setUpHistory() {
  byId("more").addEventListener("click", () => read(cursor));
  byId("to-history").addEventListener("click", () => {
    byId("past").scrollIntoView();
    byId("past").focus({ preventScroll: true });
  });
}

/** @param {string | null} from */
async function read(from) {
  const mine = ++asked;
  try {
    const { data, next_cursor } = await api.list(from);
    if (mine !== asked) return;
    cursor = next_cursor;
    pages = from ? pages + 1 : 1;
    // A mask that was only looked at is no edit of its own.
    const items = data.filter((edit) => edit.goal === "result").map(itemOf);
    const list = byId("past-list");
    const focused = list.contains(document.activeElement) && document.activeElement?.getAttribute("href");
    if (from) list.append(...items);
    else list.replaceChildren(...items);
    if (focused) list.querySelector(`a[href="${focused}"]`)?.focus({ preventScroll: true });
    byId("more").hidden = !cursor;
    byId("past").hidden = byId("to-history").hidden = !list.children.length;
    showError("past-error", null);
  } catch (error) {
    showError("past-error", sentence(/** @type {Error} */ (error).message));
  }
}

/** @param {api.Edit} edit */
function itemOf(edit) {
  const done = edit.state === "succeeded";
  const image = el("img", { alt: "", hidden: true, width: 160, height: 160 });
  const target = edit.texts.target_prompt ?? `${edit.texts.source_concept} → ${edit.texts.target_concept}`;
  const state = done ? null : el("span", { className: `past-state ${edit.state}` }, STATES[/** @type {keyof typeof STATES} */ (edit.state)]);
  const link = el(
    "a",
    { href: `#edit/${edit.id}`, className: "past-item" },
    el("span", { className: "past-picture" }, image, state),
    el("span", { className: "past-text" }, target),
  );
  mark(link);
  if (done) showThumbnail(edit.id, image);
  return el("li", {}, link);
}

/** @param {HTMLAnchorElement} link */
function mark(link) {
  if (link.hash === `#edit/${current}`) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/** @param {string} id @param {HTMLImageElement} image */
async function showThumbnail(id, image) {
  try {
    if (!thumbnails.has(id)) thumbnails.set(id, URL.createObjectURL(await api.picture(id, "thumbnail")));
    image.src = /** @type {string} */ (thumbnails.get(id));
    image.hidden = false;
  } catch {
    // It was deleted meanwhile; the list without it comes with the next refresh.
  }
}
