// The fields of the form: what the server calls them, what they take, and how an edit fills them.

import { byId } from "./dom.js";

/** The fields of the page, and the names of the options that they are. */
const FIELDS = { source: "source_prompt", target: "target_prompt", preset: "preset", seed: "seed", strength: "strength", steps: "num_inference_steps" };
const TEXT = "Write at most 1000 characters, all of which can be seen.";
const whole = (/** @type {string} */ value) => (/^\d+$/.test(value) ? Number(value) : NaN);

/**
 * What a field takes, in words and as a check.
 * @type {Record<string, {words: string, takes?: (value: string) => boolean}>}
 */
const RULES = {
  source: { words: TEXT },
  target: { words: TEXT },
  seed: { words: "Give a whole number from 0 to 4294967295, or nothing for a random one.", takes: (value) => whole(value) < 2 ** 32 },
  strength: {
    words: "Give a number above 0, at most 1, such as 0.8.",
    takes: (value) => /^\d*\.?\d+$/.test(value) && Number(value) > 0 && Number(value) <= 1,
  },
  steps: { words: "Give a whole number from 1 to 500.", takes: (value) => whole(value) >= 1 && whole(value) <= 500 },
};

/** Return what is filled in. Many languages write a decimal comma. @param {string} id */
function valueOf(id) {
  const value = byId(id).value.trim();
  return id === "strength" ? value.replace(",", ".") : value;
}

/** Return what is filled in, under the names that the server knows. */
export function values() {
  const body = new FormData();
  for (const [id, name] of Object.entries(FIELDS)) {
    const value = valueOf(id);
    if (value) body.set(name, value);
  }
  if (!byId("profile-field").hidden) body.set("profile", byId("profile").value);
  return body;
}

/** Return the first field whose value the server would refuse, and why. @returns {[error: string, words: string] | null} */
export function wrongField() {
  for (const [id, { words, takes }] of Object.entries(RULES)) {
    const value = valueOf(id);
    if (value && takes && !takes(value)) return [`${id}-error`, words];
  }
  return null;
}

/** Return where an error of the server belongs, and how the page says it. @param {string} message @returns {[error: string, words: string]} */
export function placed(message) {
  const named = message.toLowerCase();
  const [id, name] = Object.entries(FIELDS).find(([, name]) => named.startsWith(`${name}:`)) ?? ["", ""];
  if (id) return [`${id}-error`, RULES[id]?.words ?? message.slice(name.length + 1).trim()];
  return [named.startsWith("the mask") || named.startsWith("mask:") ? "mask-error" : "form-error", message];
}

/** Empty all fields. */
export function resetFields() {
  byId("form").reset();
  byId("profile").dispatchEvent(new Event("change")); // its presets follow it
}

/** Fill in the options of an edit that the form has. @param {Record<string, any>} params */
export function fillOptions(params) {
  const profile = byId("profile");
  if ([...profile.options].some(({ value }) => value === params.profile)) profile.value = params.profile;
  profile.dispatchEvent(new Event("change"));
  for (const [id, name] of Object.entries(FIELDS)) if (name in params) byId(id).value = String(params[name] ?? "");
}
