// What the pages do beyond links and forms; without it everything still works.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Times come in UTC; the reader may have them in their own zone, and always finds the other one in the title.
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
      // Forgotten with the page.
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
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    };
  }
}

function dress(root) {
  showTimes(root);
  showCopyButtons(root);
}

// The page at an address as a document; throws in words why there is none.
async function fetchPage(address, headers = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", redirect: "manual", headers });
  } catch {
    throw new Error("no connection");
  }
  // The only address that a page sends us away to by itself.
  if (answer.type === "opaqueredirect") throw new Error("sign in again");
  if (!answer.ok) throw new Error("no answer");
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

const FOCUSABLE = "a[href], [tabindex]";

// What was focused and how far it was scrolled stays so in what takes its place.
function replaceById(page, id) {
  const fresh = page.getElementById(id);
  const present = document.getElementById(id);
  if (!fresh || !present || fresh.innerHTML === present.dataset.html) return;
  const focused = all(FOCUSABLE, present).indexOf(document.activeElement);
  const scrolled = all(".scroll", present).map((part) => [part.scrollLeft, part.scrollTop]);
  const html = fresh.innerHTML;
  present.replaceWith(fresh);
  fresh.dataset.html = html;
  dress(fresh);
  all(".scroll", fresh).forEach((part, n) => scrolled[n] && part.scrollTo(...scrolled[n]));
  if (focused >= 0) all(FOCUSABLE, fresh)[focused]?.focus({ preventScroll: true });
}

// Live parts: fetched again every few seconds while the page is looked at, and not under the reader's hands.
const PAUSE = 3000;
const HANDS = "input, select, textarea, button, summary";
const lives = all("[data-live]").map((part) => part.id);
let fresh = new Date();
let next;

function isBusy(part) {
  const focused = document.activeElement;
  return (part.contains(focused) && focused.matches(HANDS)) || part.querySelector("details[open]") !== null;
}

// An old page must not pass for the present state.
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
  const text = `Not fresh since ${since} ${inOwnZone ? ownZone : "UTC"}: ${why}.`;
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
    // Nobody may be looking: this does not keep the session alive.
    const page = await fetchPage(location.href, { "X-Refresh": "1" });
    fresh = new Date();
    for (const id of lives) {
      const part = document.getElementById(id);
      if (part && !isBusy(part)) replaceById(page, id);
    }
    tellFreshness("");
  } catch (error) {
    tellFreshness(error.message);
  }
  next = setTimeout(refresh, PAUSE);
}

if (lives.length) {
  // A hidden page asks for nothing; it is fresh as soon as it is seen again.
  document.addEventListener("visibilitychange", refresh);
  next = setTimeout(refresh, PAUSE);
}

// Escape closes what was opened and goes back to where it was opened from.
document.addEventListener("keydown", (event) => {
  const opened = event.key === "Escape" && document.activeElement.closest("details[open]");
  if (!opened) return;
  opened.open = false;
  opened.querySelector("summary").focus();
});

// The refund panel: presets fill the amount, and every change shows what will happen.
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
  // A browser that goes back may have filled the form in: what is told must be about what is in it now.
  window.addEventListener("pageshow", show);
  for (const chip of all("[data-amount]", form)) {
    chip.addEventListener("click", (event) => {
      event.preventDefault();
      form.elements.credits.value = chip.dataset.amount;
      show();
    });
  }
}

// Better nothing than what was true of another amount.
function notKnown(why) {
  const page = new DOMParser().parseFromString('<section id="preview" class="card preview"></section>', "text/html");
  const told = page.createElement("p");
  told.className = "notice warn";
  told.textContent = `What will happen can't be told now: ${why}.`;
  page.getElementById("preview").append(told);
  return page;
}

// What the sign of a correction means, with the figures of this customer.
function explainSign(field) {
  const told = document.getElementById("sign");
  const untouched = told.textContent;
  const [balance, available] = [Number(field.dataset.sign), Number(field.dataset.available)];
  const format = (figure) => figure.toLocaleString("en");
  const explain = () => {
    const text = field.value.trim().replace("−", "-");
    if (!text || /^[+-]$/.test(text)) return untouched;
    if (!/^[+-]?\d+$/.test(text)) return "Write a whole number, such as 50 or −50.";
    const credits = Number(text);
    if (!credits) return untouched;
    if (credits < -available) {
      return `Takes ${format(-credits)} credits off: more than the ${format(available)} available, so it will be refused.`;
    }
    const after = `the balance goes from ${format(balance)} to ${format(balance + credits)}.`;
    return credits > 0 ? `Puts ${format(credits)} credits on: ${after}` : `Takes ${format(-credits)} credits off: ${after}`;
  };
  const show = () => (told.textContent = explain());
  field.addEventListener("input", show);
  window.addEventListener("pageshow", show);
}

// A form is sent once; its id makes sure of that on the other side as well.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 5000);
});
window.addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => delete form.dataset.sent));

// What was just done is told once: not again when the page is loaded again or its address is sent to somebody.
const address = new URL(location.href);
if (address.searchParams.has("done")) {
  address.searchParams.delete("done");
  history.replaceState(history.state, "", address);
}

document.documentElement.classList.add("script");
dress(document);
all("form[data-preview]").forEach(livePreview);
all("[data-sign]").forEach(explainSign);
all("#zone").forEach(offerOwnZone);
// Where the menu is one line, it shows where we are.
all("nav [aria-current=page]").forEach((here) => here.scrollIntoView({ block: "nearest", inline: "center" }));
