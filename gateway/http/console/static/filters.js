// What to search, and where: the form's fields, from and to the address.

import { el, freshId, replace } from "./dom.js";
import { count } from "./format.js";

const KINDS = ["function", "method", "class", "text"];
const LANGUAGES = [
  "python", "javascript", "typescript", "go", "rust", "java", "c", "cpp", "markdown", "shell", "sql", "html", "css", "json",
  "yaml", "toml", "text",
]; // prettier-ignore
const SIZES = [10, 25, 50, 100];
const MAX_CODEBASES = 100;

/** Fields beside the question itself. */
export class Filters {
  /**
   * @param {object[]} codebases That may be searched.
   * @param {() => void} onChange Called when somebody has changed a field.
   */
  constructor(codebases, onChange) {
    this.codebases = choices(
      "Codebases",
      codebases.map(({ codebaseId, chunkCount }) => ({ value: codebaseId, note: count(chunkCount) })),
      onChange,
      { filterFrom: 9 },
    );
    this.kinds = choices("Kinds", KINDS.map((value) => ({ value })), onChange);
    this.languages = choices("Languages", LANGUAGES.map((value) => ({ value })), onChange);
    this.all = codebases.map(({ codebaseId }) => codebaseId);
    const pathId = freshId("path");
    this.path = el("input", {
      id: pathId,
      type: "text",
      placeholder: "src/**/*.py",
      spellcheck: "false",
      autocomplete: "off",
      "aria-describedby": `${pathId}-help`,
      on: { change: onChange },
    });
    const sizeId = freshId("size");
    this.size = el(
      "select",
      { id: sizeId, on: { change: onChange } },
      SIZES.map((size) => el("option", { value: size }, String(size))),
    );
    this.element = el(
      "div.filters",
      {},
      this.codebases.element,
      el(
        "div.field",
        {},
        el("label", { for: pathId }, "Path"),
        this.path,
        el("p.soft.small", { id: `${pathId}-help` }, "Patterns with *, ** and ?, separated by commas; one must match."),
      ),
      this.kinds.element,
      this.languages.element,
      el("div.field.inline", {}, el("label", { for: sizeId }, "Hits at most"), this.size),
    );
  }

  /** Set the fields as an address says. */
  read(params) {
    const named = params.getAll("in");
    this.codebases.set(named.length || this.all.length > MAX_CODEBASES ? named : this.all);
    this.kinds.set(params.getAll("kind"));
    this.languages.set(params.getAll("language"));
    this.path.value = params.get("path") ?? "";
    this.size.value = SIZES.includes(Number(params.get("n"))) ? params.get("n") : "10";
  }

  /** Say what is set in an address; what is as usual is left out. */
  write(params) {
    const chosen = this.codebases.get();
    if (chosen.length !== this.all.length) for (const codebase of chosen) params.append("in", codebase);
    for (const kind of this.kinds.get()) params.append("kind", kind);
    for (const language of this.languages.get()) params.append("language", language);
    if (this.path.value.trim()) params.set("path", this.path.value.trim());
    if (this.size.value !== "10") params.set("n", this.size.value);
  }

  /** Fields of a SearchRequest. */
  request() {
    return {
      codebaseIds: this.codebases.get(),
      pageSize: Number(this.size.value),
      filter: {
        pathGlobs: this.path.value.split(",").map((glob) => glob.trim()).filter(Boolean),
        languages: this.languages.get(),
        kinds: this.kinds.get(),
      },
    };
  }
}

/** Boxes to check. None checked restricts nothing, but for codebases. */
function choices(title, options, onChange, { filterFrom = Infinity } = {}) {
  const known = new Map();
  const list = el("div.chips");
  const show = (value, note = "") => {
    const box = el("input", { type: "checkbox", value, on: { change: onChange } });
    known.set(value, box);
    list.append(el("label.chip", {}, box, el("span", {}, value, note && el("span.note", {}, note))));
  };
  for (const { value, note } of options) show(value, note);
  const search =
    options.length >= filterFrom &&
    el("input.narrow", {
      type: "search",
      placeholder: "Narrow down",
      "aria-label": `Narrow down ${title.toLowerCase()}`,
      on: {
        input: (event) => {
          for (const [value, box] of known) box.closest("label").hidden = !value.includes(event.target.value.trim());
        },
      },
    });
  const element = el("fieldset.field", {}, el("legend", {}, title), search, list);
  return {
    element,
    get: () => [...known].filter(([, box]) => box.checked).map(([value]) => value),
    set(values) {
      // One that an address names and nobody knows is shown, so that the server can say so.
      for (const value of values) if (!known.has(value)) show(value);
      for (const [value, box] of known) box.checked = values.includes(value);
    },
  };
}

/**
 * A slider of a share, 0 to 1, with a name at each end.
 * @param {{label: string, low: string, high: string, onMove: () => void, onChange: () => void}} options
 */
export function shareSlider({ label, low, high, style, onMove, onChange }) {
  const id = freshId("share");
  const shown = el("output", { for: id });
  const input = el(`input.${style}`, {
    id,
    type: "range",
    min: 0,
    max: 100,
    step: 5,
    on: {
      input: () => {
        show();
        onMove();
      },
      change: onChange,
    },
  });
  const show = () => {
    const share = Number(input.value);
    const text = `${low} ${100 - share} % · ${high} ${share} %`;
    replace(shown, text);
    input.setAttribute("aria-valuetext", text);
  };
  const element = el(
    "div.slider",
    {},
    el("label", { for: id }, label, shown),
    el("div.slider-row", {}, el("span.low", {}, low), input, el("span.high", {}, high)),
  );
  return {
    element,
    get value() {
      return Number(input.value) / 100;
    },
    set value(share) {
      input.value = String(Math.round(share * 100));
      show();
    },
    /** Move by some steps, as somebody's hand would. */
    step(steps) {
      input.value = String(Number(input.value) + 5 * steps);
      show();
      onMove();
      onChange();
    },
    set disabled(value) {
      input.disabled = value;
    },
  };
}
