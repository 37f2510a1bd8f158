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

async function fetchPage(address) {
  const answer = await fetch(address, { credentials: "same-origin", redirect: "manual" });
  if (!answer.ok) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function replaceById(page, id) {
  const fresh = page.getElementById(id);
  const present = document.getElementById(id);
  if (!fresh || !present || fresh.innerHTML === present.dataset.html) return;
  present.replaceWith(fresh);
  fresh.dataset.html = fresh.innerHTML;
  dress(fresh);
}

// Live parts: fetched again every few seconds while the page is looked at, and not under the reader's hands.
const PAUSE = 3000;
const lives = all("[data-live]").map((part) => part.id);
let next;

async function refresh() {
  clearTimeout(next);
  if (document.hidden) return;
  try {
    const page = await fetchPage(location.href);
    for (const id of page ? lives : []) {
      const part = document.getElementById(id);
      const busy = part && (part.contains(document.activeElement) || part.querySelector("details[open]"));
      if (!busy) replaceById(page, id);
    }
  } catch {
    // Offline for a moment: the next time will do.
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
  const show = () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const query = new URLSearchParams();
      for (const name of ["id", "credits", "to", "currency"]) {
        const value = new FormData(form).get(name);
        if (value) query.set(name, value);
      }
      const answer = await fetch(`${form.dataset.preview}?${query}`, { credentials: "same-origin", redirect: "manual" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replaceById(page, "preview");
    }, 200);
  };
  form.addEventListener("input", show);
  for (const chip of all("[data-amount]", form)) {
    chip.addEventListener("click", (event) => {
      event.preventDefault();
      form.elements.credits.value = chip.dataset.amount;
      show();
    });
  }
}

// What the sign of a correction means, with the figures of this customer.
function explainSign(field) {
  const told = document.getElementById("sign");
  const untouched = told.textContent;
  const balance = Number(field.dataset.sign);
  const format = (figure) => figure.toLocaleString("en");
  field.addEventListener("input", () => {
    const text = field.value.trim().replace("−", "-");
    const credits = /^[+-]?\d+$/.test(text) ? Number(text) : 0;
    const after = `the balance goes from ${format(balance)} to ${format(balance + credits)}.`;
    told.textContent = !credits
      ? untouched
      : credits > 0
        ? `Puts ${format(credits)} credits on: ${after}`
        : `Takes ${format(-credits)} credits off: ${after}`;
  });
}

// A form is sent once; its id makes sure of that on the other side as well.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 5000);
});

document.documentElement.classList.add("script");
dress(document);
all("form[data-preview]").forEach(livePreview);
all("[data-sign]").forEach(explainSign);
all("#zone").forEach(offerOwnZone);
// Where the menu is one line, it shows where we are.
all("nav [aria-current=page]").forEach((here) => here.scrollIntoView({ block: "nearest", inline: "center" }));
