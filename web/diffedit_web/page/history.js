// The edits of this key, the newest first.

import * as api from "./api.js";
import { byId, el, plain, sentence, showError } from "./dom.js";
import { TERMINAL } from "./events.js";

const STATES = { queued: "waiting", running: "at work", failed: "failed", cancelled: "cancelled", expired: "expired" };

const FEW = 12;
/** Edits that are listed at least, if there are so many. */
const MOST_PAGES = 10;
/** Pages that are read at once at most. */
const PAUSE = 3000;
/** Milliseconds until the states of edits that are not done are read again. */

/** The listed edits, with their states. @type {Map<string, {edit: api.Edit, item: HTMLLIElement}>} */
const listed = new Map();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** The thumbnails that were read, by edit. @type {Map<string, string>} */
const thumbnails = new Map();
/** @type {string | null} */
let cursor = null;
let current = "";
let paged = false;
/** Counts the requests, so that a late answer does not replace a newer one. */
let asked = 0;

/** Show the first page of the history again. */
export async function refreshHistory() {
  await read(null);
}

/** Show what other tabs have submitted, unless the user has paged on, and how far all listed edits are. */
export async function refreshFirstPage() {
  if (paged) await readStates();
  else await read(null);
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
    /** @type {api.Edit[]} */
    const edits = [];
    let next = from;
    for (let page = 0; page < MOST_PAGES && edits.length < FEW && (next || !page); page++) {
      const answer = await api.list(next);
      if (mine !== asked) return;
      next = answer.next_cursor;
      // A mask that was only looked at is no edit of its own.
      edits.push(...answer.data.filter((edit) => edit.goal === "result"));
    }
    cursor = next;
    paged = from !== null;
    if (!from) for (const id of [...listed.keys()]) if (!edits.some((edit) => edit.id === id)) listed.delete(id);
    show(edits, from !== null);
    showError("past-error", null);
    refreshLater();
  } catch (error) {
    fail(error, mine);
  }
}

/** Read the listed edits again that have not ended. */
async function readStates() {
  const mine = ++asked;
  try {
    const edits = [];
    for (const { edit } of unfinished()) edits.push(await api.show(edit.id));
    if (mine !== asked) return;
    for (const edit of edits) listed.get(edit.id)?.item.replaceWith(itemOf(edit));
    refreshLater();
  } catch (error) {
    fail(error, mine);
  }
}

const unfinished = () => [...listed.values()].filter(({ edit }) => !TERMINAL.has(edit.state));

/** Read again soon, while there is something to wait for and somebody looks. */
function refreshLater() {
  clearTimeout(timer);
  if (!unfinished().length) return;
  timer = setTimeout(() => (document.visibilityState === "hidden" ? refreshLater() : refreshFirstPage()), PAUSE);
}

/** @param {unknown} error @param {number} mine */
function fail(error, mine) {
  if (mine !== asked) return;
  if (error instanceof api.Problem && error.code === "job_not_found") return void read(null); // deleted elsewhere
  showError("past-error", sentence(/** @type {Error} */ (error).message));
  if (error instanceof api.Problem && error.retryable) refreshLater();
}

/** @param {api.Edit[]} edits @param {boolean} more whether they come after those that are listed */
function show(edits, more) {
  const list = byId("past-list");
  const items = edits.map(itemOf);
  const same = !more && items.length === list.children.length && items.every((item, index) => item === list.children[index]);
  const focused = list.contains(document.activeElement) && document.activeElement?.getAttribute("href");
  if (more) list.append(...items);
  else if (!same) list.replaceChildren(...items);
  if (focused && !same) list.querySelector(`a[href="${focused}"]`)?.focus({ preventScroll: true });
  byId("more").hidden = !cursor;
  byId("past").hidden = byId("to-history").hidden = !list.children.length && !cursor;
}

/** Return the tile of an edit, the same one while its state is the same. @param {api.Edit} edit @returns {HTMLLIElement} */
function itemOf(edit) {
  const known = listed.get(edit.id);
  if (known?.edit.state === edit.state) return known.item;
  const done = edit.state === "succeeded";
  const image = el("img", { alt: "", hidden: true, width: 160, height: 160 });
  const target = edit.texts.target_prompt ?? `${edit.texts.source_concept} → ${edit.texts.target_concept}`;
  const state = done ? null : el("span", { className: `past-state ${edit.state}` }, STATES[/** @type {keyof typeof STATES} */ (edit.state)]);
  const link = el(
    "a",
    { href: `#edit/${edit.id}`, className: "past-item" },
    el("span", { className: "past-picture" }, image, state),
    el("span", { className: "past-text", dir: "auto" }, plain(target)),
  );
  mark(link);
  if (done) showThumbnail(edit.id, image);
  const item = el("li", {}, link);
  listed.set(edit.id, { edit, item });
  return item;
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
