// What is known of one edit: its state, its stages, its texts, and what can be done with it.

import { announce, byId, button, el, plain, sentence } from "./dom.js";
import { TERMINAL } from "./events.js";

const STAGES = {
  caption: "Describe the picture",
  prompts: "Write both sentences",
  embed: "Read the texts",
  mask: "Find what differs",
  invert: "Turn the picture into noise",
  edit: "Draw the new picture",
};
const SHORTEST = 5;
/** Seconds that are left at least when the page says how many: an estimate of fewer is no help. */
const TITLES = { succeeded: "Done", failed: "It failed", cancelled: "Cancelled", expired: "It expired" };

const title = el("h1", { className: "panel-title" });
const note = el("p", { className: "hint" });
const bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
const error = el("p", { className: "error" });
const stages = el("ol", { className: "stages" });
const texts = el("dl", { className: "texts" });
const actions = el("div", { className: "actions" });
let shown = "";

/** Put the elements into the page. */
export function setUpDetails() {
  byId("details").append(title, note, bar, error, stages, texts, actions);
}

/** Show that an edit is being read. */
export function showLoading() {
  shown = "";
  title.textContent = "One moment …";
  note.textContent = "";
  for (const each of [bar, error, stages]) each.hidden = true;
  texts.replaceChildren();
  actions.replaceChildren();
}

/** Show why an edit cannot be shown. @param {string} message @param {[string, () => unknown][]} offers */
export function showFailure(message, offers) {
  showLoading();
  title.textContent = "There is nothing to show";
  note.textContent = sentence(message);
  actions.append(...offers.map(([text, act]) => button(text, act)));
  announce(note.textContent);
}

/**
 * Show an edit at this moment.
 * @param {import("./api.js").Edit} edit
 * @param {[text: string, act: () => unknown, kind?: string][]} offers what can be done with it
 */
export function showEdit(edit, offers) {
  const ended = TERMINAL.has(edit.state);
  title.textContent = titleOf(edit);
  note.textContent = noteOf(edit);
  note.hidden = !note.textContent;
  bar.hidden = ended;
  bar.value = edit.progress;
  error.hidden = !edit.error;
  error.textContent = edit.error ? sentence(plain(edit.error.detail)) : "";
  showStages(edit, ended);
  document.title = `${ended ? title.textContent : `${Math.round(100 * edit.progress)} %`} · DiffEdit`;
  announce(ended && edit.error ? `${title.textContent}: ${error.textContent}` : title.textContent);
  // Not at every step, so that no button loses the focus.
  const now = `${edit.id} ${edit.state}`;
  if (now === shown) return;
  shown = now;
  texts.replaceChildren(...textsOf(edit).flatMap(([name, text]) => [el("dt", {}, name), el("dd", { dir: "auto" }, plain(text))]));
  actions.replaceChildren(...offers.map(([text, act, kind]) => button(text, act, kind)));
}

/** @param {import("./api.js").Edit} edit */
function titleOf(edit) {
  if (edit.state === "queued") return "Waiting for its turn";
  if (edit.state === "running") return STAGES[/** @type {keyof typeof STAGES} */ (edit.stage)] ?? "At work";
  return TITLES[/** @type {keyof typeof TITLES} */ (edit.state)];
}

/** @param {import("./api.js").Edit} edit */
function noteOf(edit) {
  const parts = [];
  if (edit.state === "queued" && edit.position !== null) parts.push(edit.position ? `${count(edit.position, "edit")} ahead` : "Next in line");
  if (edit.state === "running" && edit.steps) parts.push(`Step ${edit.step} of ${edit.steps}`);
  if (!TERMINAL.has(edit.state) && edit.eta !== null && edit.eta >= SHORTEST) parts.push(`about ${roughly(edit.eta)} left`);
  if (edit.state === "succeeded" && edit.started_at && edit.finished_at)
    parts.push(`Made in ${duration((Date.parse(edit.finished_at) - Date.parse(edit.started_at)) / 1000)}`);
  return parts.join(" · ");
}

/** @param {import("./api.js").Edit} edit @param {boolean} ended */
function showStages(edit, ended) {
  const at = edit.stages.indexOf(edit.stage ?? "");
  stages.hidden = edit.state === "succeeded";
  stages.replaceChildren(
    ...edit.stages.map((name, index) => {
      const made = edit.state === "succeeded" || index < at;
      const here = index === at && !ended;
      return el(
        "li",
        { className: made ? "made" : here ? "here" : "", "aria-current": here ? "step" : null },
        STAGES[/** @type {keyof typeof STAGES} */ (name)] ?? name,
        made && el("span", { className: "unseen" }, ", done"),
      );
    }),
  );
}

/** @param {import("./api.js").Edit} edit @returns {[string, string][]} */
function textsOf({ texts: given, params }) {
  /** @type {[string, string | null | undefined][]} */
  const known = [
    ["It shows", given.source_prompt ?? given.source_concept ?? given.caption ?? "described by the captioner"],
    ["It should show", given.target_prompt ?? given.target_concept],
    ["Seed", params.seed === undefined ? null : String(params.seed)],
  ];
  return known.filter(/** @returns {pair is [string, string]} */ (pair) => Boolean(pair[1]));
}

/** An estimate, as exact as it is. @param {number} seconds */
function roughly(seconds) {
  return seconds < 57.5 ? `${5 * Math.round(seconds / 5)} seconds` : count(Math.round(seconds / 60), "minute");
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 10) return `${Math.max(0.1, seconds).toFixed(1)} seconds`;
  return seconds < 90 ? `${Math.round(seconds)} seconds` : count(Math.round(seconds / 60), "minute");
}

/** @param {number} number @param {string} what */
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
