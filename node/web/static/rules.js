// Files can be dropped on the form, and too many bytes are told before they are sent.
"use strict";

for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const alarm = form.querySelector("[role=alert]");
  const limit = Number(form.dataset.maxBytes);

  const check = () => {
    const size = [...input.files].reduce((sum, file) => sum + file.size, 0);
    const isLarge = size > limit;
    alarm.textContent = `That is ${Math.ceil(size / 1e6)} MB; choose fewer files.`;
    alarm.hidden = !isLarge;
    input.setCustomValidity(isLarge ? alarm.textContent : "");
  };
  input.addEventListener("change", check);

  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    form.addEventListener(kind, (event) => {
      event.preventDefault();
      form.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  form.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    check();
    form.requestSubmit();
  });
}
