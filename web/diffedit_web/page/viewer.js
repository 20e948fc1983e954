// One edit, from its submission to its result: what `#edit/ID` shows.

import * as api from "./api.js";
import { showEdit, showFailure, showLoading } from "./details.js";
import { announce, byId, el, plain, sentence, tell, visit } from "./dom.js";
import { TERMINAL, follow } from "./events.js";
import { fillForm, holds, holdsMaskOf, showForm } from "./form.js";
import { forget, noteState, refreshHistory } from "./history.js";
import { Mask } from "./mask.js";
import { stopPainting } from "./painter.js";
import { noteSearch } from "./searches.js";
import { hidePreview, showDrop, showMask, showPicture, showPreview, showResult } from "./stage.js";

/** The picture of the edit that this page has submitted last, so that it is not read back. @type {{id: string, file: Blob} | null} */
let own = null;

const maskToggle = el("input", { type: "checkbox", id: "show-mask" });
export const underResult = el(
  "div",
  { className: "row under-result", hidden: true },
  el("label", { className: "check", for: "show-mask" }, maskToggle, "Show where it changed"),
);

/** Remember the picture of an edit that was submitted here. @param {string} id @param {Blob} file */
export function rememberPicture(id, file) {
  own = { id, file };
}

/**
 * Show an edit until the signal says that something else is shown.
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {(mode: "form" | "details") => void} setMode
 */
export async function view(id, signal, setMode) {
  setMode("details");
  showLoading();
  stopPainting();
  underResult.hidden = true;
  document.title = "DiffEdit";
  try {
    let edit = await api.show(id);
    const file = own?.id === id ? own.file : await api.picture(id, "original");
    if (signal.aborted) return;
    const size = await showPicture(file, plain(edit.texts.source_prompt ?? "The original picture"));
    if (signal.aborted || !size) return;
    const shown = new Shown(id, size, signal);
    const update = async (/** @type {api.Edit} */ now) => {
      if (signal.aborted) return;
      edit = now;
      noteState(now);
      showEdit(now, offersOf(now, file, setMode));
      await shown.update(now);
    };
    await update(edit);
    if (!TERMINAL.has(edit.state)) {
      await follow(id, { signal, onStatus: update, onPreview: (uri) => shown.preview(uri) });
      if (!signal.aborted) refreshHistory();
    }
    if (signal.aborted) return;
    hidePreview();
    if (edit.goal === "mask" && edit.state === "succeeded") await correctMask(edit, file, signal, setMode);
  } catch (error) {
    if (signal.aborted) return;
    const gone = error instanceof api.Problem && error.code === "job_not_found";
    stopPainting();
    showDrop(); // the picture of another edit is none of this one
    document.title = "DiffEdit";
    const message = gone ? "This edit does not exist, or not for your key. Perhaps it was deleted" : /** @type {Error} */ (error).message;
    showFailure(message, [["Try again", () => location.reload()], ["New edit", startAnew]]);
    if (gone) refreshHistory();
  }
}

/** What of an edit is over the picture. */
class Shown {
  /** @param {string} id @param {[number, number]} size @param {AbortSignal} signal */
  constructor(id, size, signal) {
    [this.id, this.size, this.signal] = [id, size, signal];
    /** @type {Promise<Mask> | null} */
    this.mask = null;
    maskToggle.checked = false;
    maskToggle.onchange = () => this.toggle();
  }

  /** @param {api.Edit} edit */
  async update(edit) {
    const made = edit.stages.indexOf(edit.stage ?? "") > edit.stages.indexOf("mask");
    const ended = TERMINAL.has(edit.state);
    if (edit.state === "running" && made && !this.mask) {
      const mask = await this.load();
      if (!this.signal.aborted && !this.done && edit.stage !== "edit") showMask(mask);
    }
    if (!ended) return;
    this.done = true;
    showMask(null);
    if (edit.state !== "succeeded" || edit.goal === "mask") return;
    const [file, mask] = await Promise.all([api.picture(this.id, "result"), this.load()]);
    if (this.signal.aborted) return;
    // The line stands in the middle of what has changed.
    await showResult(file, plain(edit.texts.target_prompt ?? "The edited picture"), Math.round(100 * mask.middle));
    underResult.hidden = false;
  }

  /** @param {string} uri */
  async preview(uri) {
    const mask = await this.load();
    if (!this.signal.aborted && !this.done) await showPreview(uri, mask);
  }

  load() {
    return (this.mask ??= (async () => {
      const mask = new Mask(...this.size);
      await mask.load(await api.picture(this.id, "mask"));
      return mask;
    })());
  }

  async toggle() {
    const mask = maskToggle.checked ? await this.load() : null;
    if (!this.signal.aborted) showMask(maskToggle.checked ? mask : null);
  }
}

/**
 * Go on in the form with the mask that was found.
 * @param {api.Edit} edit
 * @param {Blob} file
 * @param {AbortSignal} signal
 * @param {(mode: "form" | "details") => void} setMode
 */
async function correctMask(edit, file, signal, setMode) {
  const known = holds(file); // what is filled in may be newer than the edit
  if (known && holdsMaskOf(edit.id)) {
    setMode("form");
    return showForm(); // with what was painted since
  }
  const maskFile = await api.picture(edit.id, "mask");
  if (signal.aborted) return;
  await fillForm(file, { ...(known ? {} : filledWith(edit)), maskFile, found: edit.id });
  if (signal.aborted) return;
  setMode("form");
  announce("The mask is found.");
}

/** Return what an edit fills the form with. @param {api.Edit} edit */
function filledWith({ texts, params }) {
  const [source, target] = [texts.source_prompt ?? texts.source_concept, texts.target_prompt ?? texts.target_concept];
  return { source: plain(source ?? ""), target: plain(target ?? ""), params };
}

/**
 * Return what can be done with an edit now.
 * @param {api.Edit} edit
 * @param {Blob} file its picture
 * @param {(mode: "form" | "details") => void} setMode
 * @returns {[string, () => unknown, string?][]}
 */
function offersOf(edit, file, setMode) {
  const { id, state } = edit;
  const again = guarded(async () => {
    const maskFile = edit.goal === "result" && !edit.stages.includes("mask") ? await api.picture(id, "mask") : null;
    history.pushState(null, "", "#");
    dispatchEvent(new CustomEvent("diffedit-form"));
    await fillForm(file, { ...filledWith(edit), maskFile });
    setMode("form");
    byId("target").focus();
  });
  if (!TERMINAL.has(state)) return [["Cancel", guarded(() => api.cancel(id)), ""], ["Copy the link", () => copyLink(id), "quiet"]];
  const remove = guarded(async () => {
    if (!confirm("Delete this edit and its pictures? This cannot be undone.")) return;
    await api.remove(id);
    if (!holds(file)) location.replace("#");
    else {
      history.replaceState(null, "", "#");
      startAnew(); // its picture is to be gone from here, too
    }
    await forget(id);
  });
  const retry = guarded(async () => {
    const next = await api.retry(id);
    if (next.goal === "mask") noteSearch(next.id);
    visit(`#edit/${next.id}`);
  });
  const common = /** @type {[string, () => unknown, string?][]} */ ([["Edit again", again], ["Delete", remove, "quiet danger"]]);
  if (state === "succeeded") return [["Download", () => download(id), "primary"], ["Copy the link", () => copyLink(id)], ...common];
  return [["Try it again", retry, "primary"], ...common];
}

/** Return a function that shows its error instead of raising it, and does nothing while it is at work. @param {() => unknown} act */
function guarded(act) {
  let busy = false;
  return async () => {
    if (busy) return;
    busy = true;
    try {
      await act();
    } catch (error) {
      tell(sentence(/** @type {Error} */ (error).message));
    } finally {
      busy = false;
    }
  };
}

const startAnew = () => byId("new-edit").click();

/** @param {string} id */
async function download(id) {
  await guarded(async () => {
    const address = URL.createObjectURL(await api.picture(id, "result"));
    el("a", { href: address, download: `diffedit-${id.slice(0, 8)}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  })();
}

/** @param {string} id */
async function copyLink(id) {
  const link = `${location.href.split("#")[0]}#edit/${id}`;
  try {
    await navigator.clipboard.writeText(link);
    tell("Copied. It opens for whoever may use this server; if it asks for keys, only with one of the same owner.");
  } catch {
    tell(`Copy this: ${link}`); // without HTTPS there is no clipboard
  }
}
