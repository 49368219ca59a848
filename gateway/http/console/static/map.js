// A codebase as a map: chunks of similar vectors lie together.

import { call } from "./api.js";
import { button, el, freshId, replace, svg, visible } from "./dom.js";
import { counted, percent } from "./format.js";
import { bindKeys } from "./keyboard.js";
import { Layout } from "./layout.js";
import { group, GROUPINGS } from "./map_groups.js";
import { details, hint } from "./map_panel.js";
import { loadInto } from "./notices.js";
import { openReader } from "./reader.js";
import { rename } from "./router.js";
import { listCodebases } from "./session.js";
import { heading } from "./tables.js";

const EPOCHS_A_FRAME = 8;
const MARGIN = 0.06;
const SIZES = [500, 1000, 2000];

/** Open the view. */
export async function openMap(root, params, signal) {
  const codebases = await listCodebases(signal);
  const select = (label, options, value, onChange) => {
    const id = freshId("select");
    const field = el("select", { id, on: { change: onChange } },
      options.map(([key, name]) => el("option", { value: key, selected: String(key) === String(value) }, name)));
    return { field, element: el("span.inline", {}, el("label", { for: id }, label), field) };
  };
  const body = el("div.map");
  const load = () => {
    rename("map", { codebase: which.field.value, ...(points.field.value === "1000" ? {} : { points: points.field.value }) });
    return loadInto(body, signal, async () => {
      const request = { codebaseId: which.field.value, maxPointCount: Number(points.field.value) };
      const reply = await call("CodebaseService/MapCodebase", request, signal);
      return reply.points.length ? new Chart(which.field.value, reply, signal).element : el("p.card.empty", {}, "No chunk of it has a vector yet.");
    });
  };
  const which = select("Codebase", codebases.map(({ codebaseId }) => [codebaseId, codebaseId]), params.get("codebase"), load);
  const points = select("Points at most", SIZES.map((n) => [n, n]), params.get("points") ?? 1000, load);
  if (!codebases.length) {
    replace(root, heading("Map"), el("p.card.empty", {}, "You see no codebase. “duovec index path/to/code --codebase mine” makes one."));
    return {};
  }
  replace(root, heading("Map", which.element, points.element), body);
  await load();
  return {};
}

class Chart {
  constructor(codebaseId, reply, signal) {
    this.codebaseId = codebaseId;
    this.points = reply.points;
    this.signal = signal;
    this.selected = -1;
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.dots = this.points.map((point, n) =>
      svg("circle", { "data-n": n }, svg("title", {}, `${visible(point.path)}:${point.startLine} ${visible(point.symbol)}`)));
    this.lines = svg("g.map-lines");
    this.drawing = svg("svg.map-drawing", { tabindex: "0", role: "application", "aria-roledescription": "map of chunks",
      "aria-label": `${counted(this.points.length, "chunk")}; arrows move from one to the next, Enter opens it, + and − zoom, 0 shows all`,
      preserveAspectRatio: "xMidYMid meet" }, this.lines, svg("g.map-dots", {}, this.dots));
    this.panel = el("div.map-panel.card", { "aria-live": "polite" });
    this.legend = el("div.legend.map-legend");
    this.element = el("div.map-grid", {}, el("div.map-main.card", {}, this.tools(reply), this.drawing, this.legend, this.about(reply)), this.panel);
    this.listen();
    this.colour("folder");
    this.arrange("neighbours");
    this.select(-1);
  }

  tools() {
    const toggle = (label, options, chosen, onChange) => {
      const name = freshId("choice");
      return el("fieldset.segments", { "aria-label": label }, el("legend.hidden", {}, label), options.map(([key, text]) =>
        el("label", {}, el("input", { type: "radio", name, value: key, checked: key === chosen, on: { change: () => onChange(key) } }), el("span", {}, text))));
    };
    const find = el("input", { type: "search", placeholder: "Find a path or symbol", "aria-label": "Find a path or symbol",
      on: { input: (event) => this.find(event.target.value) } });
    bindKeys("Here", [
      ["/", "Find a path or symbol", () => find.focus()],
      ["+", "Closer", () => this.zoomBy(1.4)],
      ["-", "Farther", () => this.zoomBy(1 / 1.4)],
      ["0", "Show all", () => this.showAll()],
      ["Enter", "Open the chunk", () => this.open()],
    ]);
    return el(
      "div.map-tools",
      {},
      toggle("Arrangement", [["neighbours", "neighbours"], ["pca", "PCA"]], "neighbours", (way) => this.arrange(way)),
      toggle("Colours", GROUPINGS, "folder", (way) => this.colour(way)),
      find,
      el("span.gap"),
      el(
        "span.actions",
        {},
        button("+", () => this.zoomBy(1.4), { "aria-label": "Closer" }),
        button("−", () => this.zoomBy(1 / 1.4), { "aria-label": "Farther" }),
        button("All", () => this.showAll()),
      ),
    );
  }

  about({ chunkCount, explainedVariance, space }) {
    const part = Number(chunkCount) > this.points.length ? `a sample of ${counted(this.points.length, "chunk")} of ${counted(chunkCount, "chunk")}` : counted(chunkCount, "chunk");
    return el("p.soft.small", {}, `${part} in space `, el("code", {}, space.slice(0, 12)),
      `. The first two principal components hold ${percent(explainedVariance, 1)} of the vectors' variance; “neighbours” moves chunks from there until those lie together whose vectors are most similar.`);
  }

  listen() {
    const { drawing } = this;
    const at = (event) => Number(event.target.dataset?.n ?? -1);
    let drag = null;
    drawing.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, n: at(event), moved: false };
      drawing.setPointerCapture(event.pointerId);
    });
    drawing.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      const unit = this.unitsPerPixel();
      Object.assign(drag, { x: event.clientX, y: event.clientY, moved: true });
      this.zoom.x -= dx * unit;
      this.zoom.y -= dy * unit;
      this.show();
    });
    drawing.addEventListener("pointerup", () => {
      if (drag && !drag.moved && drag.n >= 0) this.select(drag.n);
      drag = null;
    });
    drawing.addEventListener("pointercancel", () => (drag = null));
    drawing.addEventListener("dblclick", () => this.open());
    drawing.addEventListener("wheel", (event) => {
      // Scrolling goes on through the page; with Ctrl, and by pinching, it zooms.
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 200));
    }, { passive: false });
    drawing.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!direction) return;
      event.preventDefault();
      this.step(direction);
    });
  }

  /** Give every point its place. */
  arrange(way) {
    cancelAnimationFrame(this.frame);
    const layout = new Layout(this.points);
    const finish = () => {
      this.places = layout.places;
      this.draw();
    };
    if (way === "neighbours" && matchMedia("(prefers-reduced-motion: reduce)").matches) layout.advance(Infinity);
    finish();
    if (way !== "neighbours") return;
    const move = () => {
      if (this.signal.aborted) return;
      layout.advance(EPOCHS_A_FRAME);
      finish();
      if (!layout.isDone) this.frame = requestAnimationFrame(move);
      else this.element.dataset.arranged = "true";
    };
    this.frame = requestAnimationFrame(move);
  }

  draw() {
    const xs = this.places.map(([x]) => x);
    const ys = this.places.map(([, y]) => y);
    const [left, right, upper, lower] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const size = Math.max(right - left, lower - upper, 1e-6);
    this.box = { x: left - size * MARGIN, y: upper - size * MARGIN, width: right - left + 2 * size * MARGIN, height: lower - upper + 2 * size * MARGIN };
    this.dots.forEach((dot, n) => {
      dot.setAttribute("cx", xs[n]);
      dot.setAttribute("cy", ys[n]);
    });
    this.drawLines();
    this.show();
  }

  /** Show the part of the plane that the zoom says. */
  show() {
    const { box, zoom } = this;
    const [width, height] = [box.width / zoom.scale, box.height / zoom.scale];
    const x = box.x + (box.width - width) / 2 + zoom.x;
    const y = box.y + (box.height - height) / 2 + zoom.y;
    this.drawing.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    // Points and lines stay as large as they are, however near one looks.
    this.drawing.style.setProperty("--unit", String(this.unitsPerPixel()));
  }

  unitsPerPixel() {
    const { width, height } = this.drawing.getBoundingClientRect();
    const { box, zoom } = this;
    return Math.max(box.width / (width || 800), box.height / (height || 560)) / zoom.scale;
  }

  zoomBy(factor) {
    this.zoom.scale = Math.min(60, Math.max(1, this.zoom.scale * factor));
    if (this.selected >= 0) this.centre(this.selected);
    if (this.zoom.scale === 1) Object.assign(this.zoom, { x: 0, y: 0 });
    this.show();
  }

  centre(n) {
    const [x, y] = this.places[n];
    this.zoom.x = x - (this.box.x + this.box.width / 2);
    this.zoom.y = y - (this.box.y + this.box.height / 2);
  }

  showAll() {
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.show();
  }

  colour(way) {
    const { groups, styles } = group(this.points, way);
    this.dots.forEach((dot, n) => dot.setAttribute("class", styles[n]));
    this.mark();
    replace(this.legend, groups.map(({ name, count, style }) =>
      el("span.key", {}, el(`span.swatch.${style}`), visible(name), " ", el("span.soft", {}, String(count)))));
  }

  find(text) {
    const sought = text.trim().toLowerCase();
    this.dots.forEach((dot, n) => {
      const { path, symbol } = this.points[n];
      dot.classList.toggle("dim", Boolean(sought) && !`${path} ${symbol}`.toLowerCase().includes(sought));
    });
  }

  select(n) {
    this.selected = n;
    this.mark();
    this.drawLines();
    replace(this.panel, n < 0 ? hint() : details(this.codebaseId, this.points, n, { open: () => this.open(), go: (other) => this.go(other) }));
  }

  mark() {
    for (const dot of this.drawing.querySelectorAll(".chosen, .near")) dot.classList.remove("chosen", "near");
    if (this.selected < 0) return;
    for (const n of this.points[this.selected].neighborIndices) this.dots[n].classList.add("near");
    this.dots[this.selected].classList.add("chosen");
  }

  drawLines() {
    if (this.selected < 0 || !this.places) return;
    const [x1, y1] = this.places[this.selected];
    replace(this.lines, this.points[this.selected].neighborIndices.map((n) => svg("line", { x1, y1, x2: this.places[n][0], y2: this.places[n][1] })));
  }

  go(n) {
    this.select(n);
    if (this.zoom.scale > 1) {
      this.centre(n);
      this.show();
    }
  }

  open() {
    if (this.selected >= 0) openReader(this.codebaseId, this.points[this.selected].chunkId);
  }

  /** To the nearest point in a direction. */
  step([dx, dy]) {
    if (this.selected < 0) {
      this.go(0);
      return;
    }
    const [x, y] = this.places[this.selected];
    let [best, least] = [-1, Infinity];
    this.places.forEach(([u, v], n) => {
      const along = (u - x) * dx + (v - y) * dy;
      const aside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
      // What lies more aside than ahead is in another direction.
      if (along <= 0 || aside > along) return;
      const distance = along + 2 * aside;
      if (distance < least) [best, least] = [n, distance];
    });
    if (best >= 0) this.go(best);
  }
}
