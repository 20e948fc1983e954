// Paint the mask over the picture: with mouse, finger, pen or keys.

import { button, byId, el } from "./dom.js";
import { overlay, showMask } from "./stage.js";

const KEY_STEP = 0.02;
/** How far an arrow key moves the brush, in units of the picture's sides. With Shift it is four times as far. */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @type {import("./mask.js").Mask | null} */
let mask = null;
/** @type {(() => void) | null} */
let changed = null;
/** Where the brush is, in units of the picture's sides. @type {[number, number]} */
let at = [0.5, 0.5];
let drawing = false;

const ring = el("div", { className: "ring", hidden: true, "aria-hidden": "true" });
const size = el("input", { type: "range", id: "brush", min: "3", max: "50", value: "16", oninput: showRing });
const erase = el("input", { type: "radio", name: "tool", id: "erase" });
const paint = el("input", { type: "radio", name: "tool", id: "paint", checked: true });
const undo = button("Undo", () => takeBack());
const clear = button("Clear", () => once(() => mask?.clear()));
export const tools = el(
  "div",
  { className: "tools", hidden: true, role: "group", "aria-label": "Paint the mask" },
  el("div", { className: "switch", role: "radiogroup", "aria-label": "Tool" },
    paint, el("label", { for: "paint" }, "Paint"), erase, el("label", { for: "erase" }, "Erase")),
  el("label", { className: "brush-size", for: "brush" }, "Brush", size),
  el("div", { className: "row" }, undo, clear),
);

/** Put the brush into the page. */
export function setUpPainter() {
  byId("frame").append(ring);
  overlay.addEventListener("pointerdown", begin);
  overlay.addEventListener("pointermove", move);
  overlay.addEventListener("pointerup", end);
  overlay.addEventListener("pointercancel", end);
  overlay.addEventListener("pointerleave", () => (ring.hidden = document.activeElement !== overlay));
  overlay.addEventListener("focus", showRing);
  overlay.addEventListener("blur", () => {
    ring.hidden = true;
    drawing = false;
  });
  overlay.addEventListener("keydown", press);
  overlay.addEventListener("keyup", (event) => event.key === " " && (drawing = false));
  window.addEventListener("resize", () => !overlay.hidden && mask && showMask(mask));
}

/**
 * Let the user paint a mask.
 * @param {import("./mask.js").Mask} onto
 * @param {() => void} onChange called after each change
 */
export function startPainting(onto, onChange) {
  [mask, changed] = [onto, onChange];
  tools.hidden = false;
  overlay.classList.add("painting");
  overlay.tabIndex = 0;
  overlay.removeAttribute("aria-hidden");
  overlay.setAttribute("role", "application");
  overlay.setAttribute("aria-label", "Mask. Arrow keys move the brush, with Space held down they paint. Control and Z take back.");
  refresh();
}

/** Let the user look at the mask only. */
export function stopPainting() {
  mask = changed = null;
  tools.hidden = ring.hidden = true;
  overlay.classList.remove("painting");
  overlay.removeAttribute("tabindex");
  overlay.removeAttribute("role");
  overlay.removeAttribute("aria-label");
  overlay.setAttribute("aria-hidden", "true");
}

/** @param {PointerEvent} event */
function begin(event) {
  if (!mask || event.button !== 0) return;
  overlay.setPointerCapture(event.pointerId);
  drawing = true;
  at = placeOf(event);
  mask.remember();
  draw(at, at);
}

/** @param {PointerEvent} event */
function move(event) {
  if (!mask) return;
  // Between two frames a fast pen reports several places.
  for (const each of event.getCoalescedEvents?.() ?? []) follow(placeOf(each));
  follow(placeOf(event));
  showRing();
}

/** @param {[number, number]} place */
function follow(place) {
  if (drawing) draw(at, place);
  at = place;
}

function end() {
  if (drawing) changed?.();
  drawing = false;
}

/** @param {KeyboardEvent} event */
function press(event) {
  if (!mask) return;
  const direction = ARROWS[/** @type {keyof typeof ARROWS} */ (event.key)];
  if (direction) {
    const far = KEY_STEP * (event.shiftKey ? 4 : 1);
    const place = /** @type {[number, number]} */ (at.map((each, axis) => Math.min(1, Math.max(0, each + far * direction[axis]))));
    follow(place);
  } else if (event.key === " ") {
    if (!event.repeat) mask.remember();
    drawing = true;
    draw(at, at);
    changed?.();
  } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) takeBack();
  else return;
  event.preventDefault();
  showRing();
}

/** @param {[number, number]} from @param {[number, number]} to */
function draw(from, to) {
  mask?.stroke(from, to, Number(size.value) / 100, erase.checked);
  refresh();
}

/** Change the mask in one step that can be taken back. @param {() => void} change */
function once(change) {
  mask?.remember();
  change();
  refresh();
  changed?.();
}

function takeBack() {
  mask?.undo();
  refresh();
  changed?.();
}

function refresh() {
  if (!mask) return;
  showMask(mask);
  undo.disabled = !mask.canUndo;
}

function showRing() {
  const { width, height } = overlay.getBoundingClientRect();
  ring.hidden = !mask;
  ring.style.setProperty("--x", `${100 * at[0]}%`);
  ring.style.setProperty("--y", `${100 * at[1]}%`);
  ring.style.setProperty("--size", `${(Number(size.value) / 100) * Math.min(width, height)}px`);
}

/** @param {PointerEvent} event @returns {[number, number]} */
function placeOf(event) {
  const { left, top, width, height } = overlay.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height];
}
