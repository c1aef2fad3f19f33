// Asks a PACS for one number after the other, as long as the page is open.
"use strict";

// Without script the whole list is asked for in one request.
for (const field of document.querySelectorAll("[data-without-script]")) field.remove();

const found = document.getElementById("found");
const MOST_FAILURES = 3; // in a row: the PACS is down, and the others would only wait for it

function boxes() {
  return [...found.querySelectorAll('input[name="wanted"]')];
}

function countTicks() {
  const all = boxes();
  const ticked = all.filter((box) => box.checked).length;
  document.getElementById("ticked").textContent = `${ticked} of ${all.length} studies ticked`;
  for (const button of found.querySelectorAll("[name=when]")) button.disabled = ticked === 0;
  const whole = document.getElementById("all");
  document.getElementById("whole").hidden = all.length === 0;
  whole.checked = ticked > 0 && ticked === all.length;
  whole.indeterminate = ticked > 0 && ticked < all.length;
}

async function ask(rows) {
  const form = new FormData(found);
  const asked = new URLSearchParams({ text: rows.dataset.value });
  for (const name of ["form_token", "peer", "key"]) asked.set(name, form.get(name));
  const answer = await fetch(found.dataset.ask, { method: "POST", body: asked, headers: live });
  if (answer.status === 401) throw new Error("You are logged out. Load the page again.");
  if (!answer.ok) throw new Error("The node does not answer as it should; its log says why.");
  rows.innerHTML = await answer.text();
  return rows.querySelector("[data-outcome]").dataset.outcome;
}

class Asking {
  constructor() {
    this.waiting = [...found.querySelectorAll("tbody[data-value]")];
    this.counts = { found: 0, nothing: 0, error: 0 };
    this.failed = []; // in a row
    this.isRunning = false;
    this.stop = document.getElementById("stop");
    this.stop.addEventListener("click", () => (this.isWanted ? this.pause("Stopped.") : this.run()));
  }

  async run() {
    this.isWanted = true;
    this.stop.textContent = "Stop";
    if (this.isRunning) return;
    this.isRunning = true;
    while (this.waiting.length && this.isWanted) await this.step();
    this.isRunning = false;
    if (!this.waiting.length) {
      this.stop.hidden = true;
      this.tell("All are looked up.");
    }
  }

  async step() {
    const rows = this.waiting[0];
    try {
      const outcome = await ask(rows);
      this.waiting.shift();
      this.counts[outcome] += 1;
      this.failed = outcome === "error" ? [...this.failed, rows] : [];
    } catch (error) {
      return this.pause(error instanceof TypeError ? "The node does not answer." : error.message);
    }
    if (this.isWanted) this.tell("");
    countTicks();
    if (this.failed.length === MOST_FAILURES && this.waiting.length) this.giveUp();
  }

  giveUp() {
    // Whoever goes on asks for these again.
    this.waiting.unshift(...this.failed);
    this.counts.error -= this.failed.length;
    this.failed = [];
    this.pause("Stopped, because the PACS gives no answers.");
  }

  pause(why) {
    this.isWanted = false;
    this.stop.textContent = "Go on";
    this.tell(why);
  }

  tell(why) {
    const { found: there, nothing, error } = this.counts;
    const left = this.waiting.length;
    const parts = [`${there} found`, `${nothing} not there`];
    if (error) parts.push(`${error} without an answer`);
    if (left) parts.push(`${left} not asked yet`);
    document.getElementById("asked").value = there + nothing + error;
    document.getElementById("told").textContent = `${why} ${parts.join(", ")}.`.trim();
    // Read out at the end, and when it stops.
    document.getElementById("said").textContent = why && `${why} ${parts.join(", ")}.`;
  }
}

if (found) {
  document.getElementById("all").addEventListener("change", (event) => {
    for (const box of boxes()) box.checked = event.target.checked;
  });
  found.addEventListener("change", countTicks);
  countTicks();
  if (document.getElementById("asking")) new Asking().run();
}
