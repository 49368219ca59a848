// Figures as pictures. Each has its values as titles, and a table of the same figures stands near it.

import { el, svg } from "./dom.js";

// On a narrow page they are drawn narrow, for letters are to be of one size.
const WIDTH = innerWidth < 700 ? 360 : 560;
const HEIGHT = 220;
const LEFT = 46;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 28;
// More labels than this on an axis would touch.
const MAX_LABELS = 6;

/**
 * A chart with its title and legend.
 * @param {string} title
 * @param {Array<{name: string, style: string}>} series
 * @param {SVGElement} drawing
 * @param {string} [style] Class of the figure.
 */
export function figure(title, series, drawing, style = "") {
  return el(
    `figure.chart${style && `.${style}`}`,
    {},
    el("figcaption", {}, el("h3", {}, title),
      series.length > 1 && el("p.legend.small", {}, series.map(({ name, style }) => el("span.key", {}, el(`span.swatch.${style}`), name)))),
    drawing,
  );
}

/**
 * Lines over weeks, which break where there is no figure.
 * @param {string[]} labels One a week.
 * @param {Array<{name: string, style: string, values: Array<number|null>}>} series
 * @param {{format: (value: number) => string, leastTop: number}} options
 */
export function lineChart(title, labels, series, { format, leastTop }) {
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  const axis = axisOf(Math.min(0, ...values), Math.max(leastTop, ...values));
  const x = across(labels.length);
  const y = up(axis);
  const lines = series.flatMap((one) => [
    ...runs(one.values)
      .filter((run) => run.length > 1)
      .map((run) => svg(`polyline.line.${one.style}`, { points: run.map(([n, value]) => `${x(n)},${y(value)}`).join(" ") })),
    ...one.values.map((value, n) => value !== null &&
      svg(`circle.dot.${one.style}`, { cx: x(n), cy: y(value), r: 3.5 }, svg("title", {}, `${one.name}, ${labels[n]}: ${format(value)}`))),
  ]);
  return figure(title, series, drawing(title, [grid(axis, y, format), weekLabels(labels, x), lines]));
}

/** Counts over weeks, stacked. */
export function barChart(title, labels, series, { format }) {
  const totals = labels.map((_, n) => series.reduce((sum, one) => sum + (one.values[n] ?? 0), 0));
  const axis = axisOf(0, Math.max(4, ...totals));
  const x = across(labels.length);
  const y = up(axis);
  const width = Math.max(2, (0.6 * (WIDTH - LEFT - RIGHT)) / Math.max(1, labels.length));
  const bars = labels.flatMap((label, n) => {
    let low = 0;
    return series.map((one) => {
      const value = one.values[n] ?? 0;
      const bar = value > 0 && svg(`rect.bar.${one.style}`,
        { x: x(n) - width / 2, y: y(low + value), width, height: y(low) - y(low + value) },
        svg("title", {}, `${one.name}, ${label}: ${format(value)}`));
      low += value;
      return bar;
    });
  });
  return figure(title, series, drawing(title, [grid(axis, y, format), weekLabels(labels, x), bars]));
}

/**
 * Intervals, one a row, about a line at `zero`.
 * @param {Array<{name: string, note: string, low: number, value: number, high: number, style: string}>} rows
 * @param {{format: (value: number) => string, zero: number, zeroName: string}} options
 */
export function intervalChart(title, rows, { format, zero, zeroName }) {
  const left = WIDTH < 500 ? 158 : 190;
  const right = 36;
  const rowHeight = 24;
  const height = rows.length * rowHeight + 44;
  const axis = axisOf(Math.min(zero, ...rows.map((row) => row.low)), Math.max(zero, ...rows.map((row) => row.high)));
  const x = (value) => left + ((value - axis.bottom) / (axis.top - axis.bottom)) * (WIDTH - left - right);
  const ticks = ticksOf(axis).map((value) => [
    svg("line.grid", { x1: x(value), x2: x(value), y1: 18, y2: height - 24 }),
    svg("text.tick", { x: x(value), y: height - 8, "text-anchor": "middle" }, format(value)),
  ]);
  const marks = rows.map((row, n) => {
    const at = 32 + n * rowHeight;
    return svg(
      "g",
      {},
      svg("title", {}, `${row.name}: ${format(row.value)}, ${format(row.low)} to ${format(row.high)}${row.note ? `; ${row.note}` : ""}`),
      svg("text.row-name", { x: left - 12, y: at + 4, "text-anchor": "end" }, row.name),
      svg(`line.interval.${row.style}`, { x1: x(row.low), x2: x(row.high), y1: at, y2: at }),
      svg(`circle.dot.${row.style}`, { cx: x(row.value), cy: at, r: 4.5 }),
    );
  });
  const line = [
    svg("line.zero", { x1: x(zero), x2: x(zero), y1: 18, y2: height - 24 }),
    svg("text.tick", { x: x(zero), y: 12, "text-anchor": "middle" }, zeroName),
  ];
  return figure(title, [], drawing(title, [ticks, line, marks], WIDTH, height));
}

function drawing(title, parts, width = WIDTH, height = HEIGHT) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, parts);
}

/** Round ends and step of an axis that holds both values, with two to five steps. */
function axisOf(least, most) {
  const size = Math.max(most - least, 1e-9);
  const decade = 10 ** Math.floor(Math.log10(size));
  const step = [0.2, 0.5, 1, 2].map((factor) => decade * factor).find((value) => size / value <= 5 + 1e-9);
  return { bottom: Math.floor(least / step + 1e-9) * step, top: Math.ceil(most / step - 1e-9) * step, step };
}

function ticksOf({ bottom, top, step }) {
  return Array.from({ length: Math.round((top - bottom) / step) + 1 }, (_, n) => bottom + n * step);
}

function across(count) {
  const slot = (WIDTH - LEFT - RIGHT) / Math.max(1, count);
  return (n) => LEFT + (n + 0.5) * slot;
}

function up({ bottom, top }) {
  return (value) => HEIGHT - BOTTOM - ((value - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
}

function grid(axis, y, format) {
  return ticksOf(axis).map((value) => [
    svg("line.grid", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
    svg("text.tick", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, format(value)),
  ]);
}

/** The last week is labelled, and every so many before it. */
function weekLabels(labels, x) {
  const every = Math.max(1, Math.ceil(labels.length / MAX_LABELS));
  return labels.map((label, n) => (labels.length - 1 - n) % every === 0 &&
    svg("text.tick", { x: x(n), y: HEIGHT - 8, "text-anchor": "middle" }, label));
}

/** Values with their positions, cut where there is none. */
function runs(values) {
  const found = [[]];
  values.forEach((value, n) => {
    if (value === null) found.push([]);
    else found.at(-1).push([n, value]);
  });
  return found;
}
