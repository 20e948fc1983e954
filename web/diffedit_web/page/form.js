// The form: what the picture shows, what it should show, where it may change.

import * as api from "./api.js";
import { announce, byId, sentence, showError } from "./dom.js";
import { Mask } from "./mask.js";
import { startPainting, stopPainting } from "./painter.js";
import { showDrop, showMask, showPicture } from "./stage.js";

/** The fields of the page, and the names of the options that they are. */
const FIELDS = { source: "source_prompt", target: "target_prompt", preset: "preset", seed: "seed", strength: "strength", steps: "num_inference_steps" };
const ERRORS = ["source-error", "target-error", "preset-error", "seed-error", "strength-error", "steps-error", "mask-error", "picture-error", "form-error"];

/** @type {Blob | null} */
let picture = null;
/** @type {[number, number]} */
let size = [0, 0];
/** @type {Mask | null} */
let mask = null;

/** Whether there is a picture to edit. */
export const hasPicture = () => picture !== null;

/** Start with nothing. */
export function clearForm() {
  picture = mask = null;
  byId("form").reset();
  clearErrors();
  stopPainting();
  showMaskState();
  showDrop();
}

/**
 * Take a picture, and texts if they are known.
 * @param {Blob} file
 * @param {{source?: string | null, target?: string | null, maskFile?: Blob | null}} [given]
 */
export async function fillForm(file, { source, target, maskFile } = {}) {
  clearErrors();
  try {
    size = await showPicture(file, "The picture to edit");
  } catch {
    return showError("picture-error", "The browser cannot read this picture. Open it in an image program and save it again.");
  }
  picture = file;
  mask = null;
  stopPainting();
  if (source !== undefined) byId("source").value = source ?? "";
  if (target !== undefined) byId("target").value = target ?? "";
  if (maskFile) {
    mask = new Mask(...size);
    await mask.load(maskFile);
    showMask(mask);
  }
  showMaskState();
}

/**
 * Connect the form.
 * @param {(edit: api.Edit, picture: Blob) => void} submitted called with what was submitted
 */
export function setUpForm(submitted) {
  byId("form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    send("edits", submitted);
  });
  byId("find-mask").addEventListener("click", () => send("masks", submitted));
  byId("paint-mask").addEventListener("click", () => {
    if (byId("paint-mask").getAttribute("aria-pressed") === "true") return removeMask();
    mask ??= new Mask(...size);
    showMask(mask);
    startPainting(mask, showMaskState);
    showMaskState();
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
  stopPainting();
  showMask(null);
  showMaskState();
}

function showMaskState() {
  const pressed = mask !== null;
  const paint = byId("paint-mask");
  paint.setAttribute("aria-pressed", String(pressed));
  paint.textContent = pressed ? "Remove the mask" : "Paint";
  byId("find-mask").textContent = pressed ? "Find it again" : "Find it now";
  byId("mask-state").textContent = !mask
    ? "The model finds it by itself. You can look at it first, or paint it."
    : mask.touched
      ? "The striped part may change, the rest stays as it is."
      : "The model has found the striped part. Paint or erase to correct it.";
  if (mask && !mask.touched) startPainting(mask, showMaskState);
  showError("mask-error", null);
}

/** @param {"edits" | "masks"} route @param {(edit: api.Edit, picture: Blob) => void} submitted */
async function send(route, submitted) {
  clearErrors();
  if (!picture) {
    showError("picture-error", "Drop, choose or paste a picture first.");
    return byId("choose").focus();
  }
  if (!byId("target").value.trim()) return pointAt("target-error", "Say what the picture should show.");
  const buttons = [byId("submit"), byId("find-mask")];
  for (const each of buttons) each.disabled = true;
  byId("form").setAttribute("aria-busy", "true");
  try {
    const withMask = route === "edits" && mask;
    if (withMask && mask?.isEmpty) return pointAt("mask-error", "The mask selects nothing. Paint over what may change, or remove it.");
    announce("Sending the picture.");
    const body = fields();
    body.set("image", picture, "picture");
    if (withMask && mask) body.set("mask", await mask.toFile(), "mask.png");
    submitted(await api.submit(route, body), picture);
  } catch (error) {
    const message = sentence(/** @type {Error} */ (error).message);
    pointAt(errorOf(message), message);
  } finally {
    for (const each of buttons) each.disabled = false;
    byId("form").removeAttribute("aria-busy");
  }
}

/** Return what is filled in, under the names that the server knows. */
function fields() {
  const body = new FormData();
  for (const [id, name] of Object.entries(FIELDS)) {
    const value = byId(id).value.trim();
    if (value) body.set(name, value);
  }
  if (!byId("profile-field").hidden) body.set("profile", byId("profile").value);
  return body;
}

/** Return where an error of the server belongs: to the field that it names. @param {string} message */
function errorOf(message) {
  const named = message.toLowerCase();
  const field = Object.entries(FIELDS).find(([, name]) => named.startsWith(`${name}:`));
  if (field) return `${field[0]}-error`;
  if (named.startsWith("the mask") || named.startsWith("mask:")) return "mask-error";
  return "form-error";
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

export { showPictureError };

/** @param {string} text */
function showPictureError(text) {
  showError(picture ? "form-error" : "picture-error", text);
}
