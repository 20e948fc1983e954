"use strict";
const rows = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const main = $("rows"), dialog = $("compare"), stage = dialog.querySelector(".stage");

// Every text is set as text, never as HTML: names and prompts are those of users.
function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const share = value => value === undefined ? "" : (100 * value).toFixed(1) + " %";
const SORTS = {
  "Order of the manifest": row => row.n,
  "Name": row => row.name.toLowerCase(),
  "Mask": row => row.mask,
  "Change in the mask": row => row.change,
  "Seconds": row => row.seconds,
  "Error": row => row.code,
};
const STATES = {all: "All", done: "Done", failed: "Failed", pending: "Not done"};
const shown = {state: "all", words: [], sort: "Order of the manifest", down: false, rows: []};

const pictures = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    pictures.unobserve(entry.target);
    for (const image of entry.target.querySelectorAll("img")) show(image, entry.target.row[image.dataset.slot]);
  }
}, {rootMargin: "800px"});

function show(image, data) {
  image.onload = () => image.classList.toggle("small", image.naturalWidth < 160);
  if (data) image.src = "data:image/webp;base64," + data; else image.removeAttribute("src");
}

function picture(row, slot, label) {
  const figure = element("figure");
  if (row[slot + "Picture"]) {
    const image = element("img");
    image.dataset.slot = slot + "Picture";
    image.alt = label;
    figure.append(image);
  } else {
    figure.append(element("div", "empty", "not kept"));
  }
  figure.append(element("figcaption", "", label));
  return figure;
}

function card(row) {
  const article = element("article");
  article.row = row;
  article.tabIndex = -1;
  const button = element("button", "pictures");
  button.type = "button";
  button.setAttribute("aria-label", "Compare before and after of " + row.name);
  button.disabled = !row.afterPicture;
  button.append(picture(row, "before", "before"), picture(row, "mask", "mask"), picture(row, "after", "after"));
  button.addEventListener("click", () => compare(row));
  // A row that failed has nothing to look at.
  const bare = row.state !== "done" && !row.beforePicture;
  article.classList.toggle("bare", bare);
  article.append(...(bare ? [] : [button]), facts(row));
  return article;
}

function facts(row) {
  const made = element("div", "facts"), heading = element("h2");
  heading.append(element("span", "number", row.n));
  const name = element(row.file ? "a" : "span", "", row.name);
  if (row.file) name.href = row.file;
  heading.append(name);
  if (row.state !== "done") heading.append(element("span", "badge " + row.state, STATES[row.state].toLowerCase()));
  made.append(heading);
  const wish = element("p", "wish");
  if (row.from) wish.append(element("span", "from", row.from + " → "));
  wish.append(element("span", "to", row.to));
  made.append(wish);
  if (row.code) made.append(element("p", "error", row.code + ": " + row.message));
  if (row.state === "done") made.append(scores(row));
  if (row.params) made.append(element("p", "params", row.params));
  return made;
}

function scores(row) {
  const list = element("dl", "scores");
  const values = {"mask": share(row.mask), "change in it": share(row.change), "seconds": row.seconds?.toFixed(2), "stages found": row.found};
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === "") continue;
    const pair = element("div");
    pair.append(element("dt", "", name), element("dd", "", value));
    list.append(pair);
  }
  return list;
}

for (const row of rows) {
  row.text = [row.name, row.from, row.to, row.code, row.message, row.params].join("\n").toLowerCase();
  row.card = card(row);
}

function refresh() {
  const key = SORTS[shown.sort];
  shown.rows = rows.filter(row => (shown.state === "all" || row.state === shown.state) && shown.words.every(word => row.text.includes(word)));
  const missing = value => value === undefined || value === null || value === "";
  shown.rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a.n - b.n;
    return (x < y ? -1 : x > y ? 1 : a.n - b.n) * (shown.down ? -1 : 1);
  });
  main.replaceChildren(...shown.rows.map(row => row.card));
  shown.rows.forEach(row => pictures.observe(row.card));
  $("none").hidden = shown.rows.length > 0;
  $("shown").textContent = shown.rows.length + " of " + rows.length;
  for (const button of document.querySelectorAll(".states button")) button.setAttribute("aria-pressed", button.dataset.state === shown.state);
}

for (const [state, label] of Object.entries(STATES)) {
  const number = state === "all" ? rows.length : rows.filter(row => row.state === state).length;
  if (!number) continue;
  const button = element("button", "", label + " " + number);
  button.type = "button";
  button.dataset.state = state;
  button.addEventListener("click", () => { shown.state = state; refresh(); });
  document.querySelector(".states").append(button);
}
for (const name of Object.keys(SORTS)) $("sort").append(element("option", "", name));
$("sort").addEventListener("change", event => { shown.sort = event.target.value; refresh(); });
$("order").addEventListener("click", () => { shown.down = !shown.down; $("order").textContent = shown.down ? "↓" : "↑"; refresh(); });
$("find").addEventListener("input", event => { shown.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean); refresh(); });
$("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

let compared = null;
function compare(row) {
  compared = row;
  $("compare-title").textContent = row.n + "  " + row.name;
  show(stage.querySelector(".before"), row.beforePicture);
  show(stage.querySelector(".after"), row.afterPicture);
  show(stage.querySelector(".mask"), row.maskPicture);
  $("compare-text").textContent = row.to;
  stage.querySelector(".after").addEventListener("load", event => {
    stage.style.setProperty("--shape", event.target.naturalWidth / event.target.naturalHeight);
  }, {once: true});
  slide(50);
  if (!dialog.open) dialog.showModal();
  $("slider").focus();
}
function slide(value) { $("slider").value = value; stage.style.setProperty("--cut", value + "%"); }
function neighbour(step) {
  const comparable = shown.rows.filter(row => row.afterPicture), at = comparable.indexOf(compared) + step;
  if (comparable[at]) compare(comparable[at]);
}
$("slider").addEventListener("input", event => slide(event.target.value));
$("show-mask").addEventListener("change", event => { stage.querySelector(".mask").hidden = !event.target.checked; });
$("previous").addEventListener("click", () => neighbour(-1));
$("next").addEventListener("click", () => neighbour(1));
$("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => compared?.card.focus());
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], select");
  if (event.key === "/" && !typing && !dialog.open) { event.preventDefault(); $("find").focus(); return; }
  if (event.key === "Escape" && event.target === $("find")) { $("find").blur(); return; }
  const step = {j: 1, k: -1}[event.key.toLowerCase()];
  if (step && !typing) {
    if (dialog.open) { neighbour(step); return; }
    const at = shown.rows.findIndex(row => row.card.contains(document.activeElement)) + step;
    const row = shown.rows[Math.max(0, Math.min(at, shown.rows.length - 1))];
    row?.card.focus({preventScroll: true});
    row?.card.scrollIntoView({block: "nearest"});
  }
  if (event.key === "Enter" && event.target.matches("article") && event.target.row.afterPicture) { event.preventDefault(); compare(event.target.row); }
});
refresh();
document.querySelector(".pages [aria-current]")?.scrollIntoView({block: "nearest", inline: "center"});
