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

function replace(part, html) {
  // Whoever is at a button or in a box of this part stays there.
  if (part.dataset.shown === html) return;
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  if (focused && focused.matches("input, select, textarea")) return;
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  part.dataset.shown = html;
  part.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused?.id) document.getElementById(focused.id)?.focus();
  localTimes(part);
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
