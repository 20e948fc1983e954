// The picture in the middle: what is edited, where it may change, how it forms, and before and after.

import { byId, el } from "./dom.js";

const LARGEST_SCALE = 8;
/** A picture of few pixels is shown enlarged, so many times at most. */

const before = el("img", { className: "before", alt: "" });
const after = el("img", { className: "after", alt: "", hidden: true });
const forming = el("canvas", { className: "forming", hidden: true, role: "img", "aria-label": "The picture as it forms" });
const overlay = el("canvas", { className: "overlay", hidden: true, "aria-hidden": "true" });
const slider = el("input", {
  type: "range",
  className: "slider",
  id: "slider",
  min: "0",
  max: "100",
  hidden: true,
  "aria-label": "Slide between before and after",
  oninput: () => cut(Number(slider.value)),
});
const handle = el("div", { className: "handle", hidden: true, "aria-hidden": "true" }, el("span"));
const tags = [
  el("span", { className: "tag tag-before", hidden: true, "aria-hidden": "true" }, "Before"),
  el("span", { className: "tag tag-after", hidden: true, "aria-hidden": "true" }, "After"),
];

/** The addresses of the pictures that are shown, by element, to be given back. @type {Map<HTMLImageElement, string>} */
const addresses = new Map();

export { overlay };

/** Counts what is shown, so that a picture that is decoded late does not replace a newer one. */
let turn = 0;

/** Put the elements into the page. */
export function setUpStage() {
  byId("frame").append(before, forming, after, overlay, slider, handle, ...tags);
}

/** Show the place for a picture instead of a picture. */
export function showDrop() {
  turn++;
  byId("drop").hidden = false;
  byId("mat").hidden = byId("under").hidden = true;
}

/**
 * Show a picture, and nothing over it.
 * @param {Blob} file
 * @param {string} description
 * @param {number} [most] pixels that it may have
 * @returns {Promise<[number, number] | null>} its width and height in pixels; null if something else is shown meanwhile
 * @throws {DOMException} the browser cannot read it
 * @throws {RangeError} it has more pixels
 */
export async function showPicture(file, description, most = Infinity) {
  const mine = ++turn;
  const size = await put(before, file, (wide, high) => {
    if (mine === turn && wide * high > most) throw new RangeError(`${wide} x ${high} pixels`);
    return mine === turn;
  });
  if (mine !== turn) return null;
  before.alt = description;
  const frame = byId("frame");
  frame.style.setProperty("--ratio", String(size[0] / size[1]));
  frame.style.setProperty("--largest", `${size[0] * LARGEST_SCALE}px`);
  byId("drop").hidden = true;
  byId("mat").hidden = byId("under").hidden = false;
  hideResult();
  hidePreview();
  showMask(null);
  return size;
}

/**
 * Show how the picture forms, where it may change: the rest stays as it is.
 * @param {string} uri a preview, as a data URI
 * @param {import("./mask.js").Mask} mask
 */
export async function showPreview(uri, mask) {
  const mine = turn;
  const preview = new Image();
  preview.src = uri;
  await preview.decode();
  if (mine !== turn || !after.hidden) return; // something else is shown, or the result came first
  fit(forming);
  mask.cutOut(preview, forming);
  forming.hidden = false;
  showMask(null);
}

/** Show no preview any more. */
export function hidePreview() {
  forming.hidden = true;
}

/**
 * Show the result beside the original, with the slider between.
 * @param {Blob} file
 * @param {string} description
 * @param {number} start where the slider stands first, in percent
 */
export async function showResult(file, description, start) {
  const mine = turn;
  await put(after, file);
  if (mine !== turn) return; // something else is shown by now
  after.alt = description;
  hidePreview();
  for (const element of [after, slider, handle, ...tags]) element.hidden = false;
  byId("frame").classList.add("compared");
  cut(start);
}

/** Show a mask over the picture, or none. @param {import("./mask.js").Mask | null} mask */
export function showMask(mask) {
  overlay.hidden = !mask;
  if (!mask) return;
  fit(overlay);
  mask.show(overlay, getComputedStyle(overlay).getPropertyValue("--mask").trim());
}

/** Give a canvas the pixels of the screen that the picture takes. @param {HTMLCanvasElement} canvas */
function fit(canvas) {
  const { width, height } = byId("frame").getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
}

function hideResult() {
  for (const element of [after, slider, handle, ...tags]) element.hidden = true;
  byId("frame").classList.remove("compared");
}

/** Move the line between before and after. @param {number} percent */
function cut(percent) {
  slider.value = String(percent);
  slider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
  byId("frame").style.setProperty("--cut", `${percent}%`);
  byId("frame").style.setProperty("--rest", `${100 - percent}%`);
}

/**
 * @param {HTMLImageElement} image
 * @param {Blob} file
 * @param {(wide: number, high: number) => boolean} [wanted] whether to show it, of its size in pixels
 * @returns {Promise<[number, number]>}
 */
async function put(image, file, wanted = () => true) {
  const address = URL.createObjectURL(file);
  const loaded = new Image();
  loaded.src = address;
  /** What is not needed any more. @type {string | undefined} */
  let old = address;
  try {
    await loaded.decode();
    if (wanted(loaded.naturalWidth, loaded.naturalHeight)) {
      old = addresses.get(image);
      image.src = address;
      addresses.set(image, address);
    }
  } finally {
    if (old) URL.revokeObjectURL(old);
  }
  return [loaded.naturalWidth, loaded.naturalHeight];
}
