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
// A page that comes back from the browser's memory may have been decided meanwhile.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
// These keys publish or reject: they work once the picture is seen, so that a key that is pressed too often decides nothing.
const decidingKeys = new Set(["a", "r", "1", "2", "3", "4"]);
const SEEN_MILLISECONDS = 500;
document.addEventListener("load", (event) => {
  const image = event.target;
  if (image.matches?.("[data-layer] img")) setTimeout(() => { image.dataset.seen = ""; }, SEEN_MILLISECONDS);
}, true);
// Keys press the link or button that names them, except in fields; arrow keys also move the slider.
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat || event.target.closest("input, select, textarea")) return;
  const slider = event.target.closest("img-comparison-slider");
  if (event.key.startsWith("Arrow") && slider?.matches(":focus-visible")) return;
  if (decidingKeys.has(event.key.toLowerCase()) && !document.querySelector("[data-layer] img[data-seen]")) return;
  const target = document.querySelector(`[data-key="${CSS.escape(event.key.length === 1 ? event.key.toLowerCase() : event.key)}"]`);
  if (target) target.click();
});
for (const box of document.querySelectorAll("[data-all]")) {
  box.addEventListener("change", () => {
    for (const one of box.form.querySelectorAll("input[name=jobs]")) one.checked = box.checked;
  });
}
// A click on the small page chooses the part of a preview.
for (const place of document.querySelectorAll("[data-pick]")) {
  const image = place.querySelector("img");
  const mark = place.querySelector("i");
  const [left, top] = ["left", "top"].map((name) => document.querySelector(`input[name=${name}]`));
  const size = [Number(place.dataset.width), Number(place.dataset.height)];
  const side = Number(place.dataset.side);
  const show = () => {
    const scale = image.clientWidth / size[0];
    mark.style.left = `${left.value * scale}px`;
    mark.style.top = `${top.value * scale}px`;
    mark.style.width = `${Math.min(side, size[0]) * scale}px`;
    mark.style.height = `${Math.min(side, size[1]) * scale}px`;
  };
  place.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    [[left, event.clientX - box.left, box.width, 0], [top, event.clientY - box.top, box.height, 1]].forEach(([field, at, length, axis]) => {
      const wanted = (at / length) * size[axis] - side / 2;
      field.value = Math.round(Math.max(0, Math.min(wanted, size[axis] - side)));
    });
    show();
    document.querySelector("[data-busy]").click();
  });
  for (const field of [left, top]) field.addEventListener("input", show);
  if (image.complete) show();
  image.addEventListener("load", show);
}
const sourceOf = (event) => event.detail.ctx?.sourceElement;
for (const name of ["before", "after"]) {
  document.addEventListener(`htmx:${name}:request`, (event) => {
    const button = sourceOf(event)?.closest("[data-busy]");
    if (!button) return;
    button.dataset.label ??= button.textContent;
    button.textContent = name === "before" ? button.dataset.busy : button.dataset.label;
    button.disabled = name === "before";
  });
}
// Files that were added are taken out of the form.
document.addEventListener("htmx:after:request", (event) => {
  const form = sourceOf(event)?.closest("[data-drop]");
  if (form && event.detail.ctx.response?.status === 200) form.reset();
});
