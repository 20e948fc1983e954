// Small helpers for elements. Text always becomes a text node: no data is ever read as markup.

/**
 * Return the element with this id.
 * @param {string} id
 * @returns {any}
 */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] Names with a dash, and `role`, are attributes; `on...` are listeners; null and undefined are left out.
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make a button. @param {string} text @param {() => unknown} onclick @param {string} [kind] */
export function button(text, onclick, kind = "") {
  return el("button", { type: "button", className: `button ${kind}`.trim(), onclick }, text);
}

let announced = "";

/** Have screen readers say something, once. @param {string} text */
export function announce(text) {
  if (text === announced) return;
  announced = text;
  byId("announcer").textContent = text;
}

/** Say something for some seconds. @param {string} text */
export function tell(text) {
  const toast = el("p", { className: "toast" }, text, button("Close", () => toast.remove(), "quiet"));
  document.querySelector(".toast")?.remove();
  document.body.append(toast);
  announce(text);
  setTimeout(() => toast.remove(), 8000);
}

/**
 * Return a text of a user as the page shows it: without the characters that turn the direction of what follows.
 * Its element has `dir="auto"`, so that the text keeps its own direction and turns nothing else.
 * @param {string} text
 */
export const plain = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");

/**
 * Show an error below what it is about, or remove it.
 * @param {string} id the id of the paragraph of the error
 * @param {string | null} text
 */
export function showError(id, text) {
  const paragraph = byId(id);
  paragraph.textContent = text ?? "";
  paragraph.hidden = !text;
  const field = byId(id.replace(/-error$/, ""));
  if (!field || !("value" in field)) return;
  if (text) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/** Return a text with a capital letter and a full stop, as a sentence. @param {string} text */
export function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/**
 * Go to an address of this page, at once. If `location.hash` were set, it would be shown a moment later, and a key that is
 * pressed in that moment would submit the form again.
 * @param {string} hash
 */
export function visit(hash) {
  history.pushState(null, "", hash);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
