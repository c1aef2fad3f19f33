// What all pages do in the browser. Pages work without it; with it they renew themselves.
"use strict";

const live = { "X-Live": "1" };

function localTimes(root) {
  // Servers write UTC; people read the time of their clock.
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const pad = (number) => String(number).padStart(2, "0");
    const day = [at.getFullYear(), pad(at.getMonth() + 1), pad(at.getDate())].join("-");
    time.textContent = `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
    time.title = at.toISOString();
  }
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
}

// What is shown anew is changed only where it differs, so that nothing flickers, focus, selection and scroll positions stay.
// data-key names what stays the same thing; where its data-mark differs from before, or it is new, it is highlighted.
function changeAttributes(old, fresh) {
  const names = new Set([...old.getAttributeNames(), ...fresh.getAttributeNames()]);
  // What a person has opened or closed stays so.
  if (old.matches("details")) names.delete("open");
  for (const name of names) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    else if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
  }
}

function highlight(one) {
  if (one.dataset?.mark === undefined) return;
  const color = "color-mix(in srgb, var(--accent) 35%, transparent)";
  const moves = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  one.animate([{ backgroundColor: color }, {}], { duration: 4000, easing: moves ? "ease-out" : "step-end" });
}

function isSame(old, fresh) {
  return old.nodeName === fresh.nodeName && old.id === fresh.id && old.dataset?.key === fresh.dataset?.key;
}

function change(old, fresh) {
  const keyed = new Map([...old.children].filter((one) => one.dataset.key).map((one) => [one.dataset.key, one]));
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const known = keyed.get(next.dataset?.key) ?? place;
    if (!known || !isSame(known, next)) {
      old.insertBefore(next, place);
      highlight(next);
      continue;
    }
    if (known === place) place = place.nextSibling;
    else old.insertBefore(known, place);
    if (known.nodeType !== Node.ELEMENT_NODE) {
      if (known.data !== next.data) known.data = next.data;
      continue;
    }
    const isChanged = known.dataset.key && known.dataset.mark !== next.dataset.mark;
    changeAttributes(known, next);
    if (isChanged) highlight(known);
    change(known, next);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

function replace(part, html) {
  if (part.dataset.shown === html) return;
  part.dataset.shown = html;
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  localTimes(fresh.content);
  change(part, fresh.content);
}

function tellLost(part, isLost) {
  part.classList.toggle("stale", isLost);
  let sign = document.getElementById("lost");
  if (isLost && !sign) {
    sign = document.createElement("p");
    sign.id = "lost";
    sign.className = "lost";
    sign.setAttribute("role", "alert");
    sign.textContent = "The node does not answer; what is shown is old.";
    document.getElementById("main").prepend(sign);
  } else if (!isLost && sign) {
    sign.remove();
  }
}

// <div data-live="/path" data-every="2"> is renewed by what the path gives, every two seconds.
async function renew(part) {
  if (!document.hidden) {
    try {
      const answer = await fetch(part.dataset.live, { headers: live, credentials: "same-origin" });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      replace(part, await answer.text());
      tellLost(part, false);
    } catch {
      tellLost(part, true);
    }
  }
  setTimeout(renew, 1000 * Number(part.dataset.every || 2), part);
}

document.addEventListener("submit", (event) => {
  const asked = event.submitter?.dataset.confirm || event.target.dataset.confirm;
  if (asked && !window.confirm(asked)) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && !typing && search) {
    event.preventDefault();
    search.focus();
  }
});

localTimes(document);
for (const part of document.querySelectorAll("[data-live]")) renew(part);
