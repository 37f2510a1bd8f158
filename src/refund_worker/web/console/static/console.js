// Everything that the pages do beyond links and forms; they also work without it.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Times arrive in UTC; the reader can show them in their own zone, and the title always has the other one.
const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
let inOwnZone = remembered("zone") === "own";

function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function asText(moment, zone) {
  const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return moment.toLocaleString("sv", { ...parts, timeZone: zone });
}

function showTimes(root) {
  for (const time of all("time[datetime]", root)) {
    const moment = new Date(time.dateTime);
    if (isNaN(moment)) continue;
    const [utc, own] = [asText(moment, "UTC"), asText(moment, ownZone)];
    time.textContent = inOwnZone ? own : utc;
    time.title = inOwnZone ? `${utc} UTC` : `${own} ${ownZone}`;
  }
  for (const zone of all(".zone", root)) zone.textContent = inOwnZone ? ownZone : "UTC";
}

function offerOwnZone(button) {
  if (ownZone === "UTC" && !inOwnZone) return;
  const tell = () => {
    button.textContent = inOwnZone ? "Show times in UTC" : `Show times in ${ownZone}`;
    showTimes(document);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    inOwnZone = !inOwnZone;
    try {
      localStorage.setItem("zone", inOwnZone ? "own" : "utc");
    } catch {
      // Not stored: the choice lasts as long as this page.
    }
    tell();
  });
  tell();
}

function showCopyButtons(root) {
  if (!navigator.clipboard) return;
  for (const button of all("[data-copy]", root)) {
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      const label = button.innerHTML;
      button.textContent = "Copied";
      setTimeout(() => (button.innerHTML = label), 1500);
    };
  }
}

function dress(root) {
  showTimes(root);
  showCopyButtons(root);
}

// Returns the page at an address as a document; throws an error that says why there is none.
async function fetchPage(address, headers = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", redirect: "manual", headers });
  } catch {
    throw new Error("no connection");
  }
  // Pages redirect only to the sign-in page.
  if (answer.type === "opaqueredirect") throw new Error("sign in again");
  if (!answer.ok) throw new Error("no answer");
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

const FOCUSABLE = "a[href], button, summary, [tabindex]";
// The HTML of each live part as the server sent it.
const shown = new Map();

// What identifies an element in the next version of its part: never its place, where another row may be by then.
function keyOf(element) {
  const row = element.closest("tr[id], li[id], section[id]")?.id ?? "";
  const name = element.getAttribute("href") ?? element.id;
  return name || element.getAttribute("aria-label") ? [element.tagName, row, name, element.getAttribute("aria-label")].join(" ") : null;
}

// Focus and scroll position are kept in the part that replaces the old one.
function replaceById(page, id) {
  const fresh = page.getElementById(id);
  const present = document.getElementById(id);
  if (!fresh || !present || fresh.innerHTML === shown.get(id)) return;
  const focused = present.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const scrolled = all(".scroll", present).map((part) => [part.scrollLeft, part.scrollTop]);
  shown.set(id, fresh.innerHTML);
  present.replaceWith(fresh);
  dress(fresh);
  showSelection();
  all(".scroll", fresh).forEach((part, n) => scrolled[n] && part.scrollTo(...scrolled[n]));
  if (focused) all(FOCUSABLE, fresh).find((element) => keyOf(element) === focused)?.focus({ preventScroll: true });
}

// Rows that a person selects stay selected in the next version of the list, and also when they have left it.
const selectionForm = document.getElementById("selection");
const selected = new Set();
const boxes = () => all('tbody input[form="selection"]');

function hiddenField(id) {
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name: "selected", value: id });
  return field;
}

function showSelection() {
  if (!selectionForm) return;
  const listed = boxes();
  for (const box of listed) box.checked = selected.has(box.value);
  const gone = [...selected].filter((id) => !listed.some((box) => box.value === id));
  document.getElementById("gone").replaceChildren(...gone.map(hiddenField));
  const everything = document.getElementById("select-all");
  everything.checked = listed.length > 0 && listed.every((box) => box.checked);
  everything.indeterminate = !everything.checked && listed.some((box) => box.checked);
  const left = gone.length ? `, ${gone.length} of them no longer in this list` : "";
  selectionForm.classList.toggle("some", selected.size > 0);
  document.getElementById("selected").textContent = `${selected.size} selected${left}`;
}

function select(chosen) {
  for (const box of chosen) box.checked ? selected.add(box.value) : selected.delete(box.value);
  showSelection();
}

function offerSelection(form) {
  for (const part of all("[hidden]", form)) part.hidden = false;
  document.addEventListener("change", ({ target }) => {
    if (target.id === "select-all") {
      for (const box of boxes()) box.checked = target.checked;
      select(boxes());
    } else if (target.getAttribute("form") === form.id) {
      select([target]);
    }
  });
  document.getElementById("select-none").addEventListener("click", () => {
    selected.clear();
    showSelection();
  });
  // After going back, the browser may have ticked boxes.
  window.addEventListener("pageshow", () => select(boxes().filter((box) => box.checked)));
}

// Live parts are fetched again every few seconds while the page is visible, except where the reader is typing or clicking.
const PAUSE = 3000;
const HANDS = "input, select, textarea, button, summary";
const canHover = matchMedia("(hover: hover)").matches;
const lives = all("[data-live]").map((part) => part.id);
// The result of a form has no address of its own: its parts come from the page that `data-from` names.
const source = document.querySelector("[data-from]")?.dataset.from ?? location.href;
for (const id of lives) shown.set(id, document.getElementById(id).innerHTML);
let fresh = new Date();
let next;

// A row must not move away under the pointer or the focus: Enter or a click would then act on another one.
function isBusy(part) {
  const focused = document.activeElement;
  if (part.contains(focused) && (focused.matches(HANDS) || focused.closest("tbody, .holds"))) return true;
  return part.querySelector("details[open]") !== null || (canHover && part.querySelector("tbody:hover, .holds:hover") !== null);
}

// The reader learns that a part waits. The note lies above the page, so that it moves nothing either.
function tellHeld(waits) {
  const told = document.getElementById("held");
  if (!waits || told) {
    if (!waits) told?.remove();
    return;
  }
  const note = document.createElement("p");
  note.id = "held";
  note.className = "notice warn";
  note.setAttribute("role", "status");
  note.textContent = "This page has changed. The new version appears when the pointer and the focus leave the list.";
  document.body.append(note);
}

// The reader must not take an old page for the present state.
function tellFreshness(why) {
  let told = document.getElementById("stale");
  if (!why) {
    told?.remove();
    return;
  }
  if (!told) {
    told = document.createElement("p");
    told.id = "stale";
    told.className = "notice warn";
    told.setAttribute("role", "status");
    document.getElementById("main").prepend(told);
  }
  const since = asText(fresh, inOwnZone ? ownZone : "UTC").slice(11);
  const text = `Not updated since ${since} ${inOwnZone ? ownZone : "UTC"}: ${why}.`;
  if (told.textContent === text) return;
  told.textContent = text;
  if (why !== "sign in again") return;
  const link = document.createElement("a");
  link.href = location.href;
  link.textContent = why;
  told.replaceChildren(text.slice(0, -why.length - 1), link, ".");
}

async function refresh() {
  clearTimeout(next);
  if (document.hidden) return;
  try {
    // This request does not keep the session alive: the page may be open with no one reading it.
    const page = await fetchPage(source, { "X-Refresh": "1" });
    fresh = new Date();
    let waits = false;
    for (const id of lives) {
      const part = document.getElementById(id);
      if (!part || !isBusy(part)) replaceById(page, id);
      else waits ||= (page.getElementById(id)?.innerHTML ?? shown.get(id)) !== shown.get(id);
    }
    tellHeld(waits);
    tellFreshness("");
  } catch (error) {
    tellFreshness(error.message);
  }
  next = setTimeout(refresh, PAUSE);
}

if (lives.length) {
  // A hidden page fetches nothing; it is updated as soon as it is visible again.
  document.addEventListener("visibilitychange", refresh);
  next = setTimeout(refresh, PAUSE);
}

// Escape closes an open section and puts the focus back on its summary.
document.addEventListener("keydown", (event) => {
  const opened = event.key === "Escape" && document.activeElement.closest("details[open]");
  if (!opened) return;
  opened.open = false;
  opened.querySelector("summary").focus();
});

// The refund panel: presets fill in the amount, and every change updates the preview.
function livePreview(form) {
  let waiting;
  let latest = 0;
  const ask = async () => {
    const number = ++latest;
    const filled = new FormData(form);
    const query = new URLSearchParams();
    for (const name of ["id", "credits", "to", "currency"]) {
      if (filled.has(name)) query.set(name, filled.get(name));
    }
    let page;
    try {
      page = await fetchPage(`${form.dataset.preview}?${query}`);
      if (!page.getElementById("preview")) throw new Error("no answer");
    } catch (error) {
      page = notKnown(error.message);
    }
    if (number === latest) replaceById(page, "preview");
  };
  const show = () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 200);
  };
  form.addEventListener("input", show);
  // After going back, the browser may have filled the form in: the preview must match what is in it now.
  window.addEventListener("pageshow", show);
  for (const chip of all("[data-amount]", form)) {
    chip.addEventListener("click", (event) => {
      event.preventDefault();
      form.elements.credits.value = chip.dataset.amount;
      show();
    });
  }
}

// No preview is better than the preview of another amount.
function notKnown(why) {
  const page = new DOMParser().parseFromString('<section id="preview" class="card preview"></section>', "text/html");
  const told = page.createElement("p");
  told.className = "notice warn";
  told.textContent = `The preview is not available now: ${why}.`;
  page.getElementById("preview").append(told);
  return page;
}

// Explains the sign of a correction, with the figures of this customer.
function explainSign(field) {
  const told = document.getElementById("sign");
  const untouched = told.textContent;
  const [balance, available, payable] = ["sign", "available", "payable"].map((name) => Number(field.dataset[name]));
  const form = field.form;
  const format = (figure) => figure.toLocaleString("en");
  const explain = () => {
    const text = field.value.trim().replace("−", "-").replace(/[, \u00a0\u202f](?=\d{3}(?!\d))/g, "");
    if (!text || /^[+-]$/.test(text)) return untouched;
    if (!/^[+-]?\d+$/.test(text)) return "Enter a whole number, such as 50 or −50.";
    const credits = Number(text);
    if (!credits) return untouched;
    if (credits < -available) {
      return `Removes ${format(-credits)} credits: more than the ${format(available)} available, so it will be refused.`;
    }
    if (credits < -payable && form.elements.purpose?.value === "payout") {
      return `Removes ${format(-credits)} credits: at most ${format(payable)} can be paid out at once, so it will be refused. Choose a part, or another use.`;
    }
    const after = `the balance goes from ${format(balance)} to ${format(balance + credits)}.`;
    return credits > 0 ? `Adds ${format(credits)} credits: ${after}` : `Removes ${format(-credits)} credits: ${after}`;
  };
  const show = () => (told.textContent = explain());
  form.addEventListener("input", show);
  window.addEventListener("pageshow", show);
}

// A form is sent once; the server makes sure of it too, by the form's id.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 5000);
});
window.addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => delete form.dataset.sent));

document.documentElement.classList.add("script");
dress(document);
all("form[data-preview]").forEach(livePreview);
all("[data-sign]").forEach(explainSign);
all("#zone").forEach(offerOwnZone);
all("#selection").forEach(offerSelection);
// On narrow screens the menu shows only the current page until it is opened.
all("#menu").forEach((button) =>
  button.addEventListener("click", () => {
    const open = document.getElementById("pages").classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
  })
);
