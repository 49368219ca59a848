// How good search was, week by week, and how much of what exact search finds the indexes find.

import { call, callAll } from "./api.js";
import { barChart, figure, lineChart } from "./charts.js";
import { button, el, freshId, replace, svg, visible } from "./dom.js";
import { ago, count, counted, percent } from "./format.js";
import { bindKeys } from "./keyboard.js";
import { loadInto } from "./notices.js";
import { rename } from "./router.js";
import { listCodebases, me } from "./session.js";
import { badge, heading, table } from "./tables.js";

const WEEKS = [4, 12, 26, 52, 104];
const WEEK_MS = 7 * 86_400_000;
const RECALL_SERIES = [{ name: "mean", style: "one" }, { name: "worst query", style: "ink" }, { name: "target", style: "bad" }];
// A chart of fewer looks like another one.
const LEAST_WEEKS = 6;

/** Open the view. */
export async function openQuality(root, params, signal) {
  const codebases = await listCodebases(signal);
  const which = select("Codebase", [["", me().admin ? "all, and all together" : "all that you own"],
    ...codebases.map(({ codebaseId }) => [codebaseId, codebaseId])], params.get("codebase") ?? "");
  const weeks = select("Weeks", WEEKS.map((n) => [String(n), String(n)]), params.get("weeks") ?? "12");
  const searches = el("section", { "aria-label": "Quality by week" });
  const recall = el("section", { "aria-label": "Recall" });
  const load = () => {
    const chosen = { codebase: which.field.value, weeks: weeks.field.value };
    rename("quality", Object.fromEntries(Object.entries(chosen).filter(([name, value]) => value && (name !== "weeks" || value !== "12"))));
    return Promise.all([
      loadInto(searches, signal, async () => {
        const request = { codebaseId: chosen.codebase, weekCount: Number(chosen.weeks) };
        return weekly(await callAll("QualityService/ListQuality", request, "rows", signal), Number(chosen.weeks));
      }),
      me().admin && loadInto(recall, signal, async () => {
        const [status, spaces] = await Promise.all([call("StatusService/GetStatus", {}, signal), call("SpaceService/ListSpaces", {}, signal)]);
        return recallOf(status, spaces.spaces);
      }),
    ]);
  };
  which.field.addEventListener("change", load);
  weeks.field.addEventListener("change", load);
  replace(root, heading("Quality", which.element, weeks.element, button("Reload", load, { kind: "quiet", title: "Look again (r)" })), searches, recall);
  bindKeys("Here", [["r", "Look again", load]]);
  await load();
}

function select(label, options, value) {
  const id = freshId("select");
  const field = el("select", { id }, options.map(([key, name]) => el("option", { value: key, selected: key === value }, name)));
  return { field, element: el("span.inline", {}, el("label", { for: id }, label), field) };
}

function weekly(rows, weekCount) {
  if (!rows.length) {
    return el("p.card.empty", {}, `No search was logged in the last ${weekCount} weeks. Searches are, unless the service is set to keep no log; say of hits that they were of use, and this shows how good search is.`);
  }
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.codebaseId} ${row.space}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].map(section);
}

function section(rows) {
  const { codebaseId, space } = rows[0];
  const total = (name) => rows.reduce((sum, row) => sum + Number(row[name]), 0);
  const byWeek = new Map(rows.map((row) => [weekOf(row), row]));
  const last = Math.max(...byWeek.keys());
  const starts = weeksBetween(Math.min(last - (LEAST_WEEKS - 1) * WEEK_MS, ...byWeek.keys()), last);
  const labels = starts.map((start) => new Date(start).toISOString().slice(5, 10));
  const of = (figureOf) => starts.map((start) => {
    const row = byWeek.get(start);
    const value = row === undefined ? null : figureOf(row);
    return value === undefined ? null : value;
  });
  const judged = { name: "with feedback", style: "one", values: of((row) => Number(row.judgedCount)) };
  const others = { name: "without", style: "rest", values: of((row) => Number(row.searchCount) - Number(row.judgedCount)) };
  const shares = { format: (value) => percent(value), leastTop: 0.2 };
  return el(
    "section.card",
    {},
    el("div.heading", {}, el("h2", {}, codebaseId || "All codebases together"),
      el("p.soft", {}, counted(total("searchCount"), "search", "searches"), ", ", count(total("judgedCount")), " with feedback, ",
        count(total("zeroHitCount")), " without a hit · space ", el("code", { title: space }, space.slice(0, 12)))),
    el(
      "div.charts",
      {},
      barChart("Searches", labels, [judged, others], { format: count }),
      lineChart("Click-through", labels, [
        { name: "at 1", style: "one", values: of((row) => row.clickThroughAt1) },
        { name: "at 3", style: "two", values: of((row) => row.clickThroughAt3) },
        { name: "at 10", style: "three", values: of((row) => row.clickThroughAt10) },
      ], shares),
      rows.some((row) => row.mrr !== undefined) &&
        lineChart("Rank of what was of use", labels, [
          { name: "MRR", style: "one", values: of((row) => row.mrr) },
          { name: "nDCG@10", style: "two", values: of((row) => row.ndcgAt10) },
        ], { format: (value) => value.toFixed(1), leastTop: 1 }),
      rows.some((row) => row.queryDrift !== undefined) &&
        lineChart("Query drift", labels, [{ name: "drift", style: "three", values: of((row) => row.queryDrift) }],
          { format: (value) => value.toFixed(2), leastTop: 0.1 }),
    ),
    el("details", {}, el("summary", {}, "The figures"), figures(rows)),
  );
}

function figures(rows) {
  const number = (name) => ({ name, isNumber: true });
  const share = (value) => (value === undefined ? "–" : percent(value));
  const plain = (value) => (value === undefined ? "–" : value.toFixed(3));
  return table(
    "Quality by week",
    ["Week of", ...["Searches", "No hit", "With feedback", "CTR@1", "CTR@3", "CTR@10", "MRR", "nDCG@10", "Drift"].map(number)],
    rows.map((row) => [
      row.weekStart.slice(0, 10), count(row.searchCount), count(row.zeroHitCount), count(row.judgedCount), share(row.clickThroughAt1),
      share(row.clickThroughAt3), share(row.clickThroughAt10), plain(row.mrr), plain(row.ndcgAt10), plain(row.queryDrift),
    ]),
  );
}

function recallOf(status, spaces) {
  const checks = status.recallChecks;
  const verified = spaces.filter(({ verification }) => verification?.meanRecall !== undefined);
  const bars = [
    ...checks.map((check) => ({
      name: check.codebaseId,
      mean: check.meanRecall,
      least: check.minimumRecall,
      target: check.targetRecall,
      note: `${check.method}, ${check.ef} candidates, ${counted(check.queryCount, "query", "queries")}, ${counted(check.vectorCount, "vector")}, ${ago(check.checkTime)}`,
      state: check.searchedExactly ? "compared whole" : check.raised ? "searched further" : "",
    })),
    ...verified.map(({ fingerprint, verification }) => ({
      name: `space ${fingerprint.slice(0, 12)}`,
      mean: verification.meanRecall,
      least: verification.minRecall ?? 0,
      target: null,
      note: `when it was verified, ${ago(verification.time)}`,
      state: "",
    })),
  ];
  return el(
    "section.card",
    {},
    el("h2", {}, "Recall of the indexes"),
    el("p.soft", {}, "How many of the best ten chunks, as exact search finds them, the index finds: the mean of a check's queries, and its worst."),
    bars.length
      ? [figure("recall@10", RECALL_SERIES, recallChart(bars), "narrow"),
        table("Recall", ["Of", { name: "Mean", isNumber: true }, { name: "Worst query", isNumber: true }, { name: "Target", isNumber: true }, "How", ""],
          bars.map((bar) => [visible(bar.name), percent(bar.mean, 1), percent(bar.least, 1), bar.target === null ? "–" : percent(bar.target, 1), visible(bar.note), bar.state && badge(bar.state, "busy")]))]
      : el("p", {}, "No codebase is large enough for an index: every search compares every chunk, and its recall is 1."),
  );
}

function recallChart(bars) {
  const [left, width, row] = innerWidth < 700 ? [120, 360, 30] : [170, 640, 30];
  const height = bars.length * row + 30;
  const x = (value) => left + value * (width - left - 20);
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Recall at ten of each index" },
    [0, 0.25, 0.5, 0.75, 1].map((value) => [
      svg("line.grid", { x1: x(value), x2: x(value), y1: 4, y2: height - 24 }),
      svg("text.tick", { x: x(value), y: height - 8, "text-anchor": "middle" }, percent(value)),
    ]),
    bars.map((bar, n) => {
      const y = 8 + n * row;
      return svg(
        "g",
        {},
        svg("title", {}, `${bar.name}: mean ${percent(bar.mean, 1)}, worst ${percent(bar.least, 1)}; ${bar.note}`),
        svg("text.row-name", { x: left - 10, y: y + 14, "text-anchor": "end" }, bar.name.slice(0, width < 500 ? 16 : 24)),
        svg("rect.ground", { x: x(0), y, width: x(1) - x(0), height: 18, rx: 3 }),
        svg("rect.bar.one", { x: x(0), y, width: Math.max(0, x(bar.mean) - x(0)), height: 18, rx: 3 }),
        svg("line.mark.ink", { x1: x(bar.least), x2: x(bar.least), y1: y, y2: y + 18 }),
        bar.target !== null && svg("line.mark.bad", { x1: x(bar.target), x2: x(bar.target), y1: y - 3, y2: y + 21 }),
      );
    }),
  );
}

function weekOf(row) {
  return Date.parse(row.weekStart);
}

function weeksBetween(first, last) {
  return Array.from({ length: Math.round((last - first) / WEEK_MS) + 1 }, (_, n) => first + n * WEEK_MS);
}
