// Selecting jobs: all of the page, or with Shift a range; and how many are.
"use strict";

const all = document.getElementById("select-all");
const boxes = [...document.querySelectorAll('#jobs input[name="job"]')];
let last = null;

function tell() {
  const count = boxes.filter((box) => box.checked).length;
  all.checked = count > 0 && count === boxes.length;
  all.indeterminate = count > 0 && count < boxes.length;
  const told = document.getElementById("selected");
  if (!told) return;
  told.textContent = count ? `With the ${count} selected:` : "Select jobs first:";
  for (const button of document.querySelectorAll(".act button")) button.disabled = !count;
}

if (all) {
  all.disabled = !boxes.length;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    tell();
  });
  for (const box of boxes) {
    box.addEventListener("click", (event) => {
      if (event.shiftKey && last) {
        const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
        for (const one of boxes.slice(from, to + 1)) one.checked = box.checked;
      }
      last = box;
      tell();
    });
  }
  // Browsers keep what was checked when one comes back.
  window.addEventListener("pageshow", tell);
}
