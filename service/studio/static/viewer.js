// The viewer of a page: two pictures as tiles in one grid, under the slider, with linked zoom and position.
"use strict";
const MAX_ZOOM = 4;
const STEP = 1.2;
// A part of the picture of this size stays in view.
const MIN_SHOWN_PIXELS = 80;

class Viewer {
  constructor(place) {
    const given = place.dataset;
    this.place = place;
    this.size = [Number(given.width), Number(given.height)];
    this.levels = Number(given.levels);
    this.tile = Number(given.tile);
    this.url = (layer, level, column, row) => `${layer.dataset.url}/${level}/${column}/${row}?${layer.dataset.query}`;
    this.layers = [...place.querySelectorAll(".layer[data-url]")];
    this.slider = null;
    if (!this.layers.length && given.first) {
      this.slider = document.createElement("img-comparison-slider");
      this.slider.setAttribute("handle", "true");
      this.layers = ["first", "second"].map((name) => {
        const layer = document.createElement("div");
        layer.className = "layer";
        layer.slot = name;
        Object.assign(layer.dataset, { layer: name, url: given[name], query: given[`${name}Query`] });
        this.slider.append(layer);
        return layer;
      });
      place.append(this.slider);
    }
    this.regions = JSON.parse(given.regions || "[]");
    for (const layer of this.layers) {
      for (const region of this.regions) {
        const mark = document.createElement("i");
        mark.className = region.artifact ? "region artifact" : "region";
        mark.title = region.name;
        layer.append(mark);
      }
    }
    if (!this.layers.length) return;
    this.output = document.querySelector("[data-scale]");
    this.pointers = new Map();
    this.flipped = false;
    this.listen();
    this.fit();
  }

  // All layers have one size: they lie on each other under the slider, or side by side.
  box() {
    return (this.slider ? this.place : this.layers[0]).getBoundingClientRect();
  }

  fit() {
    const box = this.box();
    this.zoom = Math.min(box.width / this.size[0], box.height / this.size[1], 1);
    this.left = (box.width - this.size[0] * this.zoom) / 2;
    this.top = (box.height - this.size[1] * this.zoom) / 2;
    this.draw();
  }

  zoomTo(zoom, x, y) {
    const box = this.box();
    const smallest = Math.min(box.width / this.size[0], box.height / this.size[1], 1);
    const wanted = Math.min(Math.max(zoom, smallest), MAX_ZOOM);
    if (wanted === smallest) {
      this.fit();
      return;
    }
    this.left = x - ((x - this.left) * wanted) / this.zoom;
    this.top = y - ((y - this.top) * wanted) / this.zoom;
    this.zoom = wanted;
    this.draw();
  }

  move(x, y) {
    this.left += x;
    this.top += y;
    this.draw();
  }

  keepInView(offset, side, space) {
    const shown = Math.min(MIN_SHOWN_PIXELS, side);
    return Math.min(Math.max(offset, shown - side), space - shown);
  }

  draw() {
    const box = this.box();
    this.left = this.keepInView(this.left, this.size[0] * this.zoom, box.width);
    this.top = this.keepInView(this.top, this.size[1] * this.zoom, box.height);
    this.output.value = `${Math.round(this.zoom * 100)} %`;
    // The level whose pixels are at least as fine as those of the screen.
    const density = this.zoom * window.devicePixelRatio;
    const level = Math.min(Math.max(Math.floor(-Math.log2(Math.min(density, 1))), 0), this.levels - 1);
    const step = 2 ** level;
    const side = this.tile * step * this.zoom;
    const count = [0, 1].map((axis) => Math.ceil(Math.ceil(this.size[axis] / step) / this.tile));
    const first = [this.left, this.top].map((offset) => Math.max(0, Math.floor(-offset / side)));
    const last = [box.width - this.left, box.height - this.top].map((end, axis) => Math.min(count[axis] - 1, Math.floor(end / side)));
    for (const layer of this.layers) {
      if (this.slider) layer.style.height = `${box.height}px`;
      layer.classList.toggle("sharp", this.zoom > 1.5);
      const wanted = new Set();
      for (let row = first[1]; row <= last[1]; row += 1) {
        for (let column = first[0]; column <= last[0]; column += 1) {
          wanted.add(`${level}/${column}/${row}`);
          this.placeTile(layer, level, column, row, step);
        }
      }
      layer.querySelectorAll(".region").forEach((mark, index) => {
        const region = this.regions[index];
        mark.style.left = `${this.left + region.left * this.zoom}px`;
        mark.style.top = `${this.top + region.top * this.zoom}px`;
        mark.style.width = `${region.width * this.zoom}px`;
        mark.style.height = `${region.height * this.zoom}px`;
      });
      for (const image of layer.querySelectorAll("img")) {
        if (!wanted.has(image.dataset.tile)) image.remove();
      }
    }
  }

  placeTile(layer, level, column, row, step) {
    const name = `${level}/${column}/${row}`;
    let image = layer.querySelector(`[data-tile="${name}"]`);
    if (!image) {
      image = new Image();
      image.dataset.tile = name;
      image.alt = "";
      image.draggable = false;
      image.src = this.url(layer, level, column, row);
      layer.append(image);
    }
    // Edges are rounded to pixels of the screen, so that neighbours meet without a gap.
    const edge = (axis, number) => {
      const end = Math.min(number * this.tile * step, this.size[axis]);
      const at = (axis === 0 ? this.left : this.top) + end * this.zoom;
      return Math.round(at * window.devicePixelRatio) / window.devicePixelRatio;
    };
    image.style.left = `${edge(0, column)}px`;
    image.style.top = `${edge(1, row)}px`;
    image.style.width = `${edge(0, column + 1) - edge(0, column)}px`;
    image.style.height = `${edge(1, row + 1) - edge(1, row)}px`;
  }

  flip() {
    this.flipped = !this.flipped;
    this.slider.value = this.flipped ? 0 : 100;
    document.querySelector("[data-side]").value = this.flipped ? "right side" : "left side";
  }

  listen() {
    // In the pane under the pointer; while a pointer is down, in the one where it began.
    let pane = this.place;
    const at = (event) => {
      if (!this.slider && !this.pointers.size) pane = event.target.closest?.(".layer") || this.layers[0];
      const box = pane.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.place.addEventListener("wheel", (event) => {
      if (!this.slider && !event.target.closest(".layer")) return;
      event.preventDefault();
      this.zoomTo(this.zoom * STEP ** (event.deltaY < 0 ? 1 : -1), ...at(event));
    }, { passive: false });
    this.place.addEventListener("pointerdown", (event) => {
      if (!this.slider && !event.target.closest(".layer")) return;
      const isHandle = event.composedPath().some((one) => one.className === "handle-container");
      if (!isHandle) this.pointers.set(event.pointerId, at(event));
    });
    window.addEventListener("pointermove", (event) => {
      if (this.pointers.has(event.pointerId)) this.drag(event, at(event));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      window.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        const box = this.box();
        if (button.dataset.zoom === "fit") this.fit();
        else this.zoomTo(Number(button.dataset.zoom), box.width / 2, box.height / 2);
      });
    }
    document.querySelector("[data-marks]")?.addEventListener("change", (event) => {
      this.place.classList.toggle("unmarked", !event.target.checked);
    });
    document.querySelector("[data-flip]")?.addEventListener("click", () => this.flip());
    document.addEventListener("keydown", (event) => {
      if (this.slider && event.key === " " && !event.target.closest("input, select, textarea, button, a")) {
        event.preventDefault();
        this.flip();
      }
    });
    window.addEventListener("resize", () => this.fit());
  }

  drag(event, position) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const distance = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
      this.zoomTo((this.zoom * distance(position)) / distance(before), (position[0] + other[0]) / 2, (position[1] + other[1]) / 2);
    } else {
      this.move(position[0] - before[0], position[1] - before[1]);
    }
    this.pointers.set(event.pointerId, position);
  }
}

for (const place of document.querySelectorAll("[data-viewer]")) new Viewer(place);
