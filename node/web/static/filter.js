// A table shows only the rows that have a text, as it is typed.
"use strict";

for (const form of document.querySelectorAll("form[data-filter]")) {
  const rows = document.getElementById(form.dataset.filter).tBodies[0].rows;
  const [text, only] = ["input[type=search]", "input[type=checkbox]"].map((one) => form.querySelector(one));
  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted) || (only.checked && !row.matches(".set"));
    }
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
}
