// What the console can do better with a script; nothing depends on it.
"use strict";

// --- clocks: as they run, at the customer's speed -------------------------------------------------
const UNITS = [["year", 31557600], ["month", 2629800], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const loaded = performance.now();

function said(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= 1.2 * size) || ["second", 1];
  const count = Math.round(seconds / size);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function tick() {
  for (const clock of document.querySelectorAll("time.clock[data-now]")) {
    const began = Number(clock.dataset.began || loaded);
    const now = Date.parse(clock.dataset.now) + (performance.now() - began) * Number(clock.dataset.speed);
    const left = (Date.parse(clock.dateTime) - now) / 1000;
    const text = left < 0 ? `${said(-left)} late` : `in ${said(left)}`;
    const shown = clock.querySelector(".left");
    if (shown.textContent !== text) shown.textContent = text;
    clock.classList.toggle("late", left < 0);
    clock.classList.toggle("soon", left >= 0 && left < 14400);
  }
}
setInterval(tick, 1000);

// --- a form is sent once; what is typed is not left by mistake ------------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  const question = event.submitter?.dataset.confirm || form.dataset.confirm;
  if (question && !form.dataset.sent && !confirm(question)) return event.preventDefault();
  form.dataset.sent = "yes";
});
addEventListener("pageshow", (event) => {  // back: the page comes from memory
  for (const form of document.forms) delete form.dataset.sent;
  if (event.persisted) location.reload();
});

const typing = () => [...document.querySelectorAll("main textarea, main input:not([type=hidden], [type=search], [type=checkbox])")]
  .some((field) => field.value !== field.defaultValue);

// --- live: rows and parts are brought up to date, never what somebody is at -----------------------
// <div data-live="tasks"> holds parts with ids; a part whose data-version differs is exchanged.
function exchange(fresh) {
  let waiting = 0;
  for (const region of document.querySelectorAll("[data-live][id]")) {
    const twin = fresh.getElementById(region.id);
    if (!twin) continue;
    const known = new Map([...region.querySelectorAll("[data-version][id]")].map((part) => [part.id, part]));
    for (const part of twin.querySelectorAll("[data-version][id]")) {
      const ours = known.get(part.id);
      known.delete(part.id);
      if (!ours) waiting += 1;
      else if (ours.dataset.version !== part.dataset.version) {
        if (ours.contains(document.activeElement) || ours.querySelector("details[open], input:checked")) waiting += 1;
        else replace(ours, part);
      }
    }
    waiting += known.size;
    if (waiting && !typing() && !region.contains(document.activeElement) && scrollY < 200 && !region.querySelector("details[open], input:checked")) {
      replace(region, twin);
      waiting = 0;
    }
  }
  announce(waiting);
}

function replace(ours, fresh) {
  const part = document.importNode(fresh, true);
  for (const clock of part.querySelectorAll("time.clock")) clock.dataset.began = performance.now();
  ours.replaceWith(part);
  window.htmx?.process(part);
}

function announce(count) {
  document.querySelector(".news")?.remove();
  if (!count) return;
  const news = document.createElement("div");
  news.className = "news";
  news.setAttribute("role", "status");
  const show = document.createElement("button");
  show.textContent = `${count} changed: show`;
  show.addEventListener("click", () => location.reload());
  if (typing()) show.title = "loads the page again; what you have typed stays only if you send it first";
  news.append(show);
  document.getElementById("main").prepend(news);
}

const topics = [...new Set([...document.querySelectorAll("[data-live]")].map((region) => region.dataset.live))];
if (topics.length) {
  let source = null;
  let due = null;
  const look = () => {
    if (due) return;
    due = setTimeout(async () => {
      due = null;
      if (document.hidden) return;
      const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Unattended": "yes" } });
      if (answer.ok && !answer.redirected) exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }, 400);
  };
  const follow = () => {
    if (source || document.hidden) return;
    source = new EventSource(`/console/live?topics=${encodeURIComponent(topics.join(","))}`);
    source.addEventListener("open", look);  // what changed after the page was made, or while we were cut off
    source.addEventListener("changed", look);
    source.addEventListener("crowded", rest);  // other windows follow: again when somebody comes back to this one
  };
  const rest = () => {
    source?.close();
    source = null;
  };
  document.addEventListener("visibilitychange", () => document.hidden ? rest() : follow());
  addEventListener("focus", follow);
  addEventListener("pagehide", rest);
  follow();
}

// --- keys and the palette -------------------------------------------------------------------------
const palette = document.getElementById("palette");
let begun = "";  // `g`, until the next key

function open_palette() {
  palette.showModal();
  const field = palette.querySelector("input");
  field.select();
  window.htmx?.trigger(field, "opened");
}

function choose(list, step, mark) {
  const items = [...list];
  const at = items.findIndex((item) => item.classList.contains("chosen"));
  const next = items[Math.max(0, Math.min(items.length - 1, at + step))];
  items[at]?.classList.remove("chosen");
  next?.classList.add("chosen");
  if (mark) next?.querySelector("a")?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return next;
}

if (palette) {
  for (const opener of document.querySelectorAll("[data-opens=palette]")) {
    opener.hidden = false;
    opener.addEventListener("click", open_palette);
  }
  palette.addEventListener("keydown", (event) => {
    const found = palette.querySelectorAll("#found a, #found button");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose(found, event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      (palette.querySelector("#found .chosen") || found[0])?.click();
    }
  });
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && palette) {
    event.preventDefault();
    return open_palette();
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && event.target.form) return event.target.form.requestSubmit();
  const inside = event.target.matches("input, select, textarea, [contenteditable]") || document.querySelector("dialog[open]");
  if (inside || event.ctrlKey || event.metaKey || event.altKey || document.body.dataset.keys !== "on") return;
  const rows = document.querySelectorAll("main .grid tbody tr");
  const chosen = document.querySelector("tr.chosen");
  if (begun === "g") {
    begun = "";
    document.querySelector(`.side a[data-key="${CSS.escape(event.key)}"]`)?.click();
    return;
  }
  const to = (selector) => document.querySelector(selector)?.click();
  switch (event.key) {
    case "g": begun = "g"; setTimeout(() => { begun = ""; }, 1500); break;
    case "/": event.preventDefault(); document.getElementById("find").focus(); break;
    case "?": location.href = "/console/keys"; break;
    case "j": choose(rows, 1, true); break;
    case "k": choose(rows, -1, true); break;
    case "x": chosen?.querySelector("input[type=checkbox]")?.click(); break;
    case "[": to("a[rel=prev]"); break;
    case "]": to("a[rel=next]"); break;
    default: {
      const target = document.querySelector(`main [data-key="${CSS.escape(event.key)}"], .notice [data-key="${CSS.escape(event.key)}"]`);
      if (!target) return;
      event.preventDefault();
      if (target.matches("input, textarea, select")) target.focus(); else target.click();
    }
  }
});

// --- choosing rows: all, a range, how many --------------------------------------------------------
document.addEventListener("change", (event) => {
  const box = event.target;
  if (!box.matches("input[type=checkbox]")) return;
  if (box.dataset.all) for (const one of document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(box.dataset.all)}"]`)) one.checked = box.checked;
  for (const count of document.querySelectorAll("[data-counts]")) {
    count.textContent = document.querySelectorAll(`input[name="${CSS.escape(count.dataset.counts)}"]:checked`).length;
  }
});
let last = null;
document.addEventListener("click", (event) => {
  const box = event.target;
  if (!box.matches?.("tbody input[type=checkbox]")) return;
  if (event.shiftKey && last) {
    const boxes = [...document.querySelectorAll(`input[name="${CSS.escape(box.name)}"]`)];
    const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
    for (const one of boxes.slice(from, to + 1)) one.checked = box.checked;
  }
  last = box;
});

for (const fault of document.querySelectorAll(".fault[tabindex]")) fault.focus();
