// Training runs: what was asked for, how far it is, and whether the result is better than what is searched.

import { call, callAll } from "./api.js";
import { intervalChart } from "./charts.js";
import { button, el, replace, visible } from "./dom.js";
import { ago, at, count, counted, duration, enumName, score, signed } from "./format.js";
import { bindKeys } from "./keyboard.js";
import { confirmed, loadInto, toast } from "./notices.js";
import { address } from "./router.js";
import { badge, heading, progress, table } from "./tables.js";

const POLL_MS = 3000;
const KINDS = { SUCCEEDED: "good", FAILED: "bad", RUNNING: "busy" };

/** Open the view: all runs, or one. */
export async function openTraining(root, params, signal) {
  const place = el("div");
  const runId = /^\d{1,18}$/.test(params.get("run") ?? "") ? params.get("run") : null;
  let timer = 0;
  signal.addEventListener("abort", () => clearTimeout(timer));
  const load = () => {
    clearTimeout(timer);
    return loadInto(place, signal, async () => {
      const runs = runId ? [(await call("TrainingService/GetTrainingRun", { runId }, signal)).run] : (await call("TrainingService/ListTrainingRuns", {}, signal)).runs;
      if (runs.some(isOpen)) timer = setTimeout(load, POLL_MS);
      if (runId) return report(runs[0], load);
      return overview(runs, await callAll("TrainingService/ListTrainingSchedules", {}, "schedules", signal));
    });
  };
  const back = runId && el("a.button.quiet", { href: address("training") }, "All runs");
  replace(root, heading(runId ? `Training run ${runId}` : "Training", back, button("Reload", load, { kind: "quiet", title: "Look again (r)" })), place);
  bindKeys("Here", [["r", "Look again", load]]);
  await load();
}

function overview(runs, schedules) {
  const number = (name) => ({ name, isNumber: true });
  const rows = runs.map((run) => [
    el("a", { href: address("training", { run: run.runId }) }, `Run ${run.runId}`),
    visible(run.encoder),
    stateOf(run),
    progressOf(run),
    run.loss === undefined ? "–" : run.loss.toFixed(4),
    gainOf(run),
    el("time", { datetime: run.createTime, title: at(run.createTime) }, ago(run.createTime)),
    visible(run.principalId),
  ]);
  return [
    rows.length
      ? table("Training runs", ["Run", "Encoder", "State", "Stage", number("Loss"), number("MRR@10"), "Queued", "By"], rows)
      : el("section.card.empty", {}, el("h2", {}, "No run yet"), el("p", {}, "Queue one, and a worker takes it:"),
        el("pre", {}, "duovec training start training/recipes/compact-code.toml --codebase mine --publish")),
    schedules.length > 0 &&
      el("section.card", {}, el("h2", {}, "Schedules"),
        table("Schedules", ["Schedule", "Encoder", "Queues a run after", "Codebases", "By"],
          schedules.map((one) => [`Schedule ${one.scheduleId}`, visible(one.encoder), `${count(one.minFeedbackCount)} examples of feedback`,
            one.spec.codebaseIds.join(", ") || "all", visible(one.principalId)]))),
  ];
}

function report(run, reload) {
  const { spec } = run;
  return [
    el(
      "section.card",
      { "aria-label": "The run" },
      el("div.heading", {}, el("h2", {}, visible(run.encoder)), stateOf(run)),
      run.error && el("p.warning", {}, visible(run.error), run.errorReason && el("span.soft.small", {}, ` ${run.errorReason}`)),
      el(
        "dl.facts",
        {},
        fact("Stage", progressOf(run)),
        fact("Loss", run.loss === undefined ? "–" : run.loss.toFixed(4)),
        fact("Speed", run.tokensPerSecond === undefined ? "–" : `${count(Math.round(run.tokensPerSecond))} tokens a second`),
        fact("Codebases", spec.codebaseIds.join(", ") || "all"),
        fact("Device", visible(spec.device || "auto")),
        fact("Precision", enumName(spec.precision, "TRAINING_PRECISION_").replace("unspecified", "the recipe's")),
        fact("Publishes", spec.publish ? "if it is better" : "no"),
        fact("Queued", [moment(run.createTime), ` by ${visible(run.principalId)}`]),
        run.startTime && fact("Started", [moment(run.startTime), run.attempt > 1 && `, attempt ${run.attempt}`, run.worker && `, ${visible(run.worker)}`]),
        run.finishTime && fact("Ended", [moment(run.finishTime), run.startTime && `, after ${duration((Date.parse(run.finishTime) - Date.parse(run.startTime)) / 1000)}`]),
        run.space && fact("Space", el("code", { title: run.space }, run.space.slice(0, 12))),
      ),
      isOpen(run) && !run.cancelRequested && el("p.actions", {}, button("Cancel the run", () => cancel(run, reload), { kind: "danger" })),
    ),
    verdict(run.metrics),
    el("section.card", {}, el("h2", {}, "Recipe"), el("pre", { tabindex: "0" }, visible(spec.recipe)), lineage(run.lineage)),
  ];
}

async function cancel(run, reload) {
  if (!(await confirmed(`Cancel run ${run.runId}?`, "A worker that has it stops within seconds. It cannot be taken up again.", "Cancel the run"))) return;
  try {
    await call("TrainingService/CancelTrainingRun", { runId: run.runId });
    toast(`Run ${run.runId} is cancelled.`);
  } catch (error) {
    if (!("reason" in error)) throw error;
    toast(`Not cancelled: ${error.message}`, "bad");
  }
  await reload();
}

/** What the evaluation found: `Verdict.as_dict` of training/publication/gate.py. */
function verdict(found) {
  if (!found?.comparisons?.length) return null;
  const conditions = [...new Set(found.comparisons.map((one) => one.condition))];
  const systems = Object.keys(found.comparisons[0].mrr);
  const number = (name) => ({ name, isNumber: true });
  return el(
    "section.card",
    { "aria-label": "Evaluation" },
    el("div.heading", {}, el("h2", {}, "Evaluation on packages held out"), badge(found.better ? "better" : "not better", found.better ? "good" : "bad")),
    found.against && el("p.soft", {}, "Against space ", el("code", { title: String(found.against) }, String(found.against).slice(0, 12)), "."),
    (found.faults ?? []).map((fault) => el("p.warning", {}, visible(String(fault)))),
    el(
      "div.charts",
      {},
      conditions.map((condition) =>
        intervalChart(
          `Gain in MRR@10, names ${condition === "named" ? "as they are" : condition}`,
          found.comparisons.filter((one) => one.condition === condition).map((one) => ({
            name: one.slice,
            note: `${one.queries} queries`,
            low: one.low,
            value: one.gain,
            high: one.high,
            style: one.low > 0 ? "good" : one.high < 0 ? "bad" : "one",
          })),
          { format: signed, zero: 0, zeroName: "live" },
        ),
      ),
    ),
    el("details", {}, el("summary", {}, "The figures"),
      table("MRR@10 of every system", ["Names", "Slice", number("Queries"), ...systems.map((name) => number(name)), number("Gain"), number("95 % interval"), number("May lose")],
        found.comparisons.map((one) => [one.condition, visible(one.slice), count(one.queries), ...systems.map((name) => score(one.mrr[name])),
          signed(one.gain), `${signed(one.low)} to ${signed(one.high)}`, one.judged ? score(one.tolerance) : "–"]))),
  );
}

function lineage(found) {
  const known = Object.entries(found ?? {});
  if (!known.length) return null;
  return el("dl.facts", {}, known.map(([name, value]) => fact(visible(name), el("code.wrap", {}, visible(typeof value === "string" ? value : JSON.stringify(value))))));
}

const isOpen = ({ state }) => state === "TRAINING_STATE_QUEUED" || state === "TRAINING_STATE_RUNNING";

function stateOf(run) {
  const name = enumName(run.state, "TRAINING_STATE_");
  return badge(run.cancelRequested && isOpen(run) ? "about to be cancelled" : name, KINDS[name.toUpperCase()] ?? "");
}

function progressOf(run) {
  const stage = enumName(run.stage, "TRAINING_STAGE_");
  if (stage === "unspecified") return "–";
  const [done, total] = [Number(run.step), Number(run.stepCount)];
  return total > 0 ? [`${stage} `, progress(`Steps of ${stage} of run ${run.runId}`, done, total)] : `${stage}${done ? `, ${counted(done, "step")}` : ""}`;
}

/** MRR@10 of the candidate over all queries, and how much that is more. */
function gainOf({ metrics }) {
  const whole = metrics?.comparisons?.find((one) => one.slice === "all" && one.condition === (metrics.limits?.names ?? one.condition));
  return whole ? [score(whole.mrr.candidate), el("span.soft", {}, ` ${signed(whole.gain)}`)] : "–";
}

function fact(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}

function moment(time) {
  return el("time", { datetime: time, title: at(time) }, ago(time));
}
