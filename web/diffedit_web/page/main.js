// The page: it shows what its address says, a form or an edit, and joins the parts.

import { setUpDetails } from "./details.js";
import { announce, button, byId, el, sentence, tell, visit } from "./dom.js";
import { clearForm, fillForm, hasPicture, setUpForm, showForm, showPictureError } from "./form.js";
import { markCurrent, refreshFirstPage, refreshHistory, setUpHistory } from "./history.js";
import { choose, setUpIntake } from "./intake.js";
import { NoKey, setUpKey } from "./key.js";
import { modelServed, showModels } from "./models.js";
import { setUpPainter, tools } from "./painter.js";
import { offerSamples, showSamples } from "./samples.js";
import { dropSearches, isSearch, noteSearch } from "./searches.js";
import { setUpStage } from "./stage.js";
import { rememberPicture, underResult, view } from "./viewer.js";

const EDIT = /^#edit\/([0-9a-f]{32})$/;
/** The edit in the address, or "". */
const addressed = () => EDIT.exec(location.hash)?.[1] ?? "";

let showing = new AbortController();
let connected = false;
const replace = el("div", { className: "row replace" }, button("Another picture", choose, "quiet"));

/** Show the form or the details of an edit beside the picture. @param {"form" | "details"} mode */
function setMode(mode) {
  const form = mode === "form";
  byId("form").hidden = !form;
  byId("details").hidden = form;
  replace.hidden = !form;
  if (form) {
    underResult.hidden = true;
    document.title = "DiffEdit";
  }
  arrange();
}

/** Show the introduction only while there is nothing else. */
function arrange() {
  const empty = !byId("form").hidden && !hasPicture();
  document.body.classList.toggle("empty", empty);
  byId("intro").hidden = !empty;
  offerSamples(empty);
}

/** Show what the address says: an edit, or the form as it was left. */
function route() {
  showing.abort();
  showing = new AbortController();
  const id = addressed();
  markCurrent(id);
  if (id) return view(id, showing.signal, setMode);
  setMode("form");
  return showForm();
}

/** Give the form an address of its own. That of a mask that was looked at is replaced: it is deleted soon. */
function leaveEdit() {
  if (isSearch(addressed())) history.replaceState(null, "", "#");
  else if (location.hash) history.pushState(null, "", "#");
}

/** Go to the form with a picture. @param {Blob} file @param {{source?: string | null, target?: string | null}} [texts] */
async function take(file, texts) {
  showing.abort();
  leaveEdit();
  markCurrent("");
  setMode("form");
  if (!(await fillForm(file, texts))) await showForm();
  else dropSearches();
  arrange();
  if (hasPicture() && matchMedia("(hover: hover)").matches) byId(texts ? "submit" : "source").focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

/** Go on after something was submitted. @type {import("./form.js").Submitted} */
function submitted(edit, picture, { left, changed }) {
  const search = edit.goal === "mask";
  if (search) noteSearch(edit.id);
  if (search && left) return void dropSearches(addressed());
  rememberPicture(edit.id, picture);
  // Who has begun something else is not taken away from it.
  if (left || (changed && !search)) tell("Your edit is submitted. You find it below, in “Your edits”.");
  else {
    if (isSearch(addressed())) history.replaceState(null, "", "#");
    visit(`#edit/${edit.id}`);
  }
  refreshHistory();
  dropSearches(addressed());
}

/** Offer the samples of the served models. @param {string[]} served */
async function offer(served) {
  await showSamples(served, (file, scene) => take(file, { source: scene.source_prompt, target: scene.target_prompt }));
  arrange();
}

async function connect() {
  byId("model").classList.remove("error");
  try {
    const served = await showModels();
    await offer(served);
    await refreshHistory();
    connected = true;
    if (!served.length) {
      await modelServed();
      await offer(await showModels());
    }
  } catch (error) {
    const message = sentence(/** @type {Error} */ (error).message);
    const again = error instanceof NoKey ? "Enter the key" : "Try again";
    byId("model").replaceChildren(`${message} `, button(again, start, "quiet"));
    announce(message);
  }
}

function start() {
  connect();
  route();
}

setUpStage();
byId("under").append(tools, underResult, replace);
setUpDetails();
setUpPainter();
setUpHistory();
setUpKey();
setUpIntake(take, showPictureError);
setUpForm(submitted);
byId("new-edit").addEventListener("click", (/** @type {Event} */ event) => {
  event.preventDefault();
  clearForm();
  leaveEdit();
  route();
  dropSearches();
});
window.addEventListener("hashchange", route);
window.addEventListener("diffedit-form", () => {
  showing.abort();
  markCurrent("");
});
document.addEventListener("visibilitychange", () => connected && document.visibilityState === "visible" && refreshFirstPage());
start();
