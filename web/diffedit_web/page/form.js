// The form: what the picture shows, what it should show, where it may change.

import * as api from "./api.js";
import { announce, byId, sentence, showError, tell } from "./dom.js";
import { fillOptions, placed, resetFields, values, wrongField } from "./fields.js";
import { Mask } from "./mask.js";
import { startPainting, stopPainting } from "./painter.js";
import { showDrop, showMask, showPicture } from "./stage.js";

const ERRORS = ["source-error", "target-error", "preset-error", "seed-error", "strength-error", "steps-error", "mask-error", "picture-error", "form-error"];
const DESCRIPTION = "The picture to edit";
const MOST_PIXELS = 40_000_000;
/** Pixels of a picture that the server takes. */

/** @type {Blob | null} */
let picture = null;
/** @type {[number, number]} */
let size = [0, 0];
/** @type {Mask | null} */
let mask = null;
/** Stands for the request that is being sent: one at a time. @type {object | null} */
let sending = null;
/** Counts the changes of the form. */
let version = 0;
/** Counts the pictures that are given, so that one that is read late does not replace a newer one. */
let given = 0;

/** @typedef {(edit: api.Edit, picture: Blob, since: {left: boolean, changed: boolean}) => void} Submitted called with what was submitted, and what became of the form since */

/** Whether there is a picture to edit. */
export const hasPicture = () => picture !== null;

/** Whether this picture is in the form. @param {Blob} file */
export const holds = (file) => picture === file;

/** Whether the mask that this edit has found is in the form. @param {string} id */
export const holdsMaskOf = (id) => mask !== null && mask.found === id;

/** Start with nothing. What is being sent is sent. */
export function clearForm() {
  version++;
  given++;
  picture = mask = null;
  release();
  resetFields();
  clearErrors();
  stopPainting();
  showMaskState();
  showDrop();
}

/** Show the picture and the mask of the form as they were left. */
export async function showForm() {
  stopPainting();
  if (!picture) return showDrop();
  if (await showPicture(picture, DESCRIPTION) && !byId("form").hidden) paintOn();
}

/**
 * Take a picture, and what else is known. If the picture cannot be taken, the form stays as it is and says why.
 * @param {Blob} file
 * @param {{source?: string | null, target?: string | null, maskFile?: Blob | null, found?: string, params?: Record<string, any>}} [known]
 *   `found` is the edit that has found the mask. With `params`, nothing of the form stays as it was.
 * @returns {Promise<boolean>} whether it was taken
 */
export async function fillForm(file, { source, target, maskFile, found = "", params } = {}) {
  const mine = ++given;
  clearErrors();
  let shown;
  try {
    shown = await showPicture(file, DESCRIPTION, MOST_PIXELS);
  } catch (error) {
    if (mine !== given) return true;
    const large = error instanceof RangeError;
    showPictureError(large
      ? "The picture has more than 40 megapixels. Make it smaller."
      : "The browser cannot read this picture. Open it in an image program and save it again.");
    return false;
  }
  if (!shown || mine !== given) return true; // a newer one
  version++;
  [picture, size, mask] = [file, shown, null];
  stopPainting();
  if (params) {
    release();
    resetFields();
    fillOptions(params);
  }
  if (source !== undefined) byId("source").value = source ?? "";
  if (target !== undefined) byId("target").value = target ?? "";
  if (maskFile) {
    const drawn = new Mask(...size);
    await drawn.load(maskFile);
    if (mine !== given) return true;
    drawn.found = found;
    mask = drawn;
  }
  paintOn();
  return true;
}

/** Connect the form. @param {Submitted} submitted */
export function setUpForm(submitted) {
  byId("form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    send("edits", submitted);
  });
  byId("form").addEventListener("input", () => version++);
  byId("find-mask").addEventListener("click", () => send("masks", submitted));
  byId("paint-mask").addEventListener("click", () => {
    if (byId("paint-mask").getAttribute("aria-pressed") === "true") return removeMask();
    mask ??= new Mask(...size);
    version++;
    paintOn();
    document.querySelector(".overlay")?.scrollIntoView({ block: "nearest" });
  });
  for (const name of ["source", "target"]) {
    byId(name).addEventListener("input", () => showError(`${name}-error`, null));
    byId(name).addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
    });
  }
}

function removeMask() {
  mask = null;
  version++;
  stopPainting();
  showMask(null);
  showMaskState();
}

/** Show the mask, if there is one, and let the user paint it. */
function paintOn() {
  showMask(mask);
  if (mask) startPainting(mask, painted);
  showMaskState();
}

function painted() {
  version++;
  showMaskState();
}

function showMaskState() {
  const pressed = mask !== null;
  const paint = byId("paint-mask");
  paint.setAttribute("aria-pressed", String(pressed));
  paint.textContent = pressed ? "Remove the mask" : "Paint";
  byId("find-mask").textContent = pressed ? "Find it again" : "Find it now";
  byId("mask-state").textContent = stateOf(mask);
  showError("mask-error", null);
}

/** @param {Mask | null} mask */
function stateOf(mask) {
  if (!mask) return "The model finds it by itself. You can look at it first, or paint it.";
  if (mask.isEmpty) return "Paint over what may change.";
  if (mask.found && !mask.touched) return "The model has found the striped part. Paint or erase to correct it.";
  return "The striped part may change, the rest stays as it is.";
}

/** @param {"edits" | "masks"} route @param {Submitted} submitted */
async function send(route, submitted) {
  if (sending || byId("form").hidden) return;
  clearErrors();
  if (!picture) {
    showError("picture-error", "Drop, choose or paste a picture first.");
    return byId("choose").focus();
  }
  if (!byId("target").value.trim()) return pointAt("target-error", "Say what the picture should show.");
  const wrong = wrongField();
  if (wrong) return pointAt(...wrong);
  const sentMask = route === "edits" ? mask : null;
  if (sentMask?.isEmpty) return pointAt("mask-error", "The mask selects nothing. Paint over what may change, or remove it.");
  // The form may be changed while this is on its way.
  const [mine, sent, asItWas] = [{}, picture, version];
  hold(mine);
  const left = () => sending !== mine || picture !== sent || byId("form").hidden;
  try {
    announce("Sending the picture.");
    const body = values();
    body.set("image", sent, "picture");
    if (sentMask) body.set("mask", await sentMask.toFile(), "mask.png");
    const edit = await api.submit(route, body);
    submitted(edit, sent, { left: left(), changed: version !== asItWas });
  } catch (error) {
    const message = sentence(/** @type {Error} */ (error).message);
    if (left()) tell(`Your edit was not submitted. ${message}`);
    else pointAt(...placed(message));
  } finally {
    if (sending === mine) release();
  }
}

/** @param {object} request */
function hold(request) {
  sending = request;
  for (const id of ["submit", "find-mask"]) byId(id).disabled = true;
  byId("form").setAttribute("aria-busy", "true");
}

function release() {
  sending = null;
  for (const id of ["submit", "find-mask"]) byId(id).disabled = false;
  byId("form").removeAttribute("aria-busy");
}

/** @param {string} id @param {string} text */
function pointAt(id, text) {
  showError(id, text);
  const field = byId(id.replace(/-error$/, ""));
  if (byId("options").contains(byId(id))) byId("options").open = true;
  if (field && "value" in field) field.focus();
  announce(text);
}

function clearErrors() {
  for (const id of ERRORS) showError(id, null);
}

/** Say why a picture is not taken, where it is seen. @param {string} text */
export function showPictureError(text) {
  if (byId("form").hidden) return tell(text);
  showError(picture ? "form-error" : "picture-error", text);
}
