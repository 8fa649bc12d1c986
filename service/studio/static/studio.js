// The token of the session's forms accompanies each request of htmx; files can be dropped on the form.
"use strict";
document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["x-form-token"] = document.body.dataset.token;
});
for (const form of document.querySelectorAll("[data-drop]")) {
  const area = form.querySelector(".drop");
  const input = form.querySelector("input[type=file]");
  for (const name of ["dragover", "dragenter"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); area.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    form.addEventListener(name, () => area.classList.remove("over"));
  }
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) input.files = event.dataTransfer.files;
  });
}
// Arrow keys lead to the neighbours of a page, except in fields and on the slider, which they move.
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, img-comparison-slider")) return;
  const link = document.querySelector(`[data-key="${event.key}"]`);
  if (link) link.click();
});
